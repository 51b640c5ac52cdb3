"""The jobs replay, replay_dead_letters and audit, and the checks on what may be missing."""

import time
import uuid
from datetime import UTC, datetime

import dagster as dg
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from iot_pipeline.definitions import build_definitions
from iot_pipeline_tests.defs.conftest import Dagster, Outcome
from iot_pipeline_tests.defs.keys import SENSOR_DATA
from iot_pipeline_tests.load import delete_before, fleet, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

DAY = "2024-12-29"


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: an audit of all looks at every row of the table."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture
def name() -> str:
    return f"j{uuid.uuid4().hex[:6]}"


@pytest.fixture
def ingested(dagster: Dagster, pipeline: Pipeline, name: str) -> Outcome:
    """Offsets 0 to 400 of partition 0, of four devices."""
    produce(pipeline.brokers, pipeline.topic, fleet(name, 4, 400), partition=0)
    outcome = dagster.materialize()
    assert outcome.red == {}
    return outcome


def cql(pipeline: Pipeline, statement: str) -> None:
    pipeline.connections.cassandra.execute(
        statement.format(table=f"{pipeline.settings.keyspace}.sensor_data"), doing="testing"
    )


def run_check(dagster: Dagster, name: str) -> dg.AssetCheckEvaluation:
    job = dagster.definitions.resolve_implicit_global_asset_job_def()
    chosen = job.get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(SENSOR_DATA, name)}
    )
    outcome = dagster.outcome(
        chosen.execute_in_process(instance=dagster.instance, raise_on_error=False)
    )
    assert outcome.is_success, outcome.failure
    return outcome.checks[name]


def test_an_audit_of_what_is_whole_is_a_success_with_every_fate_counted(
    dagster: Dagster, ingested: Outcome
) -> None:
    for config in ({}, {"ranges": {"0": {"start": 0, "end": 400}}}):
        outcome = dagster.launch("audit", config)
        assert outcome.is_success, outcome.failure
        seen = outcome.observed["iot/sensor_data"]
        assert (seen["audit_stored"], seen["audit_lost"], seen["audit_torn"]) == (400, 0, 0)
        assert outcome.run.tags["dagster/iot_ranges"] == "0:0-400"


def test_an_audit_that_finds_rows_lost_fails_with_the_command_that_repairs_them(
    dagster: Dagster, pipeline: Pipeline, ingested: Outcome, name: str
) -> None:
    cql(pipeline, "TRUNCATE {table}")
    outcome = dagster.launch("audit")
    assert not outcome.is_success
    assert "400 lost, 0 torn, 0 stray" in outcome.failure
    assert "`iot replay --offsets 0:" in outcome.failure
    assert outcome.observed["iot/sensor_data"]["audit_lost"] == 400
    assert outcome.metadata["days_older"] == 1, "the readings are of 2024"

    again = dagster.launch("replay", {"run_id": ingested.run.run_id})
    assert again.is_success, again.failure
    assert again.run.tags["dagster/iot_achieved"] == "0:0-400"
    shown = pipeline.iot("audits", "--days", "36525", "--json")
    assert [day["state"] for day in shown["days"]] == ["changed since"]
    by_day = dagster.launch("audit", {"day": DAY})
    assert by_day.is_success, by_day.failure
    assert by_day.observed["iot/sensor_data"]["audit_stored"] == 400
    (day,) = pipeline.iot("audits", "--days", "36525", "--json")["days"]
    assert (day["day"], day["state"], day["rows"]) == (DAY, "proven", 400)
    assert len(pipeline.rows(f"{name}_0", DAY)) == 100


def test_the_nightly_audit_asks_for_the_day_that_is_over(dagster: Dagster) -> None:
    with dg.build_schedule_context(
        instance=dagster.instance,
        scheduled_execution_time=datetime(2026, 3, 11, 2, 15, tzinfo=UTC),
    ) as context:
        request = build_definitions().resolve_schedule_def("audit_nightly")(context)
    assert isinstance(request, dg.RunRequest)
    assert request.run_config == {"day": "2026-03-10"}
    outcome = dagster.launch("audit", request.run_config)
    assert outcome.is_success, outcome.failure
    assert outcome.observed["iot/sensor_data"]["audit_offsets"] == 0


def test_a_replay_by_ranges_makes_identical_cells_and_moves_no_checkpoint(
    dagster: Dagster, pipeline: Pipeline, ingested: Outcome, name: str
) -> None:
    before = pipeline.rows(f"{name}_1", DAY)
    moved = pipeline.connections.ledger.read_checkpoints(pipeline.topic, [0])
    cql(pipeline, "TRUNCATE {table}")
    # Said where it need not be said: all was read by the present declaration.
    asked = {"ranges": {"0": {"start": 0, "end": 400}}, "reading": "then"}
    outcome = dagster.launch("replay", asked)
    assert outcome.is_success, outcome.failure
    assert pipeline.rows(f"{name}_1", DAY) == before
    assert pipeline.connections.ledger.read_checkpoints(pipeline.topic, [0]) == moved


def test_a_replay_of_what_kafka_has_deleted_in_part_says_which_part_is_gone(
    dagster: Dagster, pipeline: Pipeline, ingested: Outcome
) -> None:
    delete_before(pipeline.brokers, pipeline.topic, 0, 300)
    outcome = dagster.launch("replay", {"ranges": {"0": {"start": 200, "end": 400}}})
    assert not outcome.is_success
    assert "Kafka has deleted 0:200-300" in outcome.failure
    assert outcome.run.tags["dagster/iot_achieved"] == "0:300-400"


def test_nonsense_is_refused_at_launch(dagster: Dagster) -> None:
    one = {"0": {"start": 5, "end": 9}}
    for job, config, said in (
        ("replay", {}, "say what to replay"),
        ("replay", {"ranges": one, "run_id": "x"}, "say what to replay"),
        ("audit", {"ranges": one, "day": DAY}, "say what to audit"),
        ("audit", {"day": "yesterday"}, "expected a day"),
        ("audit", {"ranges": {"0": {"start": -1, "end": 9}}}, "greater than or equal to 0"),
        ("replay_dead_letters", {"reason": "spite"}, "reason spite"),
    ):
        definition = dagster.definitions.resolve_job_def(job)
        with pytest.raises(dg.DagsterInvariantViolationError, match=said):
            definition.execute_in_process(instance=dagster.instance, run_config=config)


def test_dead_letters_that_a_fixed_rule_accepts_are_stored_and_the_rest_is_counted(
    dagster: Dagster, pipeline: Pipeline, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = (b"k", reading_json(name, 1_735_444_918.0, temperature=200.0))
    produce(pipeline.brokers, pipeline.topic, [hot, hot, (b"k", b"{")], partition=0)
    planned = dagster.launch("ingest_plan")
    assert planned.is_success, planned.failure
    assert pipeline.connections.ledger.read_checkpoints(pipeline.topic, [0]) == {}
    first = dagster.materialize()
    assert set(first.red) == {"dead_letters_are_few"}
    check = first.checks["dead_letters_are_few"]
    assert check.metadata["out_of_range"].value == 2
    assert check.metadata["share"].value == 1.0
    assert "`iot dead-letters list --reason out_of_range`" in str(check.description)

    monkeypatch.setenv("IOT_TEMPERATURE_MAX", "300")
    outcome = dagster.launch("replay_dead_letters", {"reason": "out_of_range"})
    assert outcome.is_success, outcome.failure
    assert [row[0] for row in pipeline.rows(name, DAY).values()] == [200.0]
    assert dagster.launch("audit").is_success


def test_a_row_that_is_torn_turns_the_read_back_red(
    dagster: Dagster, pipeline: Pipeline, ingested: Outcome, name: str
) -> None:
    check = run_check(dagster, "rows_read_back_equal")
    assert (check.passed, check.metadata["rows_read_back"].value) == (True, 400)
    ms, (_, _, written_us) = next(iter(pipeline.rows(f"{name}_0", DAY).items()))
    cql(
        pipeline,
        f"UPDATE {{table}} USING TIMESTAMP {written_us + 1} SET humidity = 99 WHERE "
        f"device_id = '{name}_0' AND day = '{DAY}' AND timestamp = {ms}",
    )
    check = run_check(dagster, "rows_read_back_equal")
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.metadata["torn"].value == 1
    assert f"`iot mend {name}_0 {ms / 1000:.3f}`" in str(check.description)


def test_rows_that_iot_delete_removed_are_not_missed_by_the_read_back(
    dagster: Dagster, pipeline: Pipeline, ingested: Outcome, name: str
) -> None:
    pipeline.iot("delete", f"{name}_0", "--day", DAY, "--reason", "asked for", "--yes")
    check = run_check(dagster, "rows_read_back_equal")
    assert check.passed, check.description
    assert check.metadata["rows_read_back"].value == 300


def test_a_row_deleted_by_hand_makes_the_read_back_warn(
    dagster: Dagster, pipeline: Pipeline, ingested: Outcome, name: str
) -> None:
    cql(pipeline, f"DELETE FROM {{table}} WHERE device_id = '{name}_0' AND day = '{DAY}'")
    check = run_check(dagster, "rows_read_back_equal")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["missing"].value == 100


def test_a_loss_is_red_until_somebody_acknowledges_it(
    dagster: Dagster,
    pipeline: Pipeline,
    ingested: Outcome,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IOT_ON_EXPIRED", "record")
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}b", 2, 100), partition=0)
    delete_before(pipeline.brokers, pipeline.topic, 0, 450)
    outcome = dagster.materialize()
    assert outcome.is_success, outcome.failure
    assert set(outcome.red) == {"nothing_left_unread"}
    check = outcome.checks["nothing_left_unread"]
    assert check.severity == dg.AssetCheckSeverity.ERROR
    loss_id = "0:0:400-450"
    assert f"`iot losses --acknowledge {loss_id}" in str(check.description)
    pipeline.iot("losses", "--acknowledge", loss_id, "--reason", "a test")
    assert run_check(dagster, "nothing_left_unread").passed


def test_retention_that_is_near_warns_before_anything_is_lost(
    dagster: Dagster, pipeline: Pipeline, name: str
) -> None:
    dagster.tick()
    produce(pipeline.brokers, pipeline.topic, fleet(name, 1, 10), partition=0)
    assert run_check(dagster, "retention_is_far").passed
    # The active segment is not deleted yet when its records are already too old.
    admin = AdminClient({"bootstrap.servers": pipeline.brokers})
    resource = ConfigResource(
        ConfigResource.Type.TOPIC,
        pipeline.topic,
        incremental_configs=[
            ConfigEntry("retention.ms", "500", incremental_operation=AlterConfigOpType.SET)
        ],
    )
    admin.incremental_alter_configs([resource])[resource].result(30)
    time.sleep(0.5)  # the records' age is what is asked about
    check = run_check(dagster, "retention_is_far")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["partitions_near"].value == 1
    assert "Raise the topic's retention.ms" in str(check.description)
