"""Runs that stay, in Dagster: what they report while they run, how they end, who comes next."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from sqlalchemy.exc import OperationalError

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ingest.run_costs import Mode, Place, lane_name
from iot_pipeline.core.ledger.chain import sum_counts
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges, parse_range
from iot_pipeline.defs import follow_run, ingest_run
from iot_pipeline.defs.ingest import follow_config
from iot_pipeline.defs.lanes import parse_ranges
from iot_pipeline.defs.names import ACHIEVED, RunProcess
from iot_pipeline.defs.verdicts import Verdicts
from iot_pipeline.stages.checks import throughput_is_usual
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.defs.keys import CHECK_KEYS, SENSOR_DATA
from iot_pipeline_tests.load import fleet, produce, send_bomb
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: row counts compare whole days."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture(autouse=True)
def _a_short_stay_and_many_reports(
    pipeline: Pipeline, dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_FOLLOW_SECONDS", "5")
    monkeypatch.setenv("IOT_INGEST_MODE", "follow")
    monkeypatch.setattr(follow_run, "REPORT_SECONDS", 1.0)
    monkeypatch.setattr(follow_run, "_FIRST_REPORT_SECONDS", 1.0)


@contextmanager
def _arriving(pipeline: Pipeline) -> Iterator[list[int]]:
    """50 readings ten times a second; how many were sent, at the end."""
    sent: list[int] = []
    is_over = threading.Event()

    def produce_on() -> None:
        while not is_over.wait(0.1):
            part = fleet(f"d{len(sent)}", 5, 50)
            sent.append(produce(pipeline.brokers, pipeline.topic, part))

    thread = threading.Thread(target=produce_on)
    thread.start()
    try:
        yield sent
    finally:
        is_over.set()
        thread.join(10)


def _reports(dagster: Dagster) -> list[dict[str, Any]]:
    """Metadata of the run's materialization and of its observations after it, oldest first."""
    made = dagster.instance.fetch_materializations(SENSOR_DATA, limit=100).records
    seen = dagster.instance.fetch_observations(SENSOR_DATA, limit=100).records
    events = [r.asset_materialization or r.asset_observation for r in [*seen, *made]]
    assert len(made) == 1, "checks are shown beside one materialization a run"
    return [
        {name: value.value for name, value in event.metadata.items()}
        for event in reversed(events)
        if event is not None
    ]


def _ranges(report: dict[str, Any]) -> list[OffsetRange]:
    text = report["ranges"]
    return [] if text == "none" else [parse_range(part) for part in text.split(", ")]


def test_a_run_that_stays_reports_while_it_runs_and_its_reports_are_the_run(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput_is_usual, "LEAST_SAMPLES", 1)
    with _arriving(pipeline) as sent:
        outcome = dagster.launch("ingest", follow_config())
    assert outcome.is_success, outcome.failure
    assert outcome.red == {}
    assert set(outcome.checks) == {key.name for key in CHECK_KEYS}
    reports = _reports(dagster)
    assert len(reports) >= 2
    chain = read_chain(pipeline.connections.ledger, pipeline.topic, range(4))
    total = sum_counts(entry.counts for entry in chain.entries)
    assert chain.flaws == []
    assert {entry.run_id for entry in chain.entries} == {outcome.run.run_id}
    assert sum(report["stored"] for report in reports) == total.stored > 0
    tiles = join_ranges([item for report in reports for item in _ranges(report)])
    achieved = parse_ranges(outcome.run.tags["dagster/iot_achieved"])
    assert sorted(tiles, key=str) == sorted(achieved, key=str)
    measured = [report for report in reports if "latency_p50_ms" in report]
    assert measured
    for report in measured:
        assert 0 < report["latency_p50_ms"] <= report["latency_p99_ms"]
    # Every ten minutes one of them is kept, to compare the next ones with.
    place = Place(lane_name(), Mode.FOLLOW)
    (cost,) = pipeline.connections.run_costs.read_costs(pipeline.topic, [place], 9)[place]
    assert cost.run_id == outcome.run.run_id
    assert cost.p99_ms > 0
    assert outcome.run.tags["iot/mode"] == "follow"
    assert int(outcome.run.tags["dagster/max_runtime"]) >= 600
    # What came after its end is the next run's, and nothing is between.
    again = dagster.launch("ingest")
    assert again.metadata is not None
    assert again.metadata["stored"] + total.stored == sum(sent)


def test_a_run_says_what_it_achieved_with_its_first_commit_whatever_dagsters_thread_does(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is ended then, also within a report, can be re-executed about its own offsets."""
    # Dagster's thread looks at nothing before the end.
    monkeypatch.setattr(follow_run, "_LOOK_SECONDS", 3600.0)
    said: list[tuple[str, bool]] = []
    add_run_tags = dg.DagsterInstance.add_run_tags

    def noted(self: dg.DagsterInstance, run_id: str, new_tags: Any) -> None:
        is_dagsters = threading.current_thread() is threading.main_thread()
        said.extend((value, is_dagsters) for name, value in new_tags.items() if name == ACHIEVED)
        add_run_tags(self, run_id, new_tags)

    monkeypatch.setattr(dg.DagsterInstance, "add_run_tags", noted)
    produce(pipeline.brokers, pipeline.topic, fleet("d", 5, 200), partition=0)
    assert dagster.launch("ingest", follow_config()).is_success
    assert said == [("0:0-200", False)]


def test_following_goes_on_while_dagsters_storage_is_away_and_its_reports_are_the_run(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first report nothing is taken, until it was refused six times."""
    is_told = threading.Event()

    def until_told(seconds: float, should_stop: Callable[[], bool]) -> Follow:
        return Follow(seconds, should_stop=lambda: is_told.is_set() or should_stop())

    monkeypatch.setenv("IOT_FOLLOW_SECONDS", "600")
    monkeypatch.setattr(follow_run, "Follow", until_told)
    add_run_tags = dg.DagsterInstance.add_run_tags
    store = dagster.instance.event_log_storage
    store_event, refused, taken = store.store_event, Counter[str](), set[str]()

    def refuse(what: str) -> None:
        if "ASSET_MATERIALIZATION" in taken and refused.total() < 6:
            refused[what] += 1
            raise OperationalError("INSERT", {}, Exception("no connection"))

    def take(event: dg.EventLogEntry) -> None:
        kind = event.dagster_event.event_type_value if event.dagster_event else "line"
        refuse(kind)
        store_event(event)
        if kind == "ASSET_OBSERVATION" and refused:
            is_told.set()
        taken.add(kind)

    def tag(self: dg.DagsterInstance, run_id: str, new_tags: Any) -> None:
        if refused.total() % 3 == 1:
            refuse("tag")
        add_run_tags(self, run_id, new_tags)

    monkeypatch.setattr(store, "store_event", take)
    monkeypatch.setattr(dg.DagsterInstance, "add_run_tags", tag)
    with _arriving(pipeline):
        outcome = dagster.launch("ingest", follow_config())
    assert outcome.is_success, outcome.failure
    assert refused.total() == 6
    reports = _reports(dagster)
    chain = read_chain(pipeline.connections.ledger, pipeline.topic, range(4))
    total = sum_counts(entry.counts for entry in chain.entries)
    assert sum(report["stored"] for report in reports) == total.stored > 0
    tiles = join_ranges([item for report in reports for item in _ranges(report)])
    achieved = parse_ranges(outcome.run.tags["dagster/iot_achieved"])
    assert sorted(tiles, key=str) == sorted(achieved, key=str)


def test_a_run_that_is_terminated_while_it_says_what_it_achieved_says_it_again(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terminate interrupts at any line, also within the writing of the tag."""
    monkeypatch.setattr(follow_run.FollowRun, "_say_first", lambda _: None)
    add_run_tags = dg.DagsterInstance.add_run_tags
    interrupted: list[str] = []

    def interrupt_the_first(self: dg.DagsterInstance, run_id: str, new_tags: Any) -> None:
        if ACHIEVED in new_tags and not interrupted:
            interrupted.append(new_tags[ACHIEVED])
            raise DagsterExecutionInterruptedError
        add_run_tags(self, run_id, new_tags)

    monkeypatch.setattr(dg.DagsterInstance, "add_run_tags", interrupt_the_first)
    produce(pipeline.brokers, pipeline.topic, fleet("d", 5, 200), partition=0)
    outcome = dagster.launch("ingest", follow_config())
    assert not outcome.is_success
    assert interrupted == ["0:0-200"]
    assert outcome.run.tags["dagster/iot_achieved"] == "0:0-200"


def test_a_red_blocking_check_ends_the_run_and_fails_it(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_at(*_: object) -> Iterator[CheckVerdict]:
        name = "every_offset_is_accounted_for"
        yield CheckVerdict(False, "one is not", severity=Severity.ERROR, name=name)

    monkeypatch.setenv("IOT_FOLLOW_SECONDS", "60")
    monkeypatch.setattr(ingest_run, "look_at", look_at)
    produce(pipeline.brokers, pipeline.topic, fleet("d", 5, 500))
    began = time.monotonic()
    outcome = dagster.launch("ingest", follow_config())
    assert time.monotonic() - began < 30
    assert not outcome.is_success
    assert "blocking asset check" in outcome.failure
    chain = read_chain(pipeline.connections.ledger, pipeline.topic, range(4))
    assert chain.flaws == []
    achieved = parse_ranges(outcome.run.tags["dagster/iot_achieved"])
    assert sum(item.span for item in achieved) == 500 == sum(e.span for e in chain.entries)


def test_a_partition_that_stands_still_is_red_before_the_runs_end_until_it_drains_again(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet("d", 1, 10), partition=0)
    bad = send_bomb(pipeline.brokers, pipeline.topic, 1_800, partition=0)
    produce(pipeline.brokers, pipeline.topic, fleet("e", 1, 50), partition=1)
    monkeypatch.setenv("IOT_FOLLOW_SECONDS", "12")
    outcome = dagster.launch("ingest", follow_config())
    # A run that fails looks at nothing at its end: this was said while it followed the others.
    assert not outcome.is_success
    shown = Verdicts(dagster.instance, SENSOR_DATA).read()
    said = shown["lag_is_within_limit"].description
    assert f"Partition 0 stands still at offset {bad[0]} since" in said
    assert f"offsets {bad[0]} to {bad[1] - 1} cannot be read" in said
    assert shown["lag_is_within_limit"].severity is dg.AssetCheckSeverity.ERROR
    assert "Could not look" not in shown["rows_read_back_equal"].description
    assert pipeline.count_rows("e", 1) == 50
    monkeypatch.setenv("IOT_ON_UNREADABLE", "record")
    monkeypatch.setenv("IOT_FOLLOW_SECONDS", "5")
    assert dagster.launch("ingest", follow_config()).is_success
    shown = Verdicts(dagster.instance, SENSOR_DATA).read()
    assert shown["lag_is_within_limit"].passed
    assert not shown["nothing_left_unread"].passed, "the loss itself waits for a person"


def test_following_has_no_end_to_give(dagster: Dagster) -> None:
    config = {"ops": {"ingest_readings": {"config": {"mode": "follow", "max_records": 5}}}}
    with pytest.raises(dg.DagsterInvariantViolationError, match="mode follow has no end"):
        dagster.launch("ingest", config)


def test_the_sensor_keeps_one_run_that_stays_and_queues_the_next_behind_it(
    dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_FOLLOW_SECONDS", "300")
    request = dagster.tick()
    assert isinstance(request, dg.RunRequest), request
    assert request.run_config == follow_config()
    assert (request.asset_selection, request.asset_check_keys) == ([SENSOR_DATA], [])
    job = dagster.definitions.resolve_job_def("ingest")

    def add(started_ago: float | None) -> dg.DagsterRun:
        run = dagster.instance.create_run_for_job(job, tags={**job.tags, **request.tags})
        if started_ago is not None:
            process = str(RunProcess.current(run.run_id))
            dagster.instance.add_run_tags(run.run_id, {"dagster/iot_process": process})
            _report_started(dagster.instance, run, time.time() - started_ago)
        return run

    first = add(started_ago=10)
    assert "and stays for 2" in str(dagster.tick())
    dagster.instance.delete_run(first.run_id)
    add(started_ago=295)
    assert isinstance(dagster.tick(), dg.RunRequest), "soon over: the next one is queued"
    add(started_ago=None)
    assert "waits for its turn" in str(dagster.tick()), "one, not two"


def _report_started(instance: dg.DagsterInstance, run: dg.DagsterRun, at: float) -> None:
    """As the run's own process does, then."""
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.RUN_START.value, job_name=run.job_name
    )
    instance.report_dagster_event(event, run.run_id, timestamp=at)
