"""Drains whose calls fail, servers that stay away, and two drains at once."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.errors import (
    KafkaUnavailableError,
    PermanentError,
    TransientError,
)
from iot_pipeline.stages.ingest import micro_batch
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline_tests.stages.fakes import FAR_ABOVE, NOW_MS
from iot_pipeline_tests.stages.faults import Crash, Faults, How
from iot_pipeline_tests.stages.good_drain import any_call, calls_of_a_good_drain, every_call
from iot_pipeline_tests.stages.world import CONFIG, T0, World, a_busy_world

SEAMS = [
    "dead_letters.deliver",
    "declarations.keep_declaration",
    "ledger.read_entries",
    "ledger.send_commit",
    "log.find_skipped",
    "log.mirror",
    "log.open_ranges",
    "log.topic_id",
    "source.poll",
    "store.send_devices",
    "store.send_rows",
]


def test_the_drain_that_is_made_to_fail_goes_through_every_seam():
    assert sorted(set(calls_of_a_good_drain())) == SEAMS
    assert len(calls_of_a_good_drain()) > 30


# Fail call number k, for every k.


@pytest.mark.parametrize("how", [How.NOT_SENT, How.NOT_APPLIED, How.ANSWER_LOST])
@pytest.mark.parametrize("times", [1, 2])
def test_a_transient_failure_of_any_call_is_retried_and_nothing_is_lost_or_counted_twice(
    how, times
):
    expected = a_busy_world()
    total = expected.drain().total
    for at in every_call():
        world = a_busy_world()
        progress = world.drain(faults=Faults(at, how, times))
        world.check_nothing_is_lost()
        world.check_the_ledger_adds_up()
        assert progress.ranges == progress.planned, f"call {at}"
        assert progress.total.accounted == total.accounted
        assert (progress.total.rejected, progress.total.holes) == (total.rejected, total.holes)
        assert world.store.rows() == expected.store.rows()
        again = world.drain()
        assert again.done_offsets == 0


def test_a_permanent_failure_of_any_call_stops_the_run_with_nothing_moved_past_what_is_written():
    for at in every_call():
        world, faults = a_busy_world(), Faults(at, How.PERMANENT)
        progress = DrainProgress([])
        if calls_of_a_good_drain()[at - 1] == "log.mirror":
            world.drain(faults=faults)
        else:
            with pytest.raises(PermanentError, match="was made to fail"):
                world.drain(faults=faults, progress=progress)
            checkpoints = world.ledger.read_checkpoints("iot_data", range(2))
            ends = {item.partition: item.end for item in progress.ranges}
            assert {p: c.next_offset for p, c in checkpoints.items()} == {
                p: ends.get(p, 0) for p in range(2)
            }, "progress says what the ledger says, whatever ends the run"
        world.check()
        world.drain()
        world.check_all_is_drained()


@pytest.mark.parametrize("how", [How.CRASH_BEFORE, How.CRASH_AFTER])
@pytest.mark.parametrize("looks", [0, 2])
def test_a_crash_at_any_call_is_repaired_by_draining_again(how, looks):
    calls = len(calls_of_a_good_drain(looks))
    for at in range(1, calls + 1):
        world = a_busy_world(looks)
        with pytest.raises(Crash):
            world.drain(faults=Faults(at, how))
        world.check()
        world.drain()
        # A source whose opening was cut off is nobody's to close.
        world.log.open_sources = 0
        world.check_all_is_drained()


@given(any_call, any_call, any_call, st.data())
def test_crash_after_crash_after_crash_still_ends_with_everything_accounted_for(a, b, c, data):
    world = a_busy_world()
    for at in (a, b, c):
        how = data.draw(st.sampled_from([How.CRASH_BEFORE, How.CRASH_AFTER]))
        try:
            world.drain(faults=Faults(at, how))
        except Crash:
            world.check()
    world.drain()
    world.log.open_sources = 0
    world.check_all_is_drained()


@pytest.mark.parametrize("seam", [*SEAMS, "log.read_offsets"])
def test_a_server_that_stays_away_ends_the_run_in_time_and_the_next_goes_on(seam):
    world = a_busy_world()
    world.store.refuse = lambda device, ms: device == "device_1b" and ms == int(T0 * 1000)
    faults = Faults(2, How.NOT_APPLIED, FAR_ABOVE, only=seam)
    once = "declarations.keep_declaration", "ledger.read_entries", "log.open_ranges"
    if seam in (*once, "log.read_offsets"):
        faults.at = 1  # it is called once
    config = replace(CONFIG, retry_seconds=0.03)
    if seam == "log.mirror":
        world.drain(faults=faults, config=config)
        assert world.log.mirrored != {0: world.log.end(0), 1: world.log.end(1)}
    else:
        with pytest.raises(TransientError):
            world.drain(faults=faults, config=config)
    world.check()
    world.drain()
    world.check_all_is_drained()


def test_the_loss_of_kafka_says_what_was_waited_for_and_why():
    world = a_busy_world()
    faults = Faults(2, How.NOT_APPLIED, FAR_ABOVE, only="source.poll")
    with pytest.raises(KafkaUnavailableError, match=r"no record of partitions \[0, 1\].*poll"):
        world.drain(faults=faults, config=replace(CONFIG, retry_seconds=0.02))


def test_a_poll_that_is_empty_for_long_ends_the_run():
    world = World()
    world.write()
    world.log.skip.add((0, 1))
    plan = world.plan()
    world.log.open_transaction_at[0] = 0  # nothing can be read, no position moves
    with pytest.raises(KafkaUnavailableError):
        world.drain(plan, config=replace(CONFIG, retry_seconds=0.02))


def test_one_empty_poll_after_a_long_wait_for_cassandra_is_no_loss_of_kafka(monkeypatch):
    world = a_busy_world()
    ticking = itertools.count()
    waited = [0.0]

    class Clock:
        """Every look takes 10 ms; a commit takes an hour."""

        @staticmethod
        def monotonic() -> float:
            return next(ticking) * 0.01 + waited[0]

        sleep = staticmethod(lambda seconds: None)
        time = staticmethod(lambda: NOW_MS / 1000)

    monkeypatch.setattr(micro_batch, "time", Clock)

    def wait_an_hour() -> None:
        waited[0] += 3600.0

    faults = Faults(1, How.HOOK, FAR_ABOVE, only="ledger.send_commit", hook=wait_an_hour)
    empty = [True]
    real = world.log.open_ranges

    class HesitantSource:
        """Every other poll is empty."""

        def __init__(self, inner):
            self.inner = inner

        def poll(self, timeout_seconds):
            empty[0] = not empty[0]
            return self.inner.poll(timeout_seconds) if empty[0] else []

        finished = property(lambda self: self.inner.finished)
        stopped = property(lambda self: self.inner.stopped)

        def close(self):
            self.inner.close()

    monkeypatch.setattr(
        type(world.log),
        "open_ranges",
        lambda log, topic, ranges: HesitantSource(real(topic, ranges)),
    )
    world.drain(faults=faults, config=replace(CONFIG, retry_seconds=30.0))
    world.check_all_is_drained()


# Two at once.


def test_of_two_drains_of_one_plan_one_wins_each_range_and_the_other_is_fenced():
    for at in every_call():
        world = a_busy_world()
        plan = world.plan()
        other: list[DrainProgress] = []

        def overtake(world: World = world, plan: Plan = plan, other: Any = other) -> None:
            other.append(world.drain(plan))

        faults = Faults(at, How.HOOK, hook=overtake)
        first = world.drain(plan, faults=faults)
        (second,) = other
        assert {f.by_run_id for f in [*first.fenced, *second.fenced]} <= {"run-1", "run-2"}
        assert first.fenced or second.fenced
        for fenced in [*first.fenced, *second.fenced]:
            assert str(fenced).endswith(f"offset {fenced.at_offset}")
        won = first.done_offsets + second.done_offsets
        entries = world.ledger.read_entries("iot_data", range(2))
        assert won == sum(entry.span for entry in entries), f"call {at}: each offset is won once"
        world.check()
        world.drain()
        world.check_all_is_drained()


def test_a_drain_fenced_in_one_partition_keeps_what_it_won_in_the_other():
    for at in every_call():
        world = a_busy_world()
        plan = world.plan()

        def overtake(world: World = world) -> None:
            world.drain(world.plan(partitions=[1]))

        faults = Faults(at, How.HOOK, hook=overtake)
        first = world.drain(plan, faults=faults)
        world.check()
        for item, counts in first.parts:
            assert world.ledger.checkpoints["iot_data", item.partition].next_offset >= item.end
            assert counts.accounted == item.span
        assert {f.partition for f in first.fenced} <= {1}
        world.drain()
        world.check_all_is_drained()
        assert all(end <= world.log.end(p) for p, end in world.log.mirrored.items())


@given(any_call, any_call, st.integers(1, 30))
def test_a_drain_overtaken_by_one_that_died_half_way_leaves_no_flaw(at, dies_at, budget):
    world = a_busy_world()
    plan = world.plan()

    def overtake() -> None:
        try:
            world.drain(world.plan(max_records=budget), faults=Faults(dies_at, How.CRASH_AFTER))
        except Crash:
            world.check()

    first = world.drain(plan, faults=Faults(at, How.HOOK, hook=overtake))
    world.check()
    assert sum(counts.accounted for _, counts in first.parts) == first.done_offsets
    world.drain()
    world.log.open_sources = 0
    world.check_all_is_drained()


def test_a_fenced_drain_does_not_turn_the_mirror_back():
    world = a_busy_world()
    plan = world.plan()
    faults = Faults(3, How.HOOK, only="ledger.send_commit", hook=lambda: world.drain(world.plan()))
    assert world.drain(plan, faults=faults).fenced
    assert world.log.mirrored == {p: world.log.end(p) for p in range(2)}
