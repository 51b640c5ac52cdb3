"""The whole path on Cassandra 4.1: set up, ingested, checked, audited, mended, rolled up, asked.

One node of its own beside the session's Kafka, 20 s. `IOT_TEST_CASSANDRA_VERSION=4.1` runs every
services test on it instead.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from iot_pipeline.connections import open_connections
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import all_checks, look_at
from iot_pipeline_tests.cassandra_4_1 import VERSION
from iot_pipeline_tests.load import ORIGIN_SECONDS, fleet, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import SCHEMA_IS_NOT_FLUSHED, start_services

pytestmark = pytest.mark.services

SENT, DEVICES, DAY = 2_000, 4, "2024-12-29"


@pytest.fixture(scope="module")
def on_4_1(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Readings of one day, drained; a bad record among them, and one that is sent again."""
    started = start_services(
        tmp_path_factory.mktemp("cassandra_4_1"),
        ["cassandra"],
        version="4.1",
        IOT_BOOTSTRAP_SERVERS=kafka,
        IOT_CASSANDRA_OPTS=SCHEMA_IS_NOT_FLUSHED,
    )
    try:
        env = started.environment()
        settings = Settings.from_env(env)
        with open_connections(settings) as connections:
            pipeline = Pipeline(settings, env, connections)
            report = connections.set_up()
            assert (report.differences, report.fatal) == ([], [])
            assert report.is_durable, report.durability
            messages = [*fleet("d", DEVICES, SENT), (b"d_0", b"no reading")]
            produce(pipeline.brokers, pipeline.topic, messages)
            assert pipeline.iot("drain", "--json")["stored"] == SENT
            again = [(b"d_0", reading_json("d_0", ORIGIN_SECONDS, 25.0))]
            produce(pipeline.brokers, pipeline.topic, again)
            pipeline.iot("drain")
            yield pipeline
    finally:
        started.stop()


def test_it_is_4_1_and_its_tables_are_made_once(on_4_1: Pipeline) -> None:
    (row,) = on_4_1.iot("cql", "SELECT release_version FROM system.local", "--json")["rows"]
    assert row["release_version"] == VERSION
    assert "everything was there already" in on_4_1.iot("setup")


def test_every_reading_is_there_and_the_audit_proves_it(on_4_1: Pipeline) -> None:
    assert on_4_1.count_rows("d", DEVICES) == SENT
    audit = on_4_1.iot("audit", "--all", "--json")
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0)
    place = f"SELECT temperature FROM sensor_data WHERE device_id = 'd_0' AND day = '{DAY}' LIMIT 1"
    assert len(on_4_1.iot("cql", place, "--json")["rows"]) == 1


def test_what_is_missing_is_found_and_a_replay_brings_it_back(on_4_1: Pipeline) -> None:
    on_4_1.connections.cassandra.execute(
        f"TRUNCATE {on_4_1.settings.keyspace}.sensor_data", doing="losing rows", timeout_seconds=60
    )
    # The record whose row another one took has no row either.
    assert on_4_1.iot("audit", "--all", "--json", exit_code=1)["lost"] == SENT + 1
    for partition, mark in enumerate(on_4_1.log.watermarks(on_4_1.topic)):
        if mark.last_stable:
            on_4_1.iot("replay", "--offsets", f"{partition}:0-{mark.last_stable}")
    assert on_4_1.count_rows("d", DEVICES) == SENT
    assert on_4_1.iot("audit", "--all", "--json")["lost"] == 0


def test_rollups_and_what_an_analyst_asks_have_answers(on_4_1: Pipeline) -> None:
    on_4_1.iot("rollup", "--day", DAY)
    for command in (
        ["rollups", "d_0", "--day", DAY],
        ["readings", "d_0", "--since", f"{DAY}T00:00:00", "--until", f"{DAY}T12:00:00"],
        ["devices", "--all"],
        ["ledger"],
        ["lag"],
        ["trace", "d_0", str(ORIGIN_SECONDS)],
        ["dead-letters", "list"],
        ["export", "--day", DAY, "--out", str(on_4_1.settings.data_dir / "export")],
        ["report"],
    ):
        on_4_1.iot(*command)


def test_no_check_is_unable_to_look(on_4_1: Pipeline) -> None:
    verdicts = list(look_at(all_checks(), Facts(on_4_1.connections, datetime.now(UTC))))
    assert [verdict for verdict in verdicts if not verdict.is_looked] == []
