"""Ingest runs and the sensor that asks for them, against real Kafka and Cassandra."""

import os
import subprocess
import sys
import uuid
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psutil
import pytest

from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.core.ingest.run_costs import Mode, Place, lane_name
from iot_pipeline.core.ledger.chain import Outcome, sum_counts
from iot_pipeline.core.reading.offsets import OffsetRange, Watermarks
from iot_pipeline.defs.ingest import run_config_for
from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline.defs.lanes import parse_ranges
from iot_pipeline.defs.names import RunProcess
from iot_pipeline.errors import KafkaUnavailableError, OffsetsExpiredError, PipelineError
from iot_pipeline.stages.checks import throughput_is_usual
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.defs.keys import ALL_CHECKS
from iot_pipeline_tests.load import delete_before, fleet, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: row counts compare whole days."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


def add_run(dagster: Dagster, **changes: object) -> dg.DagsterRun:
    """A run of `ingest` that Dagster believes to be under way."""
    job = dagster.definitions.resolve_job_def("ingest")
    run = dagster.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags=dict(job.tags)
    )
    for key, value in changes.items():
        dagster.instance.add_run_tags(run.run_id, {key.replace("__", "/"): str(value)})
    found = dagster.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def test_the_sensor_asks_for_what_lags_and_the_run_leaves_all_numbers(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    outcome = dagster.drain_by_sensor()
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert set(outcome.checks) == ALL_CHECKS
    assert outcome.red == {}
    assert outcome.metadata["stored"] == outcome.metadata["offsets"] == sent
    assert next(iter(outcome.metadata)) == "summary", "the UI shows them in this order"
    assert outcome.metadata["summary"].startswith(f"{sent} rows stored in ")
    assert outcome.metadata["rejected"] == outcome.metadata["lag_offsets"] == 0
    for name in ("superseded", "aged_out", "holes", "micro_batches", "fenced"):
        assert name not in outcome.metadata
    assert outcome.metadata["rows_per_second"] > 0
    seen = outcome.observed["iot/iot_data"]
    assert seen["waited_seconds"] > 0
    assert seen["micro_batches"] > 0
    assert seen["fenced"] == 0
    assert f"{sent} stored" in outcome.metadata["in_words"]
    assert "dagster/row_count" not in outcome.metadata
    # Whatever else is text are pictures and their table (defs/test_pictures.py); the rest plots.
    texts = {name for name, value in outcome.metadata.items() if type(value) not in (int, float)}
    words = {"summary", "ranges", "in_words"}
    assert words <= texts
    drawn = {*words, "devices_with_problems"}
    assert all("](data:image/png" in outcome.metadata[name] for name in texts - drawn)
    assert outcome.run.tags["dagster/iot_ranges"] == outcome.run.tags["dagster/iot_achieved"]
    assert outcome.run.tags["iot/lane"] == pipeline.topic
    assert outcome.observed["iot/iot_data"]["lag_offsets"] == 0
    assert outcome.checks["row_count_matches_ledger"].metadata["rows"].value == sent
    assert "nothing lags" in str(dagster.tick())


def test_materialize_without_config_plans_by_itself_and_tags_its_run(
    dagster: Dagster, pipeline: Pipeline, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput_is_usual, "LEAST_ROWS", 1)
    outcome = dagster.materialize()
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert outcome.metadata["stored"] == sent
    assert outcome.run.tags["dagster/iot_ranges"] == outcome.metadata["ranges"].replace(", ", " ")
    assert outcome.run.tags["iot/lane"] == pipeline.topic
    assert RunProcess.parse(outcome.run.tags["dagster/iot_process"]) == RunProcess.current(
        outcome.run.run_id
    )
    # What it cost is kept for the runs after it.
    place = Place(lane_name(), Mode.DRAIN)
    (cost,) = pipeline.connections.run_costs.read_costs(pipeline.topic, [place], 9)[place]
    assert (cost.run_id, cost.stored) == (outcome.run.run_id, sent)
    assert cost.cpu_seconds > 0


def test_a_run_steps_aside_while_an_older_one_is_at_work(dagster: Dagster, sent: int) -> None:
    other = add_run(dagster)
    process = RunProcess.current(other.run_id)
    dagster.instance.add_run_tags(other.run_id, {"dagster/iot_process": str(process)})
    outcome = dagster.materialize()
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is None
    assert outcome.checks == {}
    assert "dagster/iot_achieved" not in outcome.run.tags
    assert str(dagster.tick()) == f"run {other.run_id[:8]} of iot/sensor_data is STARTED"


def test_ranges_below_the_checkpoint_are_replayed_whatever_came_since(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    first = dagster.materialize()
    produce(pipeline.brokers, pipeline.topic, fleet("later", 2, 20))
    ranges = parse_ranges(first.run.tags["dagster/iot_achieved"])
    again = dagster.launch("ingest", run_config_for(ranges))
    assert again.is_success, again.failure
    assert again.metadata is not None
    assert again.metadata["offsets"] == 0
    assert again.metadata["offsets_replayed"] == sent
    assert again.metadata["lag_offsets"] == 20
    assert "No checkpoint moved" in again.metadata["in_words"]
    assert again.run.tags["dagster/iot_achieved"] == first.run.tags["dagster/iot_achieved"]
    assert again.red == {}


def test_a_replay_restores_a_row_that_is_missing(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    first = dagster.materialize()
    keyspace = pipeline.settings.keyspace
    pipeline.connections.cassandra.execute(f"TRUNCATE {keyspace}.sensor_data", doing="testing")
    assert set(dagster.launch("checks").red) == {"row_count_matches_ledger", "rows_read_back_equal"}
    ranges = parse_ranges(first.run.tags["dagster/iot_achieved"])
    assert dagster.launch("ingest", run_config_for(ranges)).is_success
    assert dagster.launch("checks").red == {}


def test_a_run_whose_range_somebody_drained_meanwhile_is_a_success_that_says_who(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    request = dagster.tick()
    assert isinstance(request, dg.RunRequest)
    pipeline.drain()
    tags = {**request.tags, "dagster/sensor_name": "iot_data_lag"}
    outcome = dagster.launch("ingest", request.run_config, tags)
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert outcome.metadata["stored"] == 0
    assert "offsets_replayed" not in outcome.metadata
    assert "run test-" in outcome.metadata["in_words"]
    assert "nothing is wrong" in outcome.metadata["in_words"]
    assert outcome.red == {}


def test_ranges_that_would_skip_offsets_fail_with_advice_and_no_retry(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    marks = [m for m in pipeline.log.watermarks(pipeline.topic) if m.last_stable > 1]
    config = run_config_for([OffsetRange(marks[0].partition, 1, 2)])
    outcome = dagster.launch("ingest", config)
    assert not outcome.is_success
    assert "would skip 1 offset." in outcome.failure
    assert outcome.metadata is None


def test_rejected_records_are_observed_on_the_dead_letters(
    dagster: Dagster, pipeline: Pipeline
) -> None:
    produce(pipeline.brokers, pipeline.topic, [(b"d", b"{"), (b"d", reading_json("d", 1.7e9))])
    outcome = dagster.materialize()
    assert outcome.metadata is not None
    assert (outcome.metadata["stored"], outcome.metadata["rejected"]) == (1, 1)
    assert "1 could not be readings" in outcome.metadata["summary"]
    seen = outcome.observed["iot/dead_letters"]
    assert seen.pop("newest").splitlines()[-1].startswith("| `d` | not_json | ")
    assert seen == {
        "summary": "1 record could not be readings: not_json (1). 1 are kept in "
        f"{pipeline.settings.dead_letter_topic}",
        "rejected": 1,
        "kept": 1,
        "not_json": 1,
    }
    assert "iot dead-letters" in outcome.metadata["in_words"]


def test_what_expired_stops_the_sensor_or_is_recorded_by_its_run(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet("early", 2, 100), partition=0)
    pipeline.drain()
    produce(pipeline.brokers, pipeline.topic, fleet("late", 2, 100), partition=0)
    delete_before(pipeline.brokers, pipeline.topic, 0, 150)
    with pytest.raises(OffsetsExpiredError, match="offsets 100 to 149"):
        dagster.tick()
    assert "IOT_ON_EXPIRED=record" in dagster.materialize().failure
    monkeypatch.setenv("IOT_ON_EXPIRED", "record")
    outcome = dagster.drain_by_sensor()
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert outcome.metadata["stored"] == 50
    chain = read_chain(pipeline.connections.ledger, pipeline.topic, range(4))
    assert chain.flaws == []
    lost = [entry for entry in chain.entries if entry.outcome is Outcome.EXPIRED]
    assert [(entry.start_offset, entry.end_offset) for entry in lost] == [(100, 150)]
    assert [entry.run_id for entry in lost] == [outcome.run.run_id]
    assert "nothing lags" in str(dagster.tick())


def test_the_sensor_ends_a_run_whose_process_is_gone_and_goes_on(
    dagster: Dagster, sent: int
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = add_run(dagster)
    started = int(psutil.Process(child.pid).create_time())
    process = replace(RunProcess.current(run.run_id), pid=child.pid, started_seconds=started)
    dagster.instance.add_run_tags(run.run_id, {"dagster/iot_process": str(process)})
    assert "is STARTED" in str(dagster.tick())
    child.kill()
    child.wait()
    assert isinstance(dagster.tick(), dg.RunRequest)
    ended = dagster.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE


def test_another_machines_run_is_left_to_that_machine(dagster: Dagster) -> None:
    run = add_run(dagster)
    far = replace(RunProcess.current(run.run_id), host="elsewhere", pid=2**22 - 1)
    dagster.instance.add_run_tags(run.run_id, {"dagster/iot_process": str(far)})
    assert "is STARTED" in str(dagster.tick())


def test_the_schedule_asks_for_a_run_that_plans_by_itself_unless_one_is_at_work(
    dagster: Dagster, pipeline: Pipeline, tmp_path: Path
) -> None:
    with (
        dg.DagsterInstance.from_config(str(prepare_instance(tmp_path))) as instance,
        dg.build_schedule_context(instance=instance) as context,
    ):
        ask = dagster.definitions.resolve_schedule_def("ingest_on_schedule")
        requests = ask(context)
        assert isinstance(requests, list)
        (request,) = requests
        assert request.run_key is None
        assert request.run_config == {}
        add_run(replace(dagster, instance=instance))
        assert isinstance(ask(context), dg.SkipReason)


def test_ticks_leave_no_threads_behind(dagster: Dagster, monkeypatch: pytest.MonkeyPatch) -> None:
    dagster.tick()
    before = len(psutil.Process(os.getpid()).threads())
    for _ in range(20):
        dagster.tick()
    assert len(psutil.Process(os.getpid()).threads()) <= before + 1


def test_the_ledger_reads_alike_after_it_was_folded(
    dagster: Dagster, pipeline: Pipeline, sent: int
) -> None:
    for number in range(3):
        dagster.materialize()
        produce(pipeline.brokers, pipeline.topic, fleet(f"more{number}", 5, 100))
    dagster.materialize()
    ledger, keyspace = pipeline.connections.ledger, pipeline.settings.keyspace
    before = read_chain(ledger, pipeline.topic, range(4)).entries
    for entry in before:  # as if it had been three days ago
        pipeline.connections.cassandra.execute(
            f"UPDATE {keyspace}.ingest_ledger SET updated_at = '2024-12-29' WHERE topic = ? "
            "AND kafka_partition = ? AND epoch = ? AND start_offset = ?",
            (entry.topic, entry.partition, entry.epoch, entry.start_offset),
            doing="testing",
        )
    outcome = dagster.launch("purge_history")
    assert outcome.is_success, outcome.failure
    chain = read_chain(ledger, pipeline.topic, range(4))
    assert chain.flaws == []
    sums = pipeline.connections.ledger_sums
    made = sums.read_sums(pipeline.topic)
    assert set(made) == {e.partition for e in chain.entries}, "made afresh"
    assert len(chain.entries) < len(before)
    assert sum_counts(e.counts for e in chain.entries) == sum_counts(e.counts for e in before)
    assert dagster.materialize().is_success
    assert dagster.launch("checks").red == {}


def test_a_leader_that_does_not_answer_takes_its_own_partition_and_no_tick_fails(
    dagster: Dagster, pipeline: Pipeline
) -> None:
    # Enough devices that each partition has some.
    produce(pipeline.brokers, pipeline.topic, fleet("d", 100, 500))
    assert isinstance(dagster.tick(), dg.RunRequest)
    whole = KafkaLog.watermarks

    def without_the_last(
        self: KafkaLog,
        topic: str,
        *,
        only: Collection[int] | None = None,
        silent: dict[int, PipelineError] | None = None,
    ) -> list[Watermarks]:
        marks = whole(self, topic, only=only)
        if silent is None:
            return marks
        silent[marks[-1].partition] = KafkaUnavailableError("its leader does not answer")
        return marks[:-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(KafkaLog, "watermarks", without_the_last)
        outcome = dagster.drain_by_sensor()
        assert outcome.run.status == dg.DagsterRunStatus.FAILURE
        assert "its leader does not answer" in outcome.failure
        # The others are drained: there is nothing to ask a run for.
        assert "its leader does not answer" in str(dagster.tick())
    assert dagster.drain_by_sensor().run.status == dg.DagsterRunStatus.SUCCESS
    assert "nothing lags" in str(dagster.tick())
