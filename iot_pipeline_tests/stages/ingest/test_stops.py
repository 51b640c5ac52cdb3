"""A partition that a run had to leave: others read which and why at once, until it drains again."""

from datetime import UTC, datetime

import pytest

from iot_pipeline.core.ingest.stopped import Stop, say_stops, still_stopped
from iot_pipeline.core.reading.lag import PartitionLag
from iot_pipeline.core.reading.offsets import Checkpoint, PartitionState
from iot_pipeline.errors import OffsetsExpiredError, RowsRefusedError
from iot_pipeline.stages.checks.lag_is_within_limit import judge
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.ingest.stops import read_standing
from iot_pipeline_tests.stages.world import T0, World

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def standing(world: World) -> list[Stop]:
    return read_standing(world.stops, world.ledger, "iot_data")


def a_world(rows: int = 30) -> World:
    world = World(partitions=2)
    for step in range(rows):
        for partition in (0, 1):
            world.write(partition, at=T0 + step)
        world.log.tick()
    return world


@pytest.mark.parametrize("stays", [True, False])
def test_a_run_says_why_a_partition_stands_still_before_its_end(stays: bool) -> None:
    world = a_world()
    world.store.refuse = lambda device, _ms: device == "device_1"
    world.log.poll_records = 30
    # The run ends as soon as it has said so.
    follow = Follow(seconds=20.0, should_stop=lambda: bool(world.stops.kept)) if stays else None
    with pytest.raises(RowsRefusedError):
        world.ingest(follow=follow)
    (stop,) = standing(world)
    assert (stop.partition, stop.next_offset, stop.epoch) == (1, 0, 0)
    assert "rows of Kafka partition 1" in stop.cause

    # Since when it stands still is known, whatever runs come meanwhile.
    with pytest.raises(RowsRefusedError):
        world.ingest()
    assert [again.since for again in standing(world)] == [stop.since]

    world.store.refuse = lambda _device, _ms: False
    world.ingest()
    assert standing(world) == []


def test_what_a_plan_cannot_read_on_is_said_too_and_what_is_recorded_as_a_loss_is_not() -> None:
    world = a_world()
    world.ingest()
    world.write(0, at=T0 + 100)
    world.write(0, at=T0 + 101)
    world.log.delete_before(0, 31)
    with pytest.raises(OffsetsExpiredError):
        world.ingest()
    (stop,) = standing(world)
    assert (stop.partition, stop.next_offset) == (0, 30)
    world.ingest(on_expired="record")
    assert standing(world) == []
    fresh = a_world()
    fresh.ingest()
    fresh.write(0, at=T0 + 100)
    fresh.log.delete_before(0, 31)
    fresh.ingest(on_expired="record")
    assert not fresh.stops.kept


def stop_at(partition: int, offset: int, epoch: int = 0) -> Stop:
    return Stop(partition, epoch, offset, NOW, "run", f"reading t[{partition}]: it is broken")


def test_it_holds_until_the_checkpoint_is_beyond_it_or_in_another_epoch() -> None:
    stops = [stop_at(0, 10)]
    for offset, epoch, holds in [(9, 0, True), (10, 0, True), (11, 0, False), (10, 1, False)]:
        found = still_stopped(stops, {0: Checkpoint(0, offset, epoch, "id")})
        assert bool(found) is holds, (offset, epoch)
    assert still_stopped(stops, {}) == []


def lag(partition: int, offsets: int) -> PartitionLag:
    return PartitionLag(PartitionState("t", partition, 0, 10 + offsets, 10), 0.5)


def test_the_check_is_an_error_that_names_them_whatever_the_limit() -> None:
    verdict = judge([lag(0, 7), lag(1, 0)], 60.0, [stop_at(0, 10), stop_at(1, 10)])
    assert (verdict.passed, verdict.severity.value) == (False, "error")
    assert "Partition 0 stands still at offset 10 since 2026-03-10T00:00:00Z" in verdict.sentence
    assert "7 offsets wait there: reading t[0]: it is broken" in verdict.sentence
    assert "Partition 1" not in verdict.sentence, "nothing waits in it"
    assert judge([lag(0, 7)], 60.0).passed


def test_of_many_the_first_are_told_in_full() -> None:
    stops = [stop_at(partition, 10) for partition in range(200)]
    said = say_stops(stops, dict.fromkeys(range(200), 1))
    assert said.count("stands still") == 3
    assert "`iot lag`" in said
