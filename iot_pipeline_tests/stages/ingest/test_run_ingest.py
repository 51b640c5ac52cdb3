"""A whole run: the order of its parts, and that what it says of itself is true."""

import contextlib
import itertools

import pytest

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import (
    CassandraUnavailableError,
    ConfigurationError,
    KafkaUnavailableError,
    OffsetsExpiredError,
    SchemaMismatchError,
)
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.run_ingest import (
    LOOK_AGAIN_SECONDS,
    IngestOutcome,
    IngestRequest,
    Watcher,
    new_outcome,
    run_ingest,
)
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.fakes_fleet import kept_state
from iot_pipeline_tests.stages.faults import Crash, Faults, How
from iot_pipeline_tests.stages.world import CONFIG, T0, World, WorldPorts


def a_world(records: int = 8) -> World:
    world = World(partitions=2)
    for step in range(records):
        for partition in range(2):
            world.write(partition, at=T0 + step)
        world.log.tick()
    return world


def an_outcome(world: World) -> IngestOutcome:
    return new_outcome(WorldPorts(world, world.ports()))


class Diary(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def planned(self, plan):
        self.lines.append(f"planned {len(plan.replay)} below, {len(plan.ingest)} above")

    def replayed(self, progress):
        self.lines.append("replayed")

    def committed(self, outcome):
        self.lines.append("committed")

    def lost(self, ranges):
        self.lines.append(f"lost {', '.join(map(str, ranges))}")


def test_without_offsets_it_plans_from_the_checkpoints_to_the_end():
    world = a_world()
    outcome = world.ingest()
    assert outcome.achieved == [OffsetRange(0, 0, 8), OffsetRange(1, 0, 8)]
    assert outcome.plan is not None
    assert outcome.drained.total.stored == 16
    world.check_all_is_drained()
    assert world.ingest().achieved == []


def test_what_a_person_asks_for_below_the_checkpoint_is_replayed_and_then_the_rest_is_drained():
    world = a_world()
    world.ingest(offsets=[OffsetRange(0, 0, 4)])
    diary = Diary()
    outcome = world.ingest(offsets=[OffsetRange(0, 2, 8)], watcher=diary)
    assert outcome.replayed.achieved == [OffsetRange(0, 2, 4)]
    assert outcome.drained.ranges == [OffsetRange(0, 4, 8)]
    assert outcome.overtaken_by == []
    assert diary.lines[0] == "planned 1 below, 1 above"
    assert diary.lines.index("replayed") < diary.lines.index("committed")
    world.check()


def test_what_a_sensor_planned_and_another_run_has_ingested_meanwhile_is_not_replayed():
    world = a_world()
    world.ingest()  # the other run, called run-1
    world.write(0)
    world.log.tick()
    outcome = world.ingest(offsets=[OffsetRange(0, 2, 9)], is_planned=True)
    assert outcome.overtaken_by == ["partition 0: run run-1 is at offset 8"]
    assert outcome.replayed.planned == []
    assert outcome.drained.ranges == [OffsetRange(0, 8, 9)]


def test_a_run_that_was_planned_for_the_sound_partitions_fails_for_the_others():
    world = a_world()
    world.plan()
    world.log.delete_before(1, 3)
    outcome = an_outcome(world)
    with pytest.raises(OffsetsExpiredError, match=r"iot_data\[1\]"):
        world.ingest(offsets=[OffsetRange(0, 0, 8)], is_planned=True, outcome=outcome)
    assert outcome.drained.ranges == [OffsetRange(0, 0, 8)]
    world.ingest(offsets=[OffsetRange(0, 2, 8)])  # a person asked for this one alone


def test_a_run_drains_what_it_can_reach_and_fails_for_a_partition_whose_leader_does_not_answer():
    world = a_world()
    world.plan()
    world.log.silent = {1}
    outcome = an_outcome(world)
    with pytest.raises(KafkaUnavailableError, match=r"iot_data\[1\]"):
        world.ingest(outcome=outcome)
    assert outcome.drained.ranges == [OffsetRange(0, 0, 8)]
    # That is nothing to be told of any more once it answers.
    assert world.stops.kept == {}
    world.log.silent = set()
    assert world.ingest().drained.ranges == [OffsetRange(1, 0, 8)]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_run_that_stays_looks_every_minute_whether_the_leader_answers(comes_back):
    world = a_world()
    world.plan()
    world.log.silent = {1}
    seconds = itertools.count()
    looked_at = []

    class Telling(Watcher):
        def planned(self, plan):
            looked_at.append(next(seconds))
            if comes_back:
                world.log.silent = set()

    def clock() -> float:
        return float(next(seconds))

    follow = Follow(seconds=200.0, commit_seconds=0.0, clock=clock)
    request = IngestRequest("iot_data", Run("run", writer_id(1)), CONFIG, follow=follow)
    outcome = an_outcome(world)
    with contextlib.nullcontext() if comes_back else pytest.raises(KafkaUnavailableError):
        run_ingest(
            request,
            WorldPorts(world, world.ports()),
            outcome=outcome,
            watcher=Telling(),
            clock=clock,
        )
    assert len(looked_at) == (2 if comes_back else 4)
    assert looked_at[1] - looked_at[0] < LOOK_AGAIN_SECONDS + 10
    drained = {item.partition for item in outcome.drained.ranges}
    assert drained == ({0, 1} if comes_back else {0})
    world.check()


def test_the_caller_is_told_of_a_loss_before_the_run_plans_again():
    world = a_world()
    world.plan()
    world.log.delete_before(1, 3)
    diary = Diary()
    outcome = world.ingest(on_expired="record", watcher=diary)
    assert outcome.lost == [OffsetRange(1, 0, 3)]
    assert diary.lines[:2] == ["lost 1:0-3", "planned 0 below, 2 above"]


def test_nothing_is_written_into_a_table_that_would_forget_it():
    world = World(partitions=2)
    world.write(0, at=T0)
    world.live_seconds = 45
    with pytest.raises(SchemaMismatchError, match="forgets rows 45 s after") as error:
        world.ingest()
    assert "Nothing was written" in str(error.value)
    assert "`iot setup` says what to alter" in str(error.value)
    assert not world.store.rows()
    world.live_seconds = 0
    world.ingest()
    world.check_all_is_drained()


def test_a_run_that_stays_notices_that_its_table_was_altered():
    world = World(partitions=1)
    clock = iter(range(0, 1_000, 3))

    def one_more() -> bool:
        world.write(0, at=T0 + world.log.end(0))
        world.log.tick()
        world.live_seconds = 45 if world.log.end(0) > 20 else 0
        return False

    follow = Follow(seconds=20.0, commit_seconds=0.0, should_stop=one_more)
    request = IngestRequest("iot_data", Run("run", writer_id(1)), CONFIG, follow=follow)
    with pytest.raises(SchemaMismatchError, match="may die: `iot audit` says which"):
        run_ingest(request, WorldPorts(world, world.ports()), clock=lambda: float(next(clock)))
    world.check()


def test_a_run_that_came_to_no_plan_knows_nothing_and_says_so():
    world = a_world()
    outcome = an_outcome(world)
    with pytest.raises(KafkaUnavailableError):
        world.ingest(Faults(1, How.NOT_SENT, only="log.watermarks"), outcome=outcome)
    assert outcome.plan is None
    assert outcome.achieved == []


@pytest.mark.parametrize("call", range(1, 40, 3))
def test_wherever_it_is_cut_off_what_it_says_it_achieved_is_in_the_ledger(call):
    world = a_world()
    outcome = an_outcome(world)
    with contextlib.suppress(Crash):
        world.ingest(Faults(call, How.CRASH_AFTER), outcome=outcome)
    entries = world.ledger.read_entries("iot_data", range(2))
    found = [OffsetRange(e.partition, e.start_offset, e.end_offset) for e in entries]
    assert sorted(outcome.achieved, key=str) == sorted(found, key=str)
    world.check()


@pytest.mark.parametrize("failure", [CassandraUnavailableError("away"), ConfigurationError("no")])
def test_readings_are_stored_whatever_is_wrong_with_what_is_kept_of_the_devices(failure):
    world = a_world()
    world.states.failure = failure
    assert world.ingest().drained.total.stored == 16
    world.check_all_is_drained()


def test_a_reading_is_observed_once_however_often_its_commit_is_tried():
    world = a_world()
    for _ in range(3):
        with contextlib.suppress(Crash):
            world.ingest(Faults(1, How.CRASH_BEFORE, only="ledger.send_commit"))
    outcome = world.ingest()
    assert outcome.drained.total.stored == 16
    states = {n: kept_state(content) for n, content in world.states.states.items()}
    counted = sum(state.rows + state.backfilled for state in states.values() if state)
    assert counted == 16
