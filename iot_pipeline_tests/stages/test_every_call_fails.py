"""Call number k fails, for every k: replays, replays of dead letters, rebases and deletions.

What ingestion does then is in test_ingest.py. After any failure the same command again ends where
it would have ended without.
"""

import copy
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from iot_pipeline.core.ledger.chain import LOSSES, Outcome, find_flaws
from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import Window
from iot_pipeline.errors import PermanentError, PlanError, TransientError
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.deletions import delete_readings
from iot_pipeline.stages.proof.rebase import rebase
from iot_pipeline.stages.proof.replay import plan_replay, replay
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline_tests.stages.fake_rows import FailingSensorData, FakeDeviceDays, FakeSensorData
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.faults import Crash, FailingLedger, FailingLog, Faults, How
from iot_pipeline_tests.stages.outside import FakeDeletions
from iot_pipeline_tests.stages.proof.test_replay_dead_letters import Letters
from iot_pipeline_tests.stages.world import CONFIG, T0, World, a_busy_world

TRANSIENT = (How.NOT_SENT, How.NOT_APPLIED, How.ANSWER_LOST)
EVERY_HOW = (*TRANSIENT, How.PERMANENT, How.CRASH_BEFORE, How.CRASH_AFTER)
FAILURES = (PermanentError, TransientError, Crash)
EDGES = datetime.fromtimestamp(T0 - 10, UTC), datetime.fromtimestamp(T0 + 10, UTC)


# Replay.


def replay_all(world: World, faults: Faults) -> ReplayProgress:
    ranges = [OffsetRange(p, 0, world.log.end(p)) for p in range(2)]
    plan = plan_replay(world.log, world.ledger, "iot_data", ranges).plan
    rows = FailingSensorData(FakeSensorData(world.store), faults)
    return replay(
        plan, world.ports(faults), world.proof(rows), Run("replay", writer_id(99)), CONFIG
    )


def a_damaged_world() -> tuple[World, dict]:
    world = a_busy_world()
    world.drain()
    whole = copy.deepcopy(world.store.cells)
    for place in list(world.store.cells)[::3]:
        del world.store.cells[place]
    return world, whole


def calls_of(action) -> list[str]:
    faults = Faults()
    action(faults)
    return faults.calls


def test_every_seam_of_a_replay_is_called():
    seams = set(calls_of(lambda faults: replay_all(a_damaged_world()[0], faults)))
    assert seams >= {
        "log.open_ranges",
        "log.topic_id",
        "source.poll",
        "store.send_rows",
        "rows.start_range",
        "ledger.record_replay",
    }
    assert not seams & {"ledger.send_commit", "dead_letters.deliver", "log.mirror"}


@pytest.mark.parametrize("how", EVERY_HOW)
def test_a_replay_that_fails_at_any_call_harms_nothing_and_ends_well_the_second_time(how):
    calls = len(calls_of(lambda faults: replay_all(a_damaged_world()[0], faults)))
    for at in range(1, calls + 1):
        world, whole = a_damaged_world()
        before = copy.deepcopy(world.ledger.checkpoints), copy.deepcopy(world.ledger.entries)
        letters = list(world.letters.delivered)
        try:
            replay_all(world, Faults(at, how))
            assert how in TRANSIENT, f"call {at} was to fail for good"
        except FAILURES:
            assert how not in TRANSIENT, f"call {at} is retried"
            # A record whose winner comes in a later micro-batch may be there until that is.
            for place, cells in world.store.cells.items():
                assert all(cells[name][0] <= whole[place][name][0] for name in cells)
            replay_all(world, Faults())
        assert world.store.cells == whole, f"call {at}"
        assert (world.ledger.checkpoints, world.ledger.entries) == before
        assert world.letters.delivered == letters
        assert world.log.open_sources == 0 or how in (How.ANSWER_LOST, How.CRASH_AFTER)


# Dead letters.


def some_letters() -> Letters:
    letters = Letters()
    for number in range(6):
        letters.hot(f"d{number % 2}", T0 + number)
    letters.add(b"still bad", "not_json")
    return letters


def replay_letters(letters: Letters, faults: Faults):
    rows = FailingSensorData(FakeSensorData(letters.world.store), faults)
    return letters.replay(faults=faults, rows=rows)


@pytest.mark.parametrize("how", EVERY_HOW)
def test_a_replay_of_dead_letters_that_fails_at_any_call_ends_well_the_second_time(how):
    seams = calls_of(lambda faults: replay_letters(some_letters(), faults))
    assert {"log.open_ranges", "rows.start_range", "ledger.record_replay"} <= set(seams)
    expected = some_letters()
    replay_letters(expected, Faults())
    for at in range(1, len(seams) + 1):
        letters = some_letters()
        try:
            result = replay_letters(letters, Faults(at, how))
        except FAILURES:
            for place, cells in letters.world.store.cells.items():
                assert cells == expected.world.store.cells[place]
            result = replay_letters(letters, Faults())
        assert letters.world.store.cells == expected.world.store.cells, (
            f"call {at}, {seams[at - 1]}"
        )
        assert (result.letters, result.still_rejected) == (7, {"not_json": 1})
        assert result.stored + result.present == 6
        assert letters.log.open_sources == 0 or how in (How.ANSWER_LOST, How.CRASH_AFTER)


# Rebase.


def a_world_made_again(partitions: int = 3) -> World:
    world = a_busy_world()
    world.drain()
    world.log.recreate()
    world.partitions = world.log.partitions = partitions
    for p in range(partitions):
        for step in range(4):
            world.write(p, device=f"new_{p}", at=T0 + step)
        world.log.tick()
    return world


def rebase_all(world: World, faults: Faults, at: str = "earliest"):
    log, ledger = FailingLog(world.log, faults), FailingLedger(world.ledger, faults)
    run = Run("person", writer_id(3))
    return rebase(
        log,
        ledger,
        "iot_data",
        parse_target([at]),
        run,
        topic_id=world.log.uuid,
        retry_seconds=60.0,
    )


def check_rebased(world: World, rows: int) -> None:
    partitions = range(world.partitions)
    world.drain()
    checkpoints = world.ledger.read_checkpoints("iot_data", partitions)
    entries = world.ledger.read_entries("iot_data", partitions)
    assert find_flaws(entries, checkpoints.values()) == []
    assert {p: c.next_offset for p, c in checkpoints.items()} == {
        p: world.log.end(p) for p in partitions
    }
    assert len({(c.epoch, c.topic_id) for c in checkpoints.values()}) == 1
    assert sum(name.startswith("new_") for name, _ in world.store.rows()) == rows


@pytest.mark.parametrize("how", EVERY_HOW)
def test_a_rebase_that_fails_at_any_call_is_said_again_and_nothing_of_the_new_topic_is_lost(how):
    seams = calls_of(lambda faults: rebase_all(a_world_made_again(), faults))
    assert {"ledger.send_rebase", "ledger.first_contact", "ledger.read_checkpoints"} <= set(seams)
    for at in range(1, len(seams) + 1):
        world = a_world_made_again()
        try:
            rebase_all(world, Faults(at, how))
        except FAILURES:
            with suppress(PlanError):  # "nothing needs a rebase": it was done before it failed
                rebase_all(world, Faults())
        check_rebased(world, rows=12)


@pytest.mark.parametrize("how", EVERY_HOW)
def test_a_skip_that_fails_at_any_call_is_said_again_and_passes_over_the_same(how):
    def skip(world: World, faults: Faults):
        log, ledger = FailingLog(world.log, faults), FailingLedger(world.ledger, faults)
        target, run = parse_target(["0:latest", "1:2"]), Run("person", writer_id(3))
        return rebase(log, ledger, "iot_data", target, run, skip_reason="old", retry_seconds=60.0)

    def a_world() -> World:
        world = a_busy_world()
        world.plan()
        return world

    seams = calls_of(lambda faults: skip(a_world(), faults))
    for at in range(1, len(seams) + 1):
        world = a_world()
        try:
            skip(world, Faults(at, how))
        except FAILURES:
            with suppress(PlanError):
                skip(world, Faults())
        entries = world.ledger.read_entries("iot_data", range(2))
        assert [(e.offsets, e.outcome) for e in entries] == [
            (OffsetRange(0, 0, world.log.end(0)), Outcome.SKIPPED),
            (OffsetRange(1, 0, 2), Outcome.SKIPPED),
        ]
        assert all("`iot rebase --at 0:latest --at 1:2`: old" in e.cause for e in entries)
        checkpoints = world.ledger.read_checkpoints("iot_data", range(2))
        assert find_flaws(entries, checkpoints.values()) == []


@pytest.mark.parametrize("how", EVERY_HOW)
def test_a_loss_that_is_ingested_later_fails_at_any_call_and_is_counted_once(how):
    def a_world() -> World:
        world = a_busy_world()
        world.plan()
        rebase(
            world.log, world.ledger, "iot_data", parse_target(["latest"]),
            Run("person", writer_id(3)), skip_reason="late",
        )  # fmt: skip
        return world

    expected = a_busy_world()
    expected.drain()
    seams = calls_of(lambda faults: replay_all(a_world(), faults))
    assert {"ledger.send_recovery", "dead_letters.deliver"} <= set(seams)
    for at in range(1, len(seams) + 1):
        world = a_world()
        try:
            replay_all(world, Faults(at, how))
        except FAILURES:
            replay_all(world, Faults())
        assert world.store.rows() == expected.store.rows(), f"call {at}, {seams[at - 1]}"
        world.check()
        entries = world.ledger.read_entries("iot_data", range(2))
        assert {e.outcome for e in entries} == {Outcome.INGESTED}


def test_a_partition_that_the_old_topic_lacked_begins_where_the_person_said():
    world = a_world_made_again()
    world.log.delete_before(2, 1)
    moved = rebase_all(world, Faults(), "latest")
    assert [(move.before is None, move.after.next_offset, move.skipped) for move in moved] == [
        (False, 4, OffsetRange(0, 0, 4)),
        (False, 4, OffsetRange(1, 0, 4)),
        (True, 4, OffsetRange(2, 1, 4)),
    ]
    check_rebased(world, rows=0)
    entries = world.ledger.read_entries("iot_data", range(3), outcomes=LOSSES)
    assert [entry.offsets for entry in entries] == [move.skipped for move in moved]
    assert {entry.outcome for entry in entries} == {Outcome.SKIPPED}
    again = a_world_made_again()
    again.log.delete_before(2, 1)
    rebase_all(again, Faults(), "earliest")
    check_rebased(again, rows=11)


# Deletions.


def delete_all(world: World, remembered: FakeDeletions, faults: Faults) -> None:
    remembered.faults = faults
    delete_readings(
        FailingSensorData(FakeSensorData(world.store), faults),
        FakeDeviceDays(world.store, faults=faults),
        remembered,
        "device_0",
        Window(*EDGES),
        "a wrong sensor",
        "somebody",
        0.2,
    )


@pytest.mark.parametrize("how", EVERY_HOW)
def test_a_deletion_that_fails_at_any_call_leaves_no_row_gone_that_nobody_remembers(how):
    def a_world() -> World:
        world = a_busy_world()
        world.drain()
        return world

    seams = calls_of(lambda faults: delete_all(a_world(), FakeDeletions(), faults))
    assert {"days.days_of", "deletions.record_deletion", "rows.delete_rows"} <= set(seams)
    for at in range(1, len(seams) + 1):
        world = a_world()
        before, deletions = set(world.store.cells), FakeDeletions()
        try:
            delete_all(world, deletions, Faults(at, how))
        except FAILURES:
            remembered = Deletions(deletions.deletions)
            for device, _, ms in before - set(world.store.cells):
                assert remembered.covers(device, ms, 0), f"call {at}"
            delete_all(world, deletions, Faults())
        gone = before - set(world.store.cells)
        assert gone == {place for place in before if place[0] == "device_0"}
        assert Deletions(deletions.deletions).covers("device_0", int(T0 * 1000), 0)
