"""Tables that were changed behind our back: named with the consequence, and made again."""

from collections.abc import Iterator

import pytest

from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.checks.schema import read_options
from iot_pipeline.errors import SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import schema_matches
from iot_pipeline.stages.schema import check_schema
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services


@pytest.fixture
def own(services: Services, tmp_path) -> Iterator[Pipeline]:
    """Tables of this test's own: it spoils them."""
    env = services.environment(IOT_DATA_DIR=str(tmp_path / "data"))
    settings = Settings.from_env(env)
    with open_connections(settings) as connections:
        connections.set_up()
        yield Pipeline(settings, env, connections)


def alter(own: Pipeline, statement: str) -> None:
    cql = statement.replace("{ks}", own.settings.keyspace)
    own.connections.cassandra.execute(cql, doing="changing a table", timeout_seconds=60)


def differences(connections: Connections) -> list[str]:
    report = check_schema(connections.tables, connections.settings)
    return [str(item) for item in report.differences]


def test_tables_have_the_options_their_files_say(own: Pipeline) -> None:
    tables = own.connections.tables
    for table, expected in read_options(tables.migrations).items():
        assert {name: tables.options(table)[name] for name in expected} == expected
    assert differences(own.connections) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "ALTER TABLE {ks}.sensor_data WITH gc_grace_seconds = 60",
            "sensor_data: gc_grace_seconds is 60, expected 864000: a replica that was away",
        ),
        (
            "ALTER TABLE {ks}.sensor_data WITH compaction = "
            "{'class': 'SizeTieredCompactionStrategy'}",
            "sensor_data: compaction is SizeTieredCompactionStrategy, expected "
            "TimeWindowCompactionStrategy: rows that are over their retention",
        ),
        (
            "ALTER TABLE {ks}.ingest_ledger WITH speculative_retry = '99p'",
            "ingest_ledger: speculative_retry is 99p, expected 500ms: while one node of",
        ),
        (
            "ALTER TABLE {ks}.daily_readings ADD remark text",
            "daily_readings: column remark is of no declared quantity, expected one that is "
            "declared: what is in it stays, and nothing here reads or writes it any more",
        ),
    ],
)
def test_what_is_harmless_to_readings_is_a_note(own: Pipeline, change: str, said: str) -> None:
    alter(own, change)
    report = own.connections.set_up()
    assert report.fatal == []
    assert any(said in sentence for sentence in report.sentences()), report.sentences()
    verdict = schema_matches.judge(report.differences)
    assert verdict.passed
    assert said in verdict.sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "ALTER TABLE {ks}.ingest_ledger WITH default_time_to_live = 45",
            "ingest_ledger: default_time_to_live is 45, expected 0: rows die 45 s after",
        ),
        (
            "ALTER TABLE {ks}.sensor_data DROP humidity",
            "sensor_data.humidity is missing, expected regular double: it was dropped: what Kafka "
            "still has cannot be written into it again",
        ),
    ],
)
def test_what_loses_readings_is_red_and_refused(own: Pipeline, change: str, said: str) -> None:
    alter(own, change)
    with pytest.raises(SchemaMismatchError) as caught:
        own.connections.set_up()
    assert said in str(caught.value)
    report = check_schema(own.connections.tables, own.settings)
    assert not schema_matches.judge(report.differences).passed


def test_a_dropped_table_is_made_again_and_what_that_means_is_said(own: Pipeline) -> None:
    produce(own.brokers, own.topic, fleet("d", 2, 20))
    own.drain()
    alter(own, "DROP TABLE {ks}.sensor_data")
    assert any("sensor_data is missing" in said for said in differences(own.connections))
    (made,) = own.connections.set_up().created
    assert made.startswith("table sensor_data again, empty: it was dropped. `iot audit --all` ")
    assert own.connections.set_up().created == []
    assert differences(own.connections) == []
    assert own.iot("audit", "--all", "--json", exit_code=1)["lost"] == 20


def test_no_replay_is_advised_or_done_into_a_table_that_forgets(own: Pipeline) -> None:
    produce(own.brokers, own.topic, fleet("d", 1, 5), partition=0)
    own.drain()
    alter(own, "TRUNCATE {ks}.sensor_data")
    said = own.iot("audit", "--all", exit_code=1)
    assert "`iot replay --offsets 0:" in said
    alter(own, "ALTER TABLE {ks}.sensor_data WITH default_time_to_live = 45")
    said = own.iot("audit", "--all", exit_code=1)
    assert "iot replay" not in said
    assert "-> `iot setup`" in said
    assert "forgets rows 45 s after they were written (default_time_to_live)" in said
    said = own.iot("replay", "--offsets", "0:0-5", exit_code=1)
    assert "a replay would write rows that die again. `iot setup` says what to alter" in said
    # Rows that say themselves how long they live are not the table's to forget.
    kept = Pipeline(own.settings, {**own.env, "IOT_RETENTION_DAYS": "30"}, own.connections)
    assert "`iot replay --offsets 0:" in kept.iot("audit", "--all", exit_code=1)


def test_nothing_is_drained_into_a_table_that_forgets(own: Pipeline) -> None:
    produce(own.brokers, own.topic, fleet("d", 1, 5), partition=0)
    alter(own, "ALTER TABLE {ks}.sensor_data WITH default_time_to_live = 45")
    for command in (["drain"], ["drain", "--follow", "--seconds", "5"]):
        said = own.iot(*command, exit_code=1)
        assert "forgets rows 45 s after they were written (default_time_to_live)" in said
        assert "Nothing was written. `iot setup` says what to alter" in said
    assert own.count_rows("d", 1) == 0
    kept = Pipeline(own.settings, {**own.env, "IOT_RETENTION_DAYS": "30"}, own.connections)
    kept.iot("drain")
    assert own.count_rows("d", 1) == 5
