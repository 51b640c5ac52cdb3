"""The checks of ingestion, of runs and alone, against real Kafka and Cassandra."""

import socket
import time
import uuid
from dataclasses import replace
from datetime import date
from typing import Any

import dagster as dg
import pytest

from iot_pipeline.defs.verdicts import Verdicts
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline.stages.checks.machinery import facts
from iot_pipeline.stages.checks.machinery.row_counts import count_days
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.defs.keys import ALL_CHECKS, SENSOR_DATA
from iot_pipeline_tests.defs.seen import seen
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import free_ports

pytestmark = pytest.mark.services

LAG = "lag_is_within_limit"


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: row counts compare whole days."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


def test_checks_run_alone_and_each_by_itself(dagster: Dagster, sent: int) -> None:
    dagster.materialize()
    outcome = dagster.launch("checks")
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is None
    assert set(outcome.checks) == ALL_CHECKS
    assert outcome.red == {}
    assert outcome.checks["row_count_matches_ledger"].metadata["rows"].value == sent
    job = dagster.definitions.resolve_implicit_global_asset_job_def()
    for name in ALL_CHECKS:
        chosen = job.get_subset(
            asset_selection=set(),
            asset_check_selection={dg.AssetCheckKey(SENSOR_DATA, name)},
        )
        result = chosen.execute_in_process(instance=dagster.instance, raise_on_error=False)
        alone = dagster.outcome(result)
        assert set(alone.checks) == {name}
        assert alone.red == {}


def test_a_row_that_somebody_deleted_makes_the_count_warn_with_the_command(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    dagster.materialize()
    keyspace = pipeline.settings.keyspace
    client = pipeline.connections.cassandra
    row = client.execute(
        f"SELECT device_id, day, timestamp FROM {keyspace}.sensor_data LIMIT 1", doing="testing"
    )[0]
    client.execute(
        f"DELETE FROM {keyspace}.sensor_data WHERE device_id = ? AND day = ? AND timestamp = ?",
        (row.device_id, row.day, row.timestamp),
        doing="testing",
    )
    outcome = dagster.launch("checks")
    assert outcome.is_success, "a warning fails no run"
    assert set(outcome.red) == {"row_count_matches_ledger", "rows_read_back_equal"}
    check = outcome.checks["row_count_matches_ledger"]
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.metadata["rows_missing"].value == 1
    assert f"`iot audit --day {row.day}`" in str(check.description)


def test_a_sum_that_does_not_add_up_is_an_error(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    dagster.materialize()
    entry = read_chain(pipeline.connections.ledger, pipeline.topic, range(4)).entries[0]
    pipeline.connections.cassandra.execute(
        f"UPDATE {pipeline.settings.keyspace}.ingest_ledger SET stored = ? WHERE topic = ? "
        "AND kafka_partition = ? AND epoch = ? AND start_offset = ?",
        (entry.counts.stored - 1, entry.topic, entry.partition, entry.epoch, entry.start_offset),
        doing="testing",
    )
    outcome = dagster.launch("checks")
    assert set(outcome.red) == {"every_offset_is_accounted_for", "ledger_has_no_gap"}
    check = outcome.checks["every_offset_is_accounted_for"]
    assert check.severity == dg.AssetCheckSeverity.ERROR


def test_a_run_believes_the_kept_sums_and_the_checks_alone_ask_the_whole_ledger(
    dagster: Dagster, pipeline: Pipeline
) -> None:
    first = produce(pipeline.brokers, pipeline.topic, fleet("first", 5, 100), partition=0)
    dagster.materialize()
    produce(pipeline.brokers, pipeline.topic, fleet("second", 5, 100), partition=0)
    dagster.materialize()
    sums = pipeline.connections.ledger_sums
    assert sums.read_sums(pipeline.topic) == {}
    assert dagster.launch("checks").red == {}
    kept = sums.read_sums(pipeline.topic)
    assert sum(sum(older.stored_by_day.values()) for older in kept.values()) == first
    falsified = kept[0]
    wrong = {day: stored + 1 for day, stored in falsified.stored_by_day.items()}
    sums.write_sum(pipeline.topic, replace(falsified, stored_by_day=wrong))
    produce(pipeline.brokers, pipeline.topic, fleet("third", 5, 100), partition=0)
    # A row less than the ledger seems to have: it may be of a reading that was sent again.
    said = dagster.materialize().checks["row_count_matches_ledger"].description
    assert "1 row fewer than the ledger stored" in str(said)
    assert dagster.launch("checks").red == {}


def test_lag_beyond_the_limit_warns(
    dagster: Dagster, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dagster.tick()  # first contact: the checkpoints are at the beginning
    monkeypatch.setenv("IOT_LAG_LIMIT_SECONDS", "0.001")
    outcome = dagster.launch("checks")
    assert set(outcome.red) == {"lag_is_within_limit"}
    assert outcome.checks["lag_is_within_limit"].metadata["lag_offsets"].value == sent


def test_counting_stops_after_the_first_when_its_time_is_over_and_says_so(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    dagster.materialize()
    found = count_days(
        pipeline.connections.ledger,
        pipeline.connections.rows,
        pipeline.connections.days,
        pipeline.topic,
        range(4),
        [date(2024, 12, 29)],
        budget_seconds=0.0,
    )
    assert [(day.devices_counted, day.devices) for day in found] == [(1, 5)]


@pytest.mark.parametrize("server", ["kafka", "cassandra", "silent kafka", "silent cassandra"])
def test_a_tick_with_a_server_down_skips_in_one_line_long_before_a_timeout(
    dagster: Dagster, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_ports(1)[0]
    silent = socket.socket()
    if server.startswith("silent"):
        silent.bind(("127.0.0.1", port))
        silent.listen()
    if server.endswith("kafka"):
        monkeypatch.setenv("IOT_BOOTSTRAP_SERVERS", f"127.0.0.1:{port}")
    else:
        monkeypatch.setenv("IOT_CASSANDRA_PORT", str(port))
    with silent:
        began = time.monotonic()
        reason = dagster.tick()
        seconds = time.monotonic() - began
    assert isinstance(reason, str)
    assert str(port) in reason
    assert "\n" not in reason
    # Two seconds here; the clients' own timeouts are 30 and more.
    assert seconds < 15
    # Red where people look, and after a while nothing more is written of what has not changed.
    assert seen(dagster.instance)[LAG] == "FAILED"
    assert (
        f"Could not look: {reason}"
        == Verdicts(dagster.instance, SENSOR_DATA).read()[LAG].description
    )
    dagster.tick()
    assert len(_history(dagster, LAG)) == 1


def test_a_server_that_is_back_while_nothing_lags_is_green_again(
    dagster: Dagster, pipeline: Pipeline, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dagster.drain_by_sensor().is_success
    with monkeypatch.context() as away:
        away.setenv("IOT_CASSANDRA_PORT", str(free_ports(1)[0]))
        dagster.tick()
    assert seen(dagster.instance)[LAG] == "FAILED"
    assert "nothing lags" in str(dagster.tick())
    assert seen(dagster.instance)[LAG] == "SUCCEEDED"
    assert [record.evaluation.passed for record in _history(dagster, LAG)] == [True, False, True]


def _history(dagster: Dagster, check: str) -> list[Any]:
    found = dagster.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(SENSOR_DATA, check), limit=10
    )
    return list(found)


def test_a_run_whose_rows_are_committed_is_a_success_though_a_server_goes_away_then(
    dagster: Dagster, pipeline: Pipeline, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise KafkaUnavailableError("Kafka does not answer")

    monkeypatch.setattr(facts, "read_lag", away)
    outcome = dagster.drain_by_sensor()
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert outcome.metadata["stored"] == sent
    assert "lag_offsets" not in outcome.metadata, "it is not known"
    assert "Kafka does not answer" in str(outcome.red["lag_is_within_limit"])
    assert "Kafka does not answer" in str(outcome.red["topic_is_safe"]), "it is not asked again"
    assert "ledger_has_no_gap" not in outcome.red, "Cassandra is"
