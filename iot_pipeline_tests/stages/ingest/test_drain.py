import copy
import functools
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Applied, Fenced
from iot_pipeline.core.reading.decoding import Reason
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import (
    CassandraUnavailableError,
    CheckpointWentBackError,
    KafkaUnavailableError,
    OffsetsExpiredError,
    PermanentError,
    PipelineError,
    RowsRefusedError,
    TopicChangedError,
    TransientError,
)
from iot_pipeline.stages.ingest import micro_batch
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ingest.row_writer import DEVICE_REFRESH_MS, RowWriter
from iot_pipeline.stages.ledger.commits import commit_all
from iot_pipeline_tests.stages.fakes import (
    FAR_ABOVE,
    NOW_MS,
    Crash,
    FailingLedger,
    FakeStore,
    Faults,
    How,
)
from iot_pipeline_tests.stages.world import CONFIG, T0, World, a_busy_world

SEAMS = [
    "dead_letters.deliver",
    "ledger.read_entries",
    "ledger.send_commit",
    "log.find_skipped",
    "log.mirror",
    "log.open_ranges",
    "log.topic_id",
    "source.poll",
    "store.send_devices",
    "store.send_merged",
    "store.send_rows",
]


@functools.cache
def calls_of_a_good_drain(looks: int = 0) -> list[str]:
    """Every call through a seam, in order."""
    world, faults = a_busy_world(looks), Faults()
    world.drain(faults=faults)
    world.check_all_is_drained()
    return faults.calls


def every_call() -> range:
    return range(1, len(calls_of_a_good_drain()) + 1)


any_call = st.deferred(lambda: st.integers(1, len(calls_of_a_good_drain())))


def test_the_drain_that_is_made_to_fail_goes_through_every_seam():
    assert sorted(set(calls_of_a_good_drain())) == SEAMS
    assert len(calls_of_a_good_drain()) > 30


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
        config=replace(CONFIG, retention_days=1.0),
        wall_clock=lambda: NOW_MS / 1000 + 2 * 86_400,
    )
    assert (progress.total.aged_out, progress.total.stored) == (1, 1)
    assert len(world.store.rows()) == 1
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
    if seam in ("ledger.read_entries", "log.open_ranges", "log.read_offsets"):
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


# Commits of unknown outcome.


def one_commit(world: World):
    """The commit of a whole drain, captured; the ledger is then as before it."""
    before = copy.deepcopy((world.ledger.checkpoints, world.ledger.entries))
    world.drain(config=replace(CONFIG, micro_batch_records=1000))
    world.ledger.checkpoints, world.ledger.entries = before
    return world.ledger.commits[-1]


def test_a_commit_that_took_effect_without_an_answer_is_known_to_be_applied():
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    ledger = world.ports(Faults(1, How.ANSWER_LOST, only="ledger.send_commit")).ledger
    assert list(commit_all(ledger, [commit], 1.0)) == [(commit, Applied.YES)]
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 1


def test_a_commit_without_an_answer_is_known_to_be_applied_even_when_somebody_went_on():
    world = World()
    world.write(at=T0)
    world.plan()
    commit = one_commit(world)
    world.write(at=T0 + 1)
    went_on = Faults(1, How.HOOK, only="ledger.read_state", hook=world.drain)
    lost = Faults(1, How.ANSWER_LOST, only="ledger.send_commit")
    ledger = FailingLedger(world.ports(went_on).ledger, lost)  # type: ignore[arg-type]
    assert list(commit_all(ledger, [commit], 1.0)) == [(commit, Applied.YES)]
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 2
    world.check_the_ledger_adds_up()


def test_a_commit_that_did_nothing_is_sent_again_five_times_at_most():
    # No send is left without a decision: a sixth that is merely sent could
    # move the checkpoint after the run has said that nothing happened.
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    faults = Faults(1, How.NOT_APPLIED, FAR_ABOVE, only="ledger.send_commit")
    with pytest.raises(CassandraUnavailableError, match="sent 6 times"):
        list(commit_all(world.ports(faults).ledger, [commit], 1.0))
    assert len(faults.calls) == 6
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0


def test_a_commit_whose_last_send_took_effect_is_applied():
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    faults = Faults(1, How.NOT_APPLIED, 5, only="ledger.send_commit")
    assert list(commit_all(world.ports(faults).ledger, [commit], 1.0)) == [(commit, Applied.YES)]


def test_a_fenced_commit_names_the_winner():
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    world.drain()
    (outcome,) = commit_all(world.ledger, [commit], 1.0)
    assert outcome == (commit, Fenced(0, "run-2", 1))


def test_a_commit_that_fails_for_good_does_not_hide_that_the_others_were_applied():
    world = a_busy_world()
    progress = DrainProgress([])
    with pytest.raises(PermanentError):
        world.drain(faults=Faults(1, How.PERMANENT, only="ledger.send_commit"), progress=progress)
    (item,) = progress.ranges
    assert item.partition == 1
    assert world.ledger.checkpoints["iot_data", 1].next_offset == item.end


@pytest.mark.parametrize("found", [None, 3])
def test_a_ledger_that_went_back_stops_the_run_and_says_so(found):
    world = a_busy_world()
    plan = world.plan()
    place = ("iot_data", 0)

    def go_back() -> None:
        old = world.ledger.checkpoints.pop(place)
        if found is not None:
            world.ledger.checkpoints[place] = replace(old, next_offset=min(found, 0))

    world.write(0, at=T0 + 50)
    faults = Faults(3, How.HOOK, only="ledger.send_commit", hook=go_back)
    with pytest.raises(CheckpointWentBackError):
        world.drain(plan, faults=faults)
    world.check_nothing_is_lost()


def test_a_rebase_meanwhile_stops_the_run_and_what_was_committed_elsewhere_is_known():
    world = a_busy_world()
    progress = DrainProgress([])

    def rebase() -> None:
        old = world.ledger.checkpoints["iot_data", 0]
        world.ledger.checkpoints["iot_data", 0] = replace(old, epoch=1, next_offset=0)

    faults = Faults(1, How.HOOK, only="ledger.send_commit", hook=rebase)
    with pytest.raises(PermanentError, match="it was rebased meanwhile"):
        world.drain(faults=faults, progress=progress)
    assert [item.partition for item in progress.ranges] == [1]


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


def test_records_deleted_while_they_are_read_stop_the_run():
    world = a_busy_world()
    faults = Faults(2, How.HOOK, only="source.poll", hook=lambda: world.log.delete_before(0, 9))
    with pytest.raises(OffsetsExpiredError):
        world.drain(faults=faults)
    world.check()


def test_a_committed_record_that_was_not_given_out_stops_the_run_before_anything_is_written():
    world = World()
    for step in range(4):
        world.write(at=T0 + step)
    world.log.skip.add((0, 2))
    with pytest.raises(PermanentError, match="were not given to the consumer"):
        world.drain(config=replace(CONFIG, micro_batch_records=100))
    assert not world.store.rows()
    world.check()


# Rows that Cassandra refuses.


def many_rows(count: int) -> World:
    world = World()
    world.log.poll_records = 1000
    for step in range(count):
        world.write(at=T0 + step)
        world.log.tick()
    return world


def refuse_steps(world: World, steps: set[int]) -> None:
    refused = {int((T0 + step) * 1000) for step in steps}
    world.store.refuse = lambda _device, ms: ms in refused


LARGE = replace(CONFIG, micro_batch_records=10_000)


@pytest.mark.parametrize("steps", [{0}, {99}, {10, 11}, {3, 50, 51, 98}])
def test_refused_rows_are_found_by_halving_and_become_dead_letters(steps):
    world = many_rows(100)
    refuse_steps(world, steps)
    progress = world.drain(config=LARGE)
    assert {offset for _, offset in world.letters.by_place()} == steps
    assert {letter.reason for letter in world.letters.by_place().values()} == {
        Reason.REJECTED_BY_CASSANDRA
    }
    assert (progress.total.stored, progress.total.rejected) == (100 - len(steps), len(steps))
    assert len(world.store.sent_rows) <= 1 + len(steps) * 14, "halved, not one by one"
    world.check_all_is_drained()


@pytest.mark.parametrize("ticks_ms", [[1], [-30], [1, 1], [1, 1, 1], [1, -30, 60], [-30, 1, 60]])
def test_what_lost_to_a_refused_row_is_a_dead_letter_too(ticks_ms):
    world = many_rows(20)
    for number, ms in enumerate(ticks_ms, start=1):
        world.log.tick(ms)
        world.write(at=T0 + 5, temperature=float(number))
    refuse_steps(world, {5})
    progress = world.drain(config=LARGE)
    copies = len(ticks_ms)
    assert {offset for _, offset in world.letters.by_place()} == {5, *range(20, 20 + copies)}
    assert (progress.total.stored, progress.total.superseded) == (19, 0)
    assert progress.total.rejected == 1 + copies
    world.check_all_is_drained()


def test_many_refusals_stop_the_run_with_nothing_moved():
    world = many_rows(100)
    refuse_steps(world, set(range(0, 22, 2)))
    with pytest.raises(RowsRefusedError, match="11 of 100 rows"):
        world.drain(config=LARGE)
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0
    assert not world.letters.delivered
    world.store.refuse = lambda _device, _ms: False
    world.drain(config=LARGE)
    world.check_all_is_drained()


def test_a_device_refused_with_all_of_its_rows_does_not_stop_the_others():
    world = many_rows(20)
    for number in range(7):
        world.write(device=f"d{number}")
    world.store.refuse = lambda device, _ms: device == "d3"
    world.store.refuse_device = lambda device: device == "d3"
    progress = world.drain(config=LARGE)
    assert set(world.letters.by_place()) == {(0, 23)}
    assert (progress.total.stored, progress.total.rejected) == (26, 1)
    world.check_all_is_drained()


def test_a_device_refused_without_its_rows_stops_the_run_with_nothing_moved():
    world = many_rows(20)
    world.write(device="d3")
    world.store.refuse_device = lambda device: device == "d3"
    with pytest.raises(RowsRefusedError, match="d3 has 1 rows on 2024-12-29"):
        world.drain(config=LARGE)
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0
    world.store.refuse_device = lambda _device: False
    world.drain(config=LARGE)
    world.check_all_is_drained()


def test_a_refused_row_whose_record_is_gone_stops_the_run_instead_of_losing_it():
    world = many_rows(20)
    refuse_steps(world, {5})
    faults = Faults(
        1, How.HOOK, only="log.read_offsets", hook=lambda: world.log.delete_before(0, 10)
    )
    with pytest.raises(PermanentError, match=r"their records, the first at \(0, 5\)"):
        world.drain(faults=faults, config=LARGE)
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0


# The writer: window, retries, devices.


@pytest.mark.parametrize("requests_in_flight", [1, 2, 7])
@pytest.mark.parametrize("how", [How.ANSWER_LOST, How.NOT_APPLIED, How.NOT_SENT])
def test_no_more_requests_are_on_their_way_than_allowed(requests_in_flight, how):
    world = World()
    for number in range(400):
        world.write(device=f"d{number}")
    world.store.looks_until_answered = 3
    config = replace(
        CONFIG, micro_batch_records=1000, requests_in_flight=requests_in_flight, retry_seconds=5.0
    )
    world.drain(config=config, faults=Faults(7, how, 5, only="store.send_merged"))
    assert world.store.most_in_flight == requests_in_flight
    world.check_all_is_drained()


def test_rows_of_one_cassandra_partition_travel_together_300_at_most():
    world = many_rows(700)
    world.drain(config=LARGE)
    assert [len(rows) for rows in world.store.sent_rows] == [300, 300, 100]


def test_a_day_of_a_device_is_noted_once_in_a_run_and_again_when_the_note_is_a_day_old():
    world = World()
    world.log.poll_records = 1
    for step in range(12):
        world.write(at=T0 + step)
        world.log.tick()
    world.drain()
    assert len(world.store.sent_devices) == 1
    world.log.tick(DEVICE_REFRESH_MS)
    world.write(at=T0 + 100)
    world.drain()
    assert len(world.store.sent_devices) == 2, "another run notes it again"
    for _ in range(5):
        world.write(at=T0 + 200)
        world.log.tick(DEVICE_REFRESH_MS)
    progress = world.drain(config=replace(CONFIG, micro_batch_records=1))
    assert progress.micro_batches > 2
    assert len(world.store.sent_devices) == 2 + progress.micro_batches, (
        "or the note's TTL would end before that of the rows"
    )


def test_a_device_is_remembered_as_noted_only_when_its_write_is_acknowledged():
    world = World()
    world.write(device="d")
    batches = []
    original = RowWriter.begin
    store = FakeStore(looks_until_answered=2)
    writer = RowWriter(store, 8, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            RowWriter, "begin", lambda self, b, most: (batches.append(b), original(self, b, most))
        )
        world.drain()
    writer.begin(batches[0])
    writer.pump()
    assert store.sent_devices
    assert not writer._noted_devices, "sent, and not yet acknowledged"
    while not writer.pump():
        pass
    assert list(writer._noted_devices) == [(int(T0) // 86_400, "d")]
    writer.begin(batches[0])
    while not writer.pump():
        pass
    assert len(store.sent_devices) == 1


def test_a_writer_gives_up_only_when_nothing_succeeds_for_long():
    world = many_rows(1)
    faults = Faults(1, How.NOT_APPLIED, FAR_ABOVE, only="store.send_rows")
    with pytest.raises(CassandraUnavailableError):
        world.drain(faults=faults, config=replace(LARGE, retry_seconds=0.02))
    assert len(faults.calls) > 3
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


# One device, one millisecond, conflicting readings.


def test_conflicting_readings_with_equal_write_times_make_one_whole_row():
    # Offsets 0 and 1000 in one broker millisecond have one write time: in Cassandra, and in the
    # fake, the larger temperature of the one would meet the larger humidity of the other.
    world = World()
    world.log.poll_records = 100
    world.write(at=T0, temperature=90.0, humidity=1.0)
    for step in range(999):
        world.write(device="filler", at=T0 + step)
    world.write(at=T0, temperature=1.0, humidity=90.0)
    world.log.tick()
    world.write(at=T0 + 1)
    world.drain(config=replace(CONFIG, micro_batch_records=100))
    world.check_all_is_drained()
    assert world.store.rows()["device_0", int(T0 * 1000)] == (1.0, 90.0)


def test_the_fake_tears_rows_as_cassandra_does():
    store = FakeStore()
    store.send_rows("d", 0, {5: (7, 0, 0, 90.0, 1.0)})
    store.send_rows("d", 0, {5: (7, 0, 1000, 1.0, 90.0)})
    assert store.rows() == {("d", 5): (90.0, 90.0)}


@st.composite
def conflicts(draw):
    """A topic of few keys and many conflicts; partitions never share a broker millisecond."""
    world = World(partitions=2)
    world.log.poll_records = draw(st.integers(1, 7))
    for partition in draw(st.lists(st.integers(0, 1), min_size=1, max_size=25)):
        world.log.tick()
        for _ in range(draw(st.integers(1, 4))):
            world.write(
                partition,
                device=draw(st.sampled_from(["d", "e"])),
                at=T0 + draw(st.sampled_from([0.0, 0.001])),
                temperature=float(draw(st.integers(-9, 9))),
                humidity=float(draw(st.integers(0, 9))),
            )
    return world


@given(conflicts(), st.integers(1, 9), st.data())
def test_conflicting_readings_make_the_same_whole_rows_in_every_order_of_draining(
    world, size, data
):
    config = replace(CONFIG, micro_batch_records=size)
    plan = world.plan()
    whole = World(partitions=2, log=world.log)
    whole.drain(whole.plan(), config=replace(CONFIG, micro_batch_records=1000))
    whole.check_all_is_drained()
    # The two partitions one after the other, in either order, each in micro-batches.
    for p in data.draw(st.permutations([0, 1])):
        world.drain(world.plan(partitions=[p]), config=config)
    world.check_all_is_drained()
    assert world.store.cells == whole.store.cells
    # And again, from a ledger that knows nothing: the same cells with the same write times.
    again = World(partitions=2, log=world.log, store=world.store)
    again.drain(again.plan(), config=config)
    assert world.store.cells == whole.store.cells
    assert plan.ingest


@given(conflicts(), st.integers(1, 9), st.lists(st.integers(1, 20), max_size=6))
def test_conflicting_readings_across_runs_make_whole_rows(world, size, budgets):
    # Budgets cut anywhere, also inside a millisecond: the write times differ all the same, as
    # fewer than a thousand records share one.
    for budget in budgets:
        world.drain(
            world.plan(max_records=budget), config=replace(CONFIG, micro_batch_records=size)
        )
        world.check()
    world.drain(config=replace(CONFIG, micro_batch_records=size))
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
