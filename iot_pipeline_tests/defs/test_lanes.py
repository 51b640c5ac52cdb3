"""Whose turn it is, and what a re-execution is about; no server takes part."""

import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs import ingest
from iot_pipeline.defs.alive import (
    Watch,
    end_gone_runs,
    signs_of_life,
    why_gone,
)
from iot_pipeline.defs.ingest import IngestConfig, run_config_for
from iot_pipeline.defs.lanes import (
    Lane,
    active_ingest_runs,
    format_ranges,
    inherited_ranges,
    lane_of,
    parse_ranges,
    run_ahead_of,
)
from iot_pipeline.defs.names import ACHIEVED, PROCESS, RANGES, RunProcess
from iot_pipeline_tests.defs.keys import PIPELINE, SENSOR_DATA

TOPIC = "iot_data"
STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """One that other processes could open."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def definitions(monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("IOT_TOPIC", TOPIC)
    return build_definitions()


def add(instance, definitions, job="ingest", status=STARTED, tags=None, **more):
    found = (
        definitions.resolve_implicit_global_asset_job_def()
        if job == "__ASSET_JOB"
        else definitions.resolve_job_def(job)
    )
    return instance.create_run_for_job(
        found, status=status, tags={**found.tags, **(tags or {})}, **more
    )


def lane(place: int, count: int) -> Lane:
    return Lane(TOPIC, SENSOR_DATA, place, count)


def test_a_run_is_in_the_lane_that_its_tag_names_else_in_all(instance, definitions) -> None:
    tagged = add(instance, definitions, tags={"iot/lane": f"{TOPIC}/1-of-3"})
    other = add(instance, definitions, tags={"iot/lane": f"{TOPIC}/rollups"})
    button = add(instance, definitions, job="__ASSET_JOB", asset_selection=frozenset({SENSOR_DATA}))
    assert lane_of(tagged, PIPELINE) == lane(1, 3)
    for run in (other, button, add(instance, definitions)):
        assert lane_of(run, PIPELINE) == Lane(TOPIC, SENSOR_DATA)
        assert lane_of(run, PIPELINE).is_whole


@given(st.integers(1, 12), st.integers(0, 999))
def test_each_partition_is_in_one_lane(count, partition):
    found = [item for place in range(count) if partition in (item := lane(place, count))]
    assert [item.place for item in found] == [partition % count]


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_two_lanes_meet_when_some_partition_is_in_both(one, other, data):
    first = lane(data.draw(st.integers(0, one - 1)), one)
    second = lane(data.draw(st.integers(0, other - 1)), other)
    both = [partition for partition in range(one * other) if partition in first]
    assert first.meets(second) == any(partition in second for partition in both)
    assert first.tagged(second.tag) == second


def test_lanes_do_not_wait_for_each_other_and_all_partitions_wait_for_every_lane(
    instance, definitions
):
    first = add(instance, definitions, tags={"iot/lane": lane(0, 2).tag})
    second = add(instance, definitions, tags={"iot/lane": lane(1, 2).tag})
    whole = add(instance, definitions)
    assert run_ahead_of(instance, lane(1, 2), second.run_id) in (None, whole)
    ahead = run_ahead_of(instance, Lane(TOPIC, SENSOR_DATA), whole.run_id)
    assert ahead is not None
    assert ahead.run_id == first.run_id
    instance.report_run_canceled(instance.get_run_by_id(first.run_id))
    ahead = run_ahead_of(instance, Lane(TOPIC, SENSOR_DATA), whole.run_id)
    assert ahead is not None
    assert ahead.run_id == second.run_id
    instance.report_run_canceled(instance.get_run_by_id(second.run_id))
    assert run_ahead_of(instance, Lane(TOPIC, SENSOR_DATA), whole.run_id) is None


def test_no_lane_begins_while_a_run_of_all_partitions_is_at_work_though_it_is_younger(
    instance, definitions
):
    queued = add(instance, definitions, tags={"iot/lane": lane(0, 2).tag})
    whole = add(instance, definitions)
    ahead = run_ahead_of(instance, lane(0, 2), queued.run_id)
    assert ahead is not None
    assert ahead.run_id == whole.run_id


def test_runs_of_another_number_of_lanes_are_met_where_they_share_partitions(instance, definitions):
    add(instance, definitions, tags={"iot/lane": lane(1, 2).tag})
    own = add(instance, definitions, tags={"iot/lane": lane(3, 4).tag})
    assert run_ahead_of(instance, lane(3, 4), own.run_id) is not None
    assert run_ahead_of(instance, lane(2, 4), own.run_id) is None


def test_runs_of_the_lane_and_of_the_materialize_button_count_others_do_not(instance, definitions):
    lane = add(instance, definitions, status=dg.DagsterRunStatus.NOT_STARTED)
    button = add(instance, definitions, job="__ASSET_JOB", asset_selection=frozenset({SENSOR_DATA}))
    add(instance, definitions, job="checks")
    add(instance, definitions, job="simulate")
    add(instance, definitions, status=dg.DagsterRunStatus.SUCCESS)
    add(instance, definitions, tags={"iot/lane": "another_topic"})
    found = [
        record.dagster_run.run_id
        for record in active_ingest_runs(instance, Lane(TOPIC, SENSOR_DATA))
    ]
    assert found == [lane.run_id, button.run_id]


def test_of_two_that_start_together_the_older_one_goes_on(instance, definitions):
    first, second = add(instance, definitions), add(instance, definitions)
    assert run_ahead_of(instance, Lane(TOPIC, SENSOR_DATA), first.run_id) is None
    ahead = run_ahead_of(instance, Lane(TOPIC, SENSOR_DATA), second.run_id)
    assert ahead is not None
    assert ahead.run_id == first.run_id


def test_a_run_that_still_waits_makes_nobody_step_aside(instance, definitions):
    add(instance, definitions, status=dg.DagsterRunStatus.NOT_STARTED)
    own = add(instance, definitions)
    assert run_ahead_of(instance, Lane(TOPIC, SENSOR_DATA), own.run_id) is None


def test_a_dead_run_makes_nobody_step_aside(instance, definitions):
    dead = add(instance, definitions)
    gone = replace(RunProcess.current(dead.run_id), pid=2**22 - 1)
    instance.add_run_tags(dead.run_id, {PROCESS: str(gone)})
    own = add(instance, definitions)
    assert run_ahead_of(instance, Lane(TOPIC, SENSOR_DATA), own.run_id) is None


def test_a_pid_that_was_given_out_again_is_not_the_process(instance, definitions):
    run = add(instance, definitions)
    current = RunProcess.current(run.run_id)
    reused = replace(current, started_seconds=current.started_seconds - 3600)
    instance.add_run_tags(run.run_id, {PROCESS: str(reused)})
    (record,) = active_ingest_runs(instance, Lane(TOPIC, SENSOR_DATA))
    assert "is gone" in str(why_gone(instance, record))


def test_a_reexecution_is_not_buried_for_its_parents_process(instance, definitions):
    run = add(instance, definitions)
    parents = replace(RunProcess.current(str(uuid.uuid4())), pid=2**22 - 1)
    instance.add_run_tags(run.run_id, {PROCESS: str(parents)})
    (record,) = active_ingest_runs(instance, Lane(TOPIC, SENSOR_DATA))
    assert why_gone(instance, record._replace(start_time=1000.0)) is None


@pytest.mark.parametrize("clock_of_its_machine", [-130.0, 0.0, 130.0])
def test_a_run_that_never_said_its_process_is_gone_two_minutes_after_it_was_first_seen(
    clock_of_its_machine, instance, definitions, clock
):
    add(instance, definitions, status=dg.DagsterRunStatus.STARTING)
    (record,) = active_ingest_runs(instance, Lane(TOPIC, SENSOR_DATA))
    run, started = record.dagster_run.with_status(STARTED), time.time() + clock_of_its_machine
    record, watch = record._replace(dagster_run=run, start_time=started), Watch()
    assert look(instance, record, watch, clock, 115) is None
    assert "did not say which process" in str(look(instance, record, watch, clock, 10))
    # One that waits in the queue has no start.
    assert look(instance, record._replace(start_time=None), watch, clock, 300) is None


def test_the_next_process_goes_on_counting_for_a_run_that_never_said_its_process(
    instance, definitions, clock
):
    add(instance, definitions, status=dg.DagsterRunStatus.STARTING)
    (record,) = active_ingest_runs(instance, Lane(TOPIC, SENSOR_DATA))
    run = record.dagster_run.with_status(STARTED)
    record = record._replace(dagster_run=run, start_time=time.time())
    for _ in range(2):
        assert look(instance, record, Watch(is_kept=True), clock, 50) is None
        clock[0] += 10.0
    assert "did not say" in str(look(instance, record, Watch(is_kept=True), clock, 0))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """This machine's, in seconds since its start."""
    now = [1000.0]
    monkeypatch.setattr("iot_pipeline.defs.alive.time.monotonic", lambda: now[0])
    return now


def look(instance, record, watch, clock, seconds, every=5.0) -> str | None:
    """What is said at the end of that time, and of looks every few seconds; the first is now."""
    said, end = why_gone(instance, record, watch), clock[0] + seconds
    while clock[0] < end:
        clock[0] += every
        said = why_gone(instance, record, watch)
    return said


def elsewhere(instance, definitions, job="ingest") -> dg.RunRecord:
    """A run of a process on another machine, with the tag of its lane."""
    run = add(instance, definitions, job=job)
    far = replace(RunProcess.current(run.run_id), host="elsewhere", pid=2**22 - 1)
    instance.add_run_tags(run.run_id, {PROCESS: str(far)})
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    return record


def _sign_of(instance, run) -> int:
    """Number of the newest; 0: none."""
    keys = {f"iot/sign_of_life/{run.tags['iot/lane']}/{place}" for place in range(16)}
    signs = instance.daemon_cursor_storage.get_cursor_values(keys).values()
    return max((int(s.split()[1]) for s in signs if s.startswith(run.run_id)), default=0)


def _give_sign(instance, run, number: int, every: str = "") -> None:
    """As another process would; before signs said when the next one comes, without `every`."""
    key = f"iot/sign_of_life/{run.tags['iot/lane']}/{zlib.crc32(run.run_id.encode()) % 16}"
    instance.daemon_cursor_storage.set_cursor_values({key: f"{run.run_id} {number}{every}"})


def test_a_run_elsewhere_that_gives_no_sign_for_a_minute_is_ended(shared, definitions, clock):
    record = elsewhere(shared, definitions)
    run, watch = record.dagster_run, Watch()
    for _ in range(3):
        with signs_of_life(shared, run.run_id, run.tags["iot/lane"], 10):
            pass
        assert end_gone_runs(shared, [record], watch) == []
        assert look(shared, record, watch, clock, 55) is None
        assert "gave no sign of life for 65 s" in str(look(shared, record, watch, clock, 10))
        _give_sign(shared, run, 2)
        assert why_gone(shared, record, watch) is None, "it was only slow"
    assert look(shared, record, watch, clock, 55) is None
    clock[0] += 5
    # Another process that watches begins by itself: it never compares clocks.
    assert end_gone_runs(shared, [record], Watch()) == []
    (said,) = end_gone_runs(shared, [record], watch)
    assert "on elsewhere gave no sign of life" in said
    assert shared.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_run_elsewhere_that_gives_signs_more_often_is_ended_sooner(
    is_kept, shared, definitions, clock
):
    record = elsewhere(shared, definitions)
    run, watch = record.dagster_run, Watch(is_kept=is_kept)
    _give_sign(shared, run, 1, every=" 3")
    assert why_gone(shared, record, watch) is None
    clock[0] += 300  # the storage was away
    watch = Watch(is_kept=True) if is_kept else watch
    assert look(shared, record, watch, clock, 10) is None
    _give_sign(shared, run, 2, every=" 3")
    assert look(shared, record, watch, clock, 15) is None
    assert "for 20 s" in str(look(shared, record, watch, clock, 5))


# The schedule and the sensor of the rollups look less often than the sensor of ingestion.
@pytest.mark.parametrize(
    ("every", "away", "is_kept"),
    [(5, 70, False), (5, 70, True), (5, 3000, True), (30, 70, False), (60, 3000, True)],
)
def test_a_storage_that_was_away_ends_no_run_elsewhere_at_the_first_look_after_it(
    every, away, is_kept, shared, definitions, clock
):
    record = elsewhere(shared, definitions)
    run, watch = record.dagster_run, Watch(is_kept=is_kept)
    for number in range(3):
        _give_sign(shared, run, number)
        assert why_gone(shared, record, watch) is None
        # The sign before the outage may be as old as that: ten seconds, and the look's own time.
        assert look(shared, record, watch, clock, 15 if every == 5 else 0) is None
        clock[0] += away
        watch = Watch(is_kept=True) if is_kept else watch  # a new code server, maybe
        assert why_gone(shared, record, watch) is None
        if every == 5:  # the run has this time to give its next sign
            assert look(shared, record, watch, clock, 20) is None
    # One that died meanwhile is found by looks alone, however far apart they are.
    assert "gave no sign" in str(look(shared, record, watch, clock, 3 * max(every, 20), every))


def test_a_run_elsewhere_that_never_gave_one_is_left_to_that_machine(shared, definitions, clock):
    record = elsewhere(shared, definitions)
    watch = Watch()
    assert why_gone(shared, record, watch=watch) is None
    # Nor is it judged by the sign of the run that had the lane before it.
    with signs_of_life(shared, str(uuid.uuid4()), record.dagster_run.tags["iot/lane"], 10):
        pass
    assert look(shared, record, watch, clock, 300) is None


def test_a_run_elsewhere_is_judged_by_its_own_signs_beside_one_that_waits_in_its_lane(
    shared, definitions, clock
):
    record = elsewhere(shared, definitions)
    run, watch = record.dagster_run, Watch()
    place = zlib.crc32(run.run_id.encode()) % 16
    others = map(str, range(1000))
    waits = next(other for other in others if zlib.crc32(other.encode()) % 16 != place)
    with signs_of_life(shared, run.run_id, run.tags["iot/lane"], 10):
        pass
    assert why_gone(shared, record, watch=watch) is None
    with signs_of_life(shared, waits, run.tags["iot/lane"], 10):
        assert "gave no sign" in str(look(shared, record, watch, clock, 60))


def test_a_sensor_goes_on_counting_where_its_process_of_before_on_that_machine_stopped(
    shared, definitions, clock, monkeypatch
):
    record = elsewhere(shared, definitions)
    run = record.dagster_run
    with signs_of_life(shared, run.run_id, run.tags["iot/lane"], 10):
        pass
    assert look(shared, record, Watch(is_kept=True), clock, 50) is None
    clock[0] += 10
    assert why_gone(shared, record, Watch()) is None
    assert "for 60 s" in str(why_gone(shared, record, Watch(is_kept=True)))
    clock[0] = 30.0
    anew = Watch(is_kept=True)
    assert look(shared, record, anew, clock, 55) is None, "the machine began anew"
    assert "for 60 s" in str(look(shared, record, anew, clock, 5))
    monkeypatch.setattr("iot_pipeline.defs.alive.platform.node", lambda: "another")
    another = Watch(is_kept=True)
    assert look(shared, record, another, clock, 55) is None, "it has another clock"
    assert "for 60 s" in str(look(shared, record, another, clock, 5))


def test_a_run_that_waits_for_lanes_gives_signs_and_has_given_one_before_it_says_where_it_is(
    shared, definitions, monkeypatch
):
    run = add(shared, definitions)
    entered = []

    def enter(lane, context):
        entered.append((lane.tag, _sign_of(shared, run)))
        return False

    monkeypatch.setattr(ingest, "_enter", enter)
    context: Any = SimpleNamespace(instance=shared, run=run, selected_asset_keys={SENSOR_DATA})
    config = IngestConfig.model_validate({})
    assert list(ingest._ingest(context, config, PIPELINE)) == []
    assert entered == [(TOPIC, 1)]


def test_signs_go_on_when_dagsters_storage_was_away(shared, monkeypatch):
    given: list[str] = []

    def away(pairs):
        given.append(next(iter(pairs.values())))
        if len(given) < 3:
            raise OperationalError("INSERT", {}, Exception("no connection"))

    monkeypatch.setattr(shared.run_storage, "set_cursor_values", away)
    with signs_of_life(shared, "a-run", "a-lane", every_seconds=0.01):
        deadline = time.monotonic() + 30
        while len(given) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert given[:5] == [f"a-run {number} 0.01" for number in range(1, 6)]
    ended = len(given)
    time.sleep(0.1)
    assert len(given) == ended


def reexecution(instance, definitions, parent, run_config=None):
    # Tags as the UI hands them on.
    return add(
        instance,
        definitions,
        tags=instance.get_run_by_id(parent.run_id).tags,
        parent_run_id=parent.run_id,
        root_run_id=parent.run_id,
        run_config=parent.run_config if run_config is None else run_config,
    )


def test_a_reexecution_is_about_what_the_first_run_achieved(instance, definitions):
    parent = add(instance, definitions, tags={RANGES: "0:0-9 1:0-9", ACHIEVED: "0:0-5"})
    run = reexecution(instance, definitions, parent)
    assert inherited_ranges(instance, run) == [OffsetRange(0, 0, 5)]


def test_or_about_what_it_was_to_drain_when_it_achieved_nothing(instance, definitions):
    parent = add(instance, definitions, tags={RANGES: "0:0-9 1:0-9"})
    run = reexecution(instance, definitions, parent)
    assert inherited_ranges(instance, run) == [OffsetRange(0, 0, 9), OffsetRange(1, 0, 9)]


def test_config_that_a_person_changed_wins(instance, definitions):
    parent = add(instance, definitions, tags={ACHIEVED: "0:0-5"})
    changed = run_config_for([OffsetRange(0, 1, 2)])
    assert inherited_ranges(instance, reexecution(instance, definitions, parent, changed)) is None


def test_a_run_that_is_no_reexecution_inherits_nothing(instance, definitions):
    run = add(instance, definitions, tags={RANGES: "0:0-9"})
    assert inherited_ranges(instance, run) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, 10**12), st.integers(1, 10**6)).map(
            lambda t: OffsetRange(t[0], t[1], t[1] + t[2])
        )
    )
)
def test_a_tag_gives_back_the_ranges_it_was_made_of(ranges):
    assert parse_ranges(format_ranges(ranges)) == ranges


@given(
    st.from_regex(r"[a-z0-9:.-]{1,30}", fullmatch=True),
    st.integers(1, 2**22),
    st.integers(0, 2**33),
)
def test_a_tag_gives_back_the_process_it_was_made_of(host, pid, started):
    process = RunProcess(str(uuid.uuid4()), host, pid, started)
    assert RunProcess.parse(str(process)) == process


def test_a_tag_of_somebody_else_is_no_process():
    for text in ("", "a:b:c:d", "host:1", "::::"):
        assert RunProcess.parse(text) is None
