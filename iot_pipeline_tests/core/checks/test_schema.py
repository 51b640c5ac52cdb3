"""What the `.cql` files say of tables, and whose keyspace it is."""

import pytest

from iot_pipeline.clients.schema_store import migration_files
from iot_pipeline.core.checks.schema import (
    check_owner,
    compare_table,
    read_migrations,
    read_tables,
)
from iot_pipeline.errors import ConfigurationError, SchemaMismatchError


def tables_of(*statements: str) -> dict[str, object]:
    files = {f"{n:03d}_some.cql": text for n, text in enumerate(statements, start=1)}
    return dict(read_tables(read_migrations(files)))


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
    tables = read_tables(read_migrations(migration_files()))
    assert tables["sensor_data"]["timestamp"] == ("timestamp", "clustering")
    assert tables["devices_by_day"] == {
        "day": ("date", "partition_key"),
        "bucket": ("int", "partition_key"),
        "device_id": ("text", "clustering"),
    }
    assert tables["ingest_ledger"]["next_offset"] == ("bigint", "static")
    for columns in tables.values():
        assert {"partition_key", "clustering"} <= {kind for _, kind in columns.values()}


def test_a_column_of_another_type_or_place_is_named_and_fatal() -> None:
    expected = {"a": ("int", "partition_key"), "b": ("text", "regular")}
    assert compare_table("ks", "t", expected, expected) == []
    (difference,) = compare_table("ks", "t", expected, {**expected, "b": ("text", "clustering")})
    assert "column ks.t.b is clustering text, expected regular text" in str(difference)
    assert difference.is_fatal
    (missing,) = compare_table("ks", "t", expected, {})
    assert "table ks.t is missing" in str(missing)


def test_a_keyspace_belongs_to_one_topic() -> None:
    check_owner("ks", None, "a")
    check_owner("ks", "a", "a")
    with pytest.raises(ConfigurationError, match=r"ks belongs to topic a, not to b.*IOT_KEYSPACE"):
        check_owner("ks", "a", "b")
