"""What Kafka deleted before it was read: halted on, or recorded, before and during a run."""

import pytest

from iot_pipeline.core.ledger.chain import Outcome, find_flaws
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import OffsetsExpiredError
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.ingest.losses import find_expired, record_losses
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.faults import Faults, How
from iot_pipeline_tests.stages.world import T0, World

LOSER = Run("the run", writer_id(50))


def a_world(records: int = 20) -> World:
    world = World(partitions=2)
    for step in range(records):
        for p in range(2):
            world.write(p, at=T0 + step)
        world.write_bad(0)
        world.log.tick()
    return world


def go_past(world: World, policy: str, faults: Faults | None = None) -> list[OffsetRange]:
    return world.ingest(faults=faults, run=LOSER, on_expired=policy).lost


def check(world: World, lost: list[OffsetRange]) -> None:
    entries = world.ledger.read_entries("iot_data", range(2))
    checkpoints = world.ledger.read_checkpoints("iot_data", range(2))
    assert find_flaws(entries, checkpoints.values()) == []
    assert {p: c.next_offset for p, c in checkpoints.items()} == {
        p: world.log.end(p) for p in range(2)
    }
    expired = [entry for entry in entries if entry.outcome is Outcome.EXPIRED]
    assert [OffsetRange(e.partition, e.start_offset, e.end_offset) for e in expired] == lost
    assert all(entry.counts.accounted == 0 for entry in expired)
    gone = {(item.partition, at) for item in lost for at in range(item.start, item.end)}
    rows, letters = world.store.rows(), world.letters.by_place()
    for record in world.log.records():
        place = (record.partition, record.offset)
        if record.value == b"not json" and place not in gone:
            assert place in letters, f"{place} has no dead letter"
    assert len(rows) + len(letters) == sum(e.counts.accounted for e in entries)


def test_by_default_a_loss_stops_its_partition_and_the_others_are_drained():
    world = a_world()
    world.plan()
    world.log.delete_before(0, 7)
    with pytest.raises(OffsetsExpiredError, match="offsets 0 to 6"):
        go_past(world, "halt")
    assert find_expired(world.log, world.ledger, "iot_data") == [OffsetRange(0, 0, 7)]
    checkpoints = world.ledger.read_checkpoints("iot_data", range(2))
    assert {p: c.next_offset for p, c in checkpoints.items()} == {0: 0, 1: 20}
    with pytest.raises(OffsetsExpiredError, match="offsets 0 to 6"):
        go_past(world, "halt")  # as long as it lasts, every run says so


@pytest.mark.parametrize("policy", ["halt", "record"])
def test_a_run_that_follows_goes_on_with_the_others_and_fails_at_its_end(policy):
    world = a_world()
    faults = Faults(2, How.HOOK, only="source.poll", hook=lambda: world.log.delete_before(0, 30))
    goes_on = [lambda: world.write(1, at=T0 + 1000), lambda: world.write(1, at=T0 + 2000)]

    def is_over() -> bool:
        checkpoints = world.ledger.read_checkpoints("iot_data", range(2))
        if len(checkpoints) < 2 or checkpoints[1].next_offset < world.log.end(1):
            return False
        if policy == "record" and checkpoints[0].next_offset < world.log.end(0):
            return False
        if not goes_on:
            return True
        goes_on.pop()()
        world.log.tick()
        return False

    follow = Follow(seconds=20.0, commit_seconds=0.0, should_stop=is_over)
    if policy == "record":
        assert world.ingest(faults, LOSER, on_expired=policy, follow=follow).lost
    else:
        with pytest.raises(OffsetsExpiredError, match=r"iot_data\[0\]"):
            world.ingest(faults, LOSER, on_expired=policy, follow=follow)
    assert not goes_on
    assert world.ledger.checkpoints["iot_data", 1].next_offset == 22


def test_a_loss_before_the_run_is_recorded_once_and_the_rest_is_drained():
    world = a_world()
    world.plan()
    world.log.delete_before(0, 7)
    lost = go_past(world, "record")
    assert lost == [OffsetRange(0, 0, 7)]
    check(world, lost)
    assert record_losses(world.log, world.ledger, "iot_data", LOSER, 0.2) == []


@pytest.mark.parametrize("at_poll", range(1, 12))
def test_a_loss_during_the_run_begins_where_it_had_written(at_poll):
    world = a_world()
    faults = Faults(
        at_poll, How.HOOK, only="source.poll", hook=lambda: world.log.delete_before(0, 30)
    )
    lost = go_past(world, "record", faults)
    assert all(item.partition == 0 and item.end == 30 for item in lost)
    assert sum(item.span for item in lost) <= 30
    check(world, lost)


def test_a_loss_that_another_run_recorded_first_is_not_recorded_again():
    world = a_world()
    world.plan()
    world.log.delete_before(0, 7)
    other = Run("the other run", writer_id(51))
    assert record_losses(world.log, world.ledger, "iot_data", other, 0.2)
    assert go_past(world, "record") == []
    check(world, [OffsetRange(0, 0, 7)])


def test_what_expired_in_an_added_partition_before_it_was_seen_is_recorded():
    world = a_world()
    world.drain()
    world.partitions = world.log.partitions = 3
    for step in range(4):
        world.write(2, at=T0 + step)
    world.log.delete_before(2, 3)
    assert go_past(world, "record") == [OffsetRange(2, 0, 3)]
    assert world.ledger.checkpoints["iot_data", 2].next_offset == 4
