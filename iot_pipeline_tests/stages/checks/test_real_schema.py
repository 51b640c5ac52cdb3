"""`iot setup` on real servers: made once, by whoever comes first, and never altered silently."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from iot_pipeline.cli.setup import script
from iot_pipeline.clients.schema_store import CassandraSchema, KafkaTopics, migration_files
from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.checks.cql_script import MIGRATIONS
from iot_pipeline.core.checks.schema import read_tables
from iot_pipeline.core.checks.topics import TopicPlan
from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.spans import whole_day
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.rollups.statistics import summarize
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.errors import ConfigurationError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.planning import make_plan
from iot_pipeline.stages.requests import wait_for
from iot_pipeline.stages.schema import SchemaReport, check_schema, setup_schema, wait_for_topic
from iot_pipeline_tests.core.checks.shipped import MIGRATIONS as SHIPPED
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.servers import Services, fresh_topic

pytestmark = pytest.mark.services
STAMPED = {"message.timestamp.type": "LogAppendTime"}


@pytest.fixture
def fresh(services: Services) -> Settings:
    """A topic and a keyspace that do not exist."""
    return Settings.from_env(services.environment())


def applied(connections: Connections) -> dict[int, tuple[str, str]]:
    return CassandraSchema(connections.cassandra).applied_migrations()


def test_two_setups_at_once_make_everything_once(fresh: Settings) -> None:
    reports: list[SchemaReport] = []
    failures: list[BaseException] = []

    def one() -> None:
        with open_connections(fresh) as connections:
            try:
                reports.append(connections.set_up())
            except BaseException as exc:
                failures.append(exc)
                raise

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    assert len(reports) == 2
    made = [name for report in reports for name in report.created if "keyspace" not in name]
    assert sorted(made) == sorted(set(made)), "each topic and migration by one of them"
    with open_connections(fresh) as connections:
        again = connections.set_up()
        assert again.created == []
        assert again.fatal == []
        assert [m.version for m in SHIPPED] == sorted(applied(connections))
        info = connections.log.describe(fresh.topic)
        assert info.config["message.timestamp.type"] == "LogAppendTime"
        assert info.config["retention.ms"] == str(168 * 3_600_000)
        dlq = connections.log.describe(fresh.dead_letter_topic)
        assert (dlq.config["retention.ms"], dlq.config["max.message.bytes"]) == ("-1", "4194304")


def test_a_table_that_another_setup_makes_just_now_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_connections(settings) as connections:
        connections.set_up()
        ask, refused = connections.cassandra.execute, [0]

        def not_yet(cql: str, *args: Any, **how: Any) -> list[Any]:
            if "FROM" in cql and MIGRATIONS in cql and refused[0] < 3:
                refused[0] += 1
                raise SchemaMismatchError(f"table {MIGRATIONS} does not exist")
            return ask(cql, *args, **how)

        monkeypatch.setattr(connections.cassandra, "execute", not_yet)
        tables = CassandraSchema(connections.cassandra)
        assert tables.owner() is not None
        assert refused == [3]
        refused[0] = 0
        monkeypatch.setattr(tables, "columns", lambda table: {})
        with pytest.raises(SchemaMismatchError):
            tables.applied_migrations()


def test_a_migration_that_changed_after_it_was_applied_is_refused(
    settings: Settings,
) -> None:
    with open_connections(settings) as connections:
        connections.set_up()
        files = migration_files()
        name = min(files)
        changed = {**files, name: files[name] + "\n-- changed\n"}
        schema = CassandraSchema(connections.cassandra, changed)
        with pytest.raises(SchemaMismatchError, match=f"{name}: it changed after it was applied"):
            setup_schema(KafkaTopics(settings), connections.log, schema, settings)
        # The lock was given back: the next one does not wait two minutes.
        assert connections.set_up().created == []


def test_a_new_migration_is_applied_once_and_remembered(fresh: Settings) -> None:
    with open_connections(fresh) as connections:
        connections.set_up()
        number = max(applied(connections)) + 1
        name = f"{number:03d}_more.cql"
        files = {
            **migration_files(),
            name: "-- one more\nCREATE TABLE ${keyspace}.more (a int PRIMARY KEY);",
        }
        topics, schema = KafkaTopics(fresh), CassandraSchema(connections.cassandra, files)
        report = setup_schema(topics, connections.log, schema, fresh)
        assert report.created == [f"migration {name}"]
        assert setup_schema(topics, connections.log, schema, fresh).created == []
        with pytest.raises(SchemaMismatchError, match=f"{name}, which this version does not know"):
            connections.set_up()


def test_a_keyspace_of_another_topic_is_refused_before_anything_is_made(fresh: Settings) -> None:
    other = fresh.model_copy(update={"topic": fresh_topic()})
    with open_connections(fresh) as connections:
        connections.set_up()
    with open_connections(other) as connections:
        refused = f"keyspace {fresh.keyspace} belongs to topic {fresh.topic}, not to {other.topic}"
        with pytest.raises(ConfigurationError, match=refused):
            connections.set_up()
        with pytest.raises(SchemaMismatchError):
            connections.log.describe(other.topic)
        # Made by hand it is refused too, before its first checkpoint is.
        assert KafkaTopics(other).create(TopicPlan(other.topic, 1, 1, STAMPED))
        wait_for_topic(connections.log, other.topic)
        with pytest.raises(ConfigurationError, match=refused):
            make_plan(connections.log, connections.ledger, other.topic)
        assert connections.ledger.read_checkpoints(other.topic, [0]) == {}
    with open_connections(fresh) as connections:
        assert connections.set_up().created == []


def test_the_tables_there_are_have_the_columns_their_files_say(settings: Settings) -> None:
    with open_connections(settings) as connections:
        connections.set_up()
        for table, expected in read_tables(connections.tables.migrations).items():
            assert connections.tables.columns(table) == expected


def test_differences_of_an_existing_topic_are_named_and_left_alone(settings: Settings) -> None:
    plan = TopicPlan(
        settings.topic, 2, 1, {"retention.ms": "1000", "message.timestamp.type": "LogAppendTime"}
    )
    assert KafkaTopics(settings).create(plan)
    with open_connections(settings) as connections:
        report = connections.set_up()
        said = report.sentences()
        assert any("note: topic" in text and "partitions is 2, expected 4" in text for text in said)
        (short,) = [text for text in said if "retention.ms is 1000, expected 604800000" in text]
        assert short.startswith("WARNING: ")
        assert "what was not ingested by then is lost" in short
        assert any(f"--topic {settings.topic} --add-config retention.ms=" in text for text in said)
        info = connections.log.describe(settings.topic)
        assert (info.partitions, info.config["retention.ms"]) == (2, "1000")


def test_what_retention_by_size_is_measured_by(settings: Settings) -> None:
    plan = TopicPlan(settings.topic, 4, 1, {**STAMPED, "retention.bytes": "1000000000"})
    assert KafkaTopics(settings).create(plan)
    with open_connections(settings) as connections:
        # Not by a start: 1,000 readings in a moment would fill it in minutes.
        produce(settings.bootstrap_servers, settings.topic, fleet("d", 1, 1_000), partition=2)
        (said,) = [text for text in connections.set_up().sentences() if "retention.bytes" in text]
        assert said.startswith("note: ")
        assert "not known: ten minutes of readings show it" in said
        record_bytes = connections.log.bytes_per_record(settings.topic, 2, 999)
        # As they lie in the log: batches are compressed.
        assert record_bytes is not None
        assert 2 < record_bytes < 110
        assert connections.log.count_brokers() == 1


def test_a_topic_stamped_by_producers_is_refused_unless_that_is_accepted(
    settings: Settings,
) -> None:
    plan = TopicPlan(settings.topic, 4, 1, {"message.timestamp.type": "CreateTime"})
    assert KafkaTopics(settings).create(plan)
    refused = pytest.raises(SchemaMismatchError, match="wrong clock pins a row")
    with open_connections(settings) as connections, refused:
        connections.set_up()
    accepting = settings.model_copy(update={"accept_producer_timestamps": True})
    with open_connections(accepting) as connections:
        assert connections.set_up().fatal == []


def test_a_table_made_by_something_else_is_refused_by_its_columns(fresh: Settings) -> None:
    with open_connections(fresh) as connections:
        schema = CassandraSchema(connections.cassandra)
        schema.create_keyspace({schema.local_datacenter(): 1})
        connections.cassandra.execute(
            f"CREATE TABLE {fresh.keyspace}.sensor_data (device_id text, timestamp timestamp, "
            "temperature float, humidity double, PRIMARY KEY (device_id, timestamp))",
            doing="making the original script's table",
            timeout_seconds=60,
        )
        with pytest.raises(SchemaMismatchError) as caught:
            connections.set_up()
        for column in ("sensor_data.day is missing", "sensor_data.temperature is regular float"):
            assert column in str(caught.value)


def statements_of(settings: Settings) -> list[str]:
    """What `iot setup --print` prints, by statements."""
    text = "\n".join(line for line in script(settings) if not line.startswith("--"))
    return [part.strip() for part in text.split(";\n") if part.strip(" \n;")]


def test_a_keyspace_made_by_pasting_the_printed_cql_is_as_expected_and_nothing_is_altered(
    fresh: Settings,
) -> None:
    external = fresh.model_copy(update={"schema": "external"})
    with open_connections(external) as connections:
        with pytest.raises(SchemaMismatchError, match="CREATE KEYSPACE IF NOT EXISTS"):
            connections.set_up()
        for statement in statements_of(external):
            connections.cassandra.execute(
                statement.rstrip(";"), doing=f"pasting {statement[:60]}", timeout_seconds=60
            )
        report = connections.set_up()
        assert (report.differences, report.fatal) == ([], [])
        assert {name.split()[0] for name in report.created} == {"topic"}
        # Us, on the same keyspace, when it is ours to make: everything is there, and noted.
        with open_connections(fresh) as ours:
            assert ours.set_up().created == []
        connections.cassandra.execute(
            f"ALTER TABLE {fresh.keyspace}.hourly_readings DROP humidity_mean",
            doing="taking a column away",
            timeout_seconds=60,
        )
        with pytest.raises(SchemaMismatchError) as caught:
            connections.set_up()
        adding = f"ALTER TABLE {fresh.keyspace}.hourly_readings ADD humidity_mean double"
        assert f"In CQL: {adding};" in str(caught.value)
        connections.cassandra.execute(adding, doing="adding it again", timeout_seconds=60)
        assert connections.set_up().fatal == []


def test_setup_says_that_acknowledged_writes_are_durable_here(settings: Settings) -> None:
    with open_connections(settings) as connections:
        report = connections.set_up()
    assert report.is_durable
    assert "(group)" in report.durability
    assert any("has one replica" in note for note in report.notes)
    one_broker = [risk for risk in report.topic_risks if "one broker" in risk.cost]
    assert len(one_broker) == 2
    assert not any(risk.severity for risk in report.topic_risks)


DECLARED = """\
version: 1
device: {path: device_id}
time: {path: timestamp, as: seconds}
quantities:
  temperature: {unit: "°C", min: -100, max: 150}
  co2: {unit: ppm, min: 0, max: 10000}
"""


def test_a_quantity_declared_since_gets_its_columns_and_a_former_one_keeps_its_own(
    services: Services, tmp_path: Path
) -> None:
    env = services.environment()
    file = tmp_path / "reading.yaml"
    file.write_text(DECLARED)
    before = Settings.from_env(env)
    after = Settings.from_env({**env, "IOT_READING": str(file)})
    day, ms = 20_000, 20_000 * MS_PER_DAY
    with open_connections(before) as connections:
        connections.set_up()
        _write(connections, {ms: (ms * 1000, 0, 0, 20.5, 40.0)})
    with open_connections(after) as connections:
        with pytest.raises(SchemaMismatchError, match="co2"):
            _rows(connections)
        assert any(
            "co2 is missing" in str(item) for item in check_schema(connections.tables, after).fatal
        )
        report = connections.set_up()
        assert report.created[0] == "in table sensor_data the column co2"
        assert "in table daily_readings the column co2_count, co2_min, co2_mean" in "".join(
            report.created
        )
        said = "\n".join(report.sentences())
        assert f"{after.keyspace}.sensor_data: column humidity is of no declared quantity" in said
        assert f"{after.keyspace}.hourly_readings: column humidity_count, humidity_first" in said
        assert connections.set_up().created == []
        later = ms + 1
        _write(connections, {later: (later * 1000, 1, 0, 21.5, 612.0)})
        assert _rows(connections) == [
            (later, (21.5, 612.0, later * 1000, later * 1000)),
            (ms, (20.5, None, ms * 1000, None)),
        ]
        summed = wait_for(connections.rows.start_sums(whole_day("d", day)), connections.rows.wait)
        assert summed.totals == [(2 * ms + 1) * 1000, later * 1000]
        rollup = summarize([(ms, 20.5, None), (later, 21.5, 612.0)], after.quantities)
        client = connections.cassandra
        client.finish(connections.rollups.send_day("d", day, rollup, ms * 1000))
        (found,) = client.finish(connections.rollups.start_days("d", day, day)).values()
        assert (found.stats["co2"]["mean"], found.stats["temperature"].count) == (612.0, 2)
    # The first one still works: two pipelines in one process, each with its own quantities.
    with open_connections(before) as connections:
        assert _rows(connections)[1] == (ms, (20.5, 40.0, ms * 1000, ms * 1000))


def _write(connections: Connections, rows: RowsByTime) -> None:
    store = connections.store
    connections.cassandra.finish(store.send_rows(RowSlice.of({("d", 20_000): rows})))


def _rows(connections: Connections) -> Sequence[tuple[int, StoredRow]]:
    rows = connections.rows
    return wait_for(rows.start_range(whole_day("d", 20_000), 10), rows.wait)
