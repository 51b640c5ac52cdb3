"""What the `.cql` files say of tables, and whose keyspace it is."""

import pytest

from iot_pipeline.clients.schema_store import migration_files
from iot_pipeline.core.checks.keyspaces import check_owner
from iot_pipeline.core.checks.schema import (
    choose_migrations,
    compare_table,
    read_declared,
    read_migrations,
    read_tables,
)
from iot_pipeline.core.rollups.declared_columns import declared_columns
from iot_pipeline.errors import ConfigurationError, SchemaMismatchError
from iot_pipeline_tests.core.checks.shipped import COLUMNS, MIGRATIONS
from iot_pipeline_tests.core.reading.air import AIR

AIR_COLUMNS = {"co2": ("double", "regular")}


def tables_of(*statements: str) -> dict[str, object]:
    files = {f"{n:03d}_some.cql": text for n, text in enumerate(statements, start=1)}
    return dict(read_tables(read_migrations(files, COLUMNS)))


def test_columns_have_their_types_and_kinds() -> None:
    found = tables_of(
        """-- A comment; with (a, bracket.
        CREATE TABLE IF NOT EXISTS ${keyspace}.many (
            a text,
            b date,
            c timestamp,
            kept frozen<tuple<int, frozen<map<date, bigint>>>>,
            once bigint STATIC,
            PRIMARY KEY ((a, b), c)
        ) WITH CLUSTERING ORDER BY (c DESC)
          AND compaction = {'class': 'TimeWindowCompactionStrategy', 'unit': 'DAYS'};
        CREATE TABLE ${keyspace}.one (a int, b text, PRIMARY KEY (a, b))
        WITH CLUSTERING ORDER BY (b DESC);
        CREATE TABLE ${keyspace}.own (a int PRIMARY KEY, b text)""",
        "ALTER TABLE ${keyspace}.own ADD c double;",
    )
    assert found == {
        "many": {
            "a": ("text", "partition_key"),
            "b": ("date", "partition_key"),
            "c": ("timestamp", "clustering"),
            "kept": ("frozen<tuple<int, frozen<map<date, bigint>>>>", "regular"),
            "once": ("bigint", "static"),
        },
        "one": {"a": ("int", "partition_key"), "b": ("text", "clustering")},
        "own": {
            "a": ("int", "partition_key"),
            "b": ("text", "regular"),
            "c": ("double", "regular"),
        },
    }


def test_a_statement_that_is_not_understood_is_an_error_and_not_left_out() -> None:
    with pytest.raises(SchemaMismatchError, match=r"001_some\.cql: expected CREATE TABLE"):
        tables_of("DROP TABLE ${keyspace}.many;")


def test_the_shipped_files_make_the_tables_that_clients_name() -> None:
    tables = read_tables(MIGRATIONS)
    assert tables["sensor_data"]["timestamp"] == ("timestamp", "clustering")
    assert tables["devices_by_day"] == {
        "day": ("date", "partition_key"),
        "bucket": ("int", "partition_key"),
        "device_id": ("text", "clustering"),
    }
    assert tables["ingest_ledger"]["next_offset"] == ("bigint", "static")
    for name, columns in tables.items():
        kinds = {kind for _, kind in columns.values()}
        # Of a topic there is one limit, of a fingerprint one declaration.
        assert "partition_key" in kinds
        assert "clustering" in kinds or name in ("throttles", "readings_declared")


def test_a_column_of_another_type_or_place_is_named_and_fatal() -> None:
    expected = {"a": ("int", "partition_key"), "b": ("text", "regular")}
    assert compare_table("ks", "t", expected, expected) == []
    (difference,) = compare_table("ks", "t", expected, {**expected, "b": ("text", "clustering")})
    assert "column ks.t.b is clustering text, expected regular text" in str(difference)
    assert difference.is_fatal
    (missing,) = compare_table("ks", "t", expected, {})
    assert "table ks.t is missing" in str(missing)


def test_tables_have_the_columns_of_what_is_declared() -> None:
    migrations = read_migrations(migration_files(), declared_columns(AIR))
    tables = read_tables(migrations)
    assert list(tables["sensor_data"])[3:] == ["co2", "pm25", "noise"]
    assert list(tables["daily_readings"])[6:8] == ["co2_count", "co2_min"]
    assert tables["hourly_readings"]["noise_count"] == ("bigint", "regular")
    assert read_declared(migrations)["sensor_data"] == dict.fromkeys(
        ("co2", "pm25", "noise"), ("double", "regular")
    )
    assert set(read_declared(migrations)) == {"sensor_data", "hourly_readings", "daily_readings"}
    # The files are the same ones, whatever is declared.
    assert [m.sha256 for m in migrations] == [m.sha256 for m in MIGRATIONS]


def test_a_file_that_changed_after_it_was_applied_is_refused() -> None:
    applied = {m.version: (m.name, m.sha256) for m in MIGRATIONS}
    assert choose_migrations(MIGRATIONS, applied) == []
    for version in (1, 2):
        with pytest.raises(SchemaMismatchError, match="it changed after it was applied"):
            choose_migrations(MIGRATIONS, applied | {version: ("some", "other")})


def test_what_is_declared_and_the_table_has_otherwise_is_said_with_the_ways_on() -> None:
    found = read_tables(MIGRATIONS)["sensor_data"]
    declared = {**AIR_COLUMNS, "temperature": ("float", "regular")}
    keys = {name: of for name, of in found.items() if of[1] != "regular"}
    former, missing, changed = compare_table("ks", "sensor_data", keys | declared, found, declared)
    assert (former.is_fatal, missing.is_fatal, changed.is_fatal) == (False, True, True)
    assert "table ks.sensor_data: column humidity is of no declared quantity" in str(former)
    assert "stays, and nothing here reads or writes it any more" in str(former)
    assert missing.cql == ("ALTER TABLE ks.sensor_data ADD co2 double",)
    assert "`iot setup` adds it" in str(missing)
    assert changed.cql == ()
    for way in ("with the type that", "under another name", "IOT_KEYSPACE"):
        assert way in str(changed)


def test_a_keyspace_belongs_to_one_topic() -> None:
    check_owner("ks", None, "a")
    check_owner("ks", "a", "a")
    with pytest.raises(ConfigurationError, match=r"ks belongs to topic a, not to b.*IOT_KEYSPACE"):
        check_owner("ks", "a", "b")
