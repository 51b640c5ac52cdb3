"""A drain: what it does, in which order, and what ends it."""

import copy
from dataclasses import replace

import pytest

from iot_pipeline.core.ingest.open_milliseconds import OpenMilliseconds
from iot_pipeline.core.reading import columns
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.errors import (
    CheckpointWentBackError,
    OffsetsExpiredError,
    PermanentError,
    PipelineError,
    TopicChangedError,
)
from iot_pipeline.stages.ingest import micro_batch
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline_tests.stages.fakes import NOW_MS
from iot_pipeline_tests.stages.faults import Crash, Faults, How
from iot_pipeline_tests.stages.good_drain import every_call
from iot_pipeline_tests.stages.world import CONFIG, LARGE, T0, World, a_busy_world

# What a drain does.


@pytest.mark.parametrize("looks", [0, 1, 5])
@pytest.mark.parametrize("poll_records", [1, 3, 100])
@pytest.mark.parametrize("micro_batch_records", [1, 4, 1000])
def test_a_drain_accounts_for_every_offset(looks, poll_records, micro_batch_records):
    world = a_busy_world(looks)
    world.log.poll_records = poll_records
    progress = world.drain(config=replace(CONFIG, micro_batch_records=micro_batch_records))
    world.check_all_is_drained()
    assert progress.ranges == progress.planned
    assert progress.total.accounted == progress.planned_offsets == progress.done_offsets
    assert progress.total.rejected == 3
    assert world.log.mirrored == {item.partition: item.end for item in progress.ranges}
    entries = world.ledger.read_entries("iot_data", range(2))
    assert len(entries) == 2, "a run is one row per partition, however many micro-batches"


def test_draining_twice_is_draining_once():
    world = a_busy_world()
    world.drain()
    before = copy.deepcopy((world.store.cells, world.ledger.entries, world.letters.delivered))
    again = world.drain()
    assert (again.micro_batches, again.done_offsets) == (0, 0)
    assert (world.store.cells, world.ledger.entries, world.letters.delivered) == before


def test_requests_on_their_way_are_told_while_they_are(monkeypatch):
    world, progress, seen = a_busy_world(5), DrainProgress(), []
    monkeypatch.setattr(
        type(world.store),
        "wait",
        lambda store, _: seen.append((progress.in_flight(), store.in_flight)),
    )
    world.drain(progress=progress)
    assert max(told for told, _ in seen) > 1
    assert all(told == there for told, there in seen)
    assert progress.in_flight() == 0


def test_what_arrives_after_the_plan_is_left_to_the_next():
    world = World()
    world.write(at=T0)
    plan = world.plan()
    world.log.tick()
    world.write(at=T0 + 1)
    assert world.drain(plan).total.stored == 1
    assert world.drain().total.stored == 1
    world.check_all_is_drained()


def test_a_range_of_holes_alone_is_committed():
    world = World()
    for _ in range(5):
        world.log.append_hole(0)
    progress = world.drain()
    assert progress.total.holes == 5
    world.check_all_is_drained()


def test_an_open_transaction_is_left_to_the_next_run():
    world = World()
    world.write(at=T0)
    world.log.open_transaction_at[0] = 1
    world.write(at=T0 + 1)
    assert world.drain().ranges == [OffsetRange(0, 0, 1)]
    del world.log.open_transaction_at[0]
    assert world.drain().ranges == [OffsetRange(0, 1, 2)]
    world.check_all_is_drained()


def test_what_has_outlived_its_retention_is_aged_out_and_not_written():
    world = World()
    world.write(at=T0)
    world.log.tick(2 * 86_400_000)
    world.write(at=T0 + 1)
    progress = world.drain(
        config=replace(CONFIG, retention=Retention(1.0)),
        wall_clock=lambda: NOW_MS / 1000 + 2 * 86_400,
    )
    assert (progress.total.aged_out, progress.total.stored) == (1, 1)
    assert len(world.store.rows()) == 1
    world.check_the_ledger_adds_up()


def test_each_device_has_the_retention_of_its_group():
    world = World()
    for device in ("short", "long", "other"):
        world.write(device=device, at=T0)
    world.log.tick(2 * 86_400_000)
    groups = [
        DeviceGroup("short", ("short",), retention_days=1),
        DeviceGroup("long", ("long",), retention_days=0),
    ]
    progress = world.drain(
        config=replace(CONFIG, retention=Retention.of(3, groups)),
        wall_clock=lambda: NOW_MS / 1000 + 2 * 86_400,
    )
    assert (progress.total.aged_out, progress.total.stored) == (1, 2)
    assert {name for name, _ in world.store.rows()} == {"long", "other"}
    world.check_the_ledger_adds_up()


def test_unknown_fields_are_counted():
    world = World()
    value = world.write(at=T0).value
    assert value is not None
    world.log.append(0, value[:-1] + b',"more":1}')
    assert world.drain().unknown_fields == 1


# The order that keeps readings safe, observed.


@pytest.mark.parametrize("looks", [0, 3])
def test_rows_are_acknowledged_then_dead_letters_delivered_then_the_checkpoint_moves(looks):
    world = a_busy_world(looks)
    world.store.refuse = lambda device, ms: device == "device_1b" and ms == int(T0 * 1000)
    world.drain()
    assert [kind for kind, _ in world.journal].count("delivered") >= 2
    unanswered, safe = 0, set()
    superseded = set()
    rows_ever = {place for kind, places in world.journal if kind == "acknowledged"
                 for place in places}  # fmt: skip
    letters_ever = set(world.letters.by_place())
    for record in world.log.records():
        place = (record.partition, record.offset)
        if place not in rows_ever | letters_ever:
            superseded.add(place)
    done = {0: 0, 1: 0}
    for kind, what in world.journal:
        if kind == "sent":
            unanswered += 1
        elif kind == "acknowledged":
            unanswered -= 1
            safe |= what
        elif kind == "delivered":
            assert unanswered == 0, "dead letters went out before the rows were acknowledged"
            safe |= what
        else:
            assert unanswered == 0, "the checkpoint moved before the rows were acknowledged"
            partition, end = what
            below = {
                (r.partition, r.offset)
                for r in world.log.records()
                if r.partition == partition and done[partition] <= r.offset < end
            }
            assert below <= safe | superseded, "the checkpoint moved past unwritten records"
            done[partition] = end


def test_a_superseded_record_is_counted_with_a_winner_that_is_already_written():
    # The winner lies in the other partition, whose commit is never made.
    world = World(partitions=2)
    world.write(0, device="d", at=T0, temperature=1.0)
    world.log.tick()
    world.write(1, device="d", at=T0, temperature=2.0)
    faults = Faults(2, How.CRASH_BEFORE, only="ledger.send_commit")
    with pytest.raises(Crash):
        world.drain(faults=faults, config=replace(CONFIG, micro_batch_records=100))
    world.check()
    world.drain()
    world.check_all_is_drained()
    assert world.store.rows() == {("d", int(T0 * 1000)): (2.0, 50.0)}


# The topic is not what it was.


def test_a_topic_recreated_at_any_call_is_not_written():
    for at in every_call():
        world = a_busy_world()
        plan = world.plan()
        old = {(r.partition, r.offset): r for r in world.log.records()}

        def recreate(world: World = world) -> None:
            world.log.recreate()
            world.log.tick(1000)
            for _ in range(20):
                for p in range(2):
                    world.write(p, device="new", at=T0 + 5000)

        stopped = False
        try:
            world.drain(plan, faults=Faults(at, How.HOOK, hook=recreate))
        except TopicChangedError:
            stopped = True
        if not stopped:
            ends = {p: c.next_offset for (_, p), c in world.ledger.checkpoints.items()}
            assert ends == {item.partition: item.end for item in plan.ingest}, (
                "only a run that had read all of the old topic ends well"
            )
        assert not any(device == "new" for device, _ in world.store.rows()), f"call {at}"
        assert all(
            old[place] == letter.record for place, letter in world.letters.by_place().items()
        )


def test_records_deleted_while_they_are_read_stop_their_partition_and_no_other():
    world = a_busy_world()
    faults = Faults(2, How.HOOK, only="source.poll", hook=lambda: world.log.delete_before(0, 9))
    stopped = world.drain(faults=faults).stopped
    assert [(p, type(why)) for p, why in stopped.items()] == [(0, OffsetsExpiredError)]
    assert world.ledger.checkpoints["iot_data", 0].next_offset < 9
    assert world.ledger.checkpoints["iot_data", 1].next_offset == world.log.end(1)
    world.check()


def test_a_partition_that_another_run_has_is_left_and_the_others_are_drained():
    world = a_busy_world()
    plan = world.plan()

    def overtake() -> None:
        before = world.ledger.checkpoints["iot_data", 0]
        ahead = replace(before, next_offset=before.next_offset + 1)
        world.ledger.checkpoints["iot_data", 0] = ahead

    faults = Faults(1, How.HOOK, only="ledger.send_commit", hook=overtake)
    progress = world.drain(plan, faults)
    assert [one.partition for one in progress.fenced] == [0]
    assert progress.stopped == {}
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 1
    assert world.ledger.checkpoints["iot_data", 1].next_offset == world.log.end(1)


def test_a_checkpoint_that_went_back_stops_its_partition_and_no_other():
    world = a_busy_world()
    plan = world.plan()
    faults = Faults(
        2,
        How.HOOK,
        only="ledger.send_commit",
        hook=lambda: world.ledger.checkpoints.pop(("iot_data", 0)),
    )
    stopped = world.drain(plan, faults).stopped
    assert [(p, type(why)) for p, why in stopped.items()] == [(0, CheckpointWentBackError)]
    assert world.ledger.checkpoints["iot_data", 1].next_offset == world.log.end(1)


def test_a_committed_record_that_was_not_given_out_stops_the_run_before_anything_is_written():
    world = World()
    for step in range(4):
        world.write(at=T0 + step)
    world.log.skip.add((0, 2))
    with pytest.raises(PermanentError, match="were not given to the consumer"):
        world.drain(config=replace(CONFIG, micro_batch_records=100))
    assert not world.store.rows()
    world.check()


# Memory.


def test_many_large_dead_letters_end_a_micro_batch_early(monkeypatch):
    monkeypatch.setattr(micro_batch, "MAX_KEPT_BYTES", 10_000)
    world = World()
    for _ in range(40):
        world.log.append(0, b"x" * 1000)
        world.log.tick()
    most = []
    deliver = world.letters.deliver
    monkeypatch.setattr(
        type(world.letters), "deliver", lambda self, *a: (most.append(len(a[2])), deliver(*a))[1]
    )
    world.drain(config=LARGE)
    assert sum(most) == 40
    assert max(most) < 15
    world.check_all_is_drained()


def a_fleet(devices: int, rounds: int) -> World:
    world = World()
    world.log.poll_records = 5
    for step in range(rounds):
        for number in range(devices):
            world.write(device=f"d{number}", at=T0 + step)
            world.log.tick()
    return world


# Records come five at a time, so one that takes four takes five.
@pytest.mark.parametrize(
    ("memory", "least", "most"), [(0, 20, 25), (1 << 30, 1, 2), (5_000, 3, 10)]
)
def test_a_micro_batch_grows_with_the_devices_as_far_as_memory_allows(memory, least, most):
    config = replace(CONFIG, micro_batch_records=4, micro_batch_bytes=memory)
    world = a_fleet(10, 10)
    progress = world.drain(config=config)
    assert least <= progress.micro_batches <= most
    world.check_all_is_drained()


def test_devices_too_many_to_be_remembered_are_drained_all_the_same(monkeypatch):
    monkeypatch.setattr(columns, "_MOST_DEVICES", 3)
    world = a_fleet(10, 6)
    seen = []
    world.drain(observe=lambda batch: seen.append(batch.groups.columns.codes))
    assert len(set(map(id, seen))) > 3, "forgotten between micro-batches"
    assert len({code for codes in seen for code in codes}) == 10
    assert set(world.store.devices[int(T0) // 86_400]) == {f"d{number}" for number in range(10)}
    world.check_all_is_drained()


@pytest.mark.parametrize(
    ("limit", "value", "is_forgotten"),
    [("MAX_RECORDS_OF_ONE_MS", 10, False), ("MAX_HELD_BYTES", 4000, True)],
)
def test_a_millisecond_too_large_to_hold_is_split_and_counted_once_it_is_too_large_to_remember(
    monkeypatch, limit, value, is_forgotten
):
    monkeypatch.setattr(micro_batch, limit, value)
    world = World()
    for step in range(60):
        world.write(at=T0 + step)
    progress = world.drain(config=replace(CONFIG, micro_batch_records=5))
    assert progress.micro_batches >= 3
    assert bool(progress.split_ms) is is_forgotten
    world.check_all_is_drained()


def test_a_millisecond_is_not_split_by_the_size_of_a_micro_batch():
    world = World()
    for step in range(60):
        world.write(at=T0 + step)
    progress = world.drain()
    assert (progress.split_ms, progress.micro_batches) == (0, 1)


def test_what_a_partition_ended_with_is_kept_no_longer_than_it_may_meet_a_rival(monkeypatch):
    """Of hundreds of partitions it would be their backlogs, until the run ends."""
    kept = []

    class Watched(OpenMilliseconds):
        def __init__(self, *settled):
            super().__init__(*settled)
            kept.append(self)

    monkeypatch.setattr(micro_batch, "OpenMilliseconds", Watched)
    world = World(partitions=3)
    for partition in range(3):
        for step in range(20):
            world.write(partition, at=T0 + step)
    world.drain()
    (waiting,) = kept
    assert (waiting.total, waiting._settled) == (0, {})
    world.check_all_is_drained()


# Interruptions.


def test_what_was_achieved_is_known_to_the_caller_of_an_interrupted_drain():
    world = a_busy_world()
    progress = DrainProgress([])
    with pytest.raises(Crash):
        world.drain(
            faults=Faults(4, How.CRASH_BEFORE, only="ledger.send_commit"), progress=progress
        )
    assert progress.done_offsets > 0
    entries = world.ledger.read_entries("iot_data", range(2))
    assert progress.done_offsets <= sum(entry.span for entry in entries)
    assert progress.seconds > 0


def test_the_source_is_closed_whatever_ends_the_drain():
    for at in every_call()[1:]:
        world = a_busy_world()
        with pytest.raises((Crash, PipelineError)):
            world.drain(faults=Faults(at, How.CRASH_BEFORE))
        assert world.log.open_sources == 0


def test_progress_is_told_after_every_commit():
    world = a_busy_world()
    told = []
    progress = world.drain(on_progress=lambda p: told.append(p.done_offsets))
    assert told == sorted(set(told))
    assert told[-1] == progress.planned_offsets
    assert len(told) == progress.micro_batches > 1
