"""Ctrl-C, Terminate: what a drain that was cut off says of itself is what the ledger says."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any
from uuid import UUID

import pytest

from iot_pipeline.core.ledger.chain import Applied, Commit, Counts, LedgerState
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.errors import CassandraUnavailableError
from iot_pipeline.stages.ingest import drain as ingest
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ledger import commits as commit_module
from iot_pipeline.stages.ledger.commits import InFlight, last_answers
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.fakes import FAR_ABOVE, FakePending
from iot_pipeline_tests.stages.faults import Crash, Faults, How
from iot_pipeline_tests.stages.world import CONFIG, T0, World, a_busy_world

# What runs from a micro-batch whose rows are safe to a commit that was noted.
COMMITTING = {
    commit_module.__file__: {"send", "send_all", "settle_all", "_settle"},
    ingest.__file__: {
        "_write_and_account",
        "take_in",
        "settle_decided",
        "is_due",
        "deliver_letters",
        "move",
        "_commit_of",
        "settle",
        "_note",
    },
}


@contextmanager
def cut_off_at(line: int, lines: list[str]) -> Iterator[None]:
    """Raise Crash before line number `line` that is executed in COMMITTING; `lines` are those.

    A signal's handler raises between two lines, not only in calls to the outside.
    """

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_name not in COMMITTING.get(frame.f_code.co_filename, ()):
            return None
        if event == "line":
            lines.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            if len(lines) == line:
                raise Crash(f"before {lines[-1]}")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def two_micro_batches(looks: int = 0) -> World:
    world = World(partitions=2)
    world.ledger.looks_until_answered = looks
    for step in range(3):
        for partition in range(2):
            world.write(partition, at=T0 + step)
        world.log.tick()
    return world


def assert_true(world: World, progress: DrainProgress) -> None:
    """Each range said to be achieved is the ledger's, and no other is there but those in doubt."""
    assert progress.parts == [
        (OffsetRange(entry.partition, entry.start_offset, entry.end_offset), entry.counts)
        for entry in sorted(
            world.ledger.read_entries("iot_data", range(2)), key=lambda e: e.partition
        )
    ]
    for item in progress.in_doubt:
        assert world.ledger.checkpoints["iot_data", item.partition].next_offset == item.start


@pytest.mark.parametrize("looks", [0, 2])
@pytest.mark.parametrize("how", [How.HOOK, How.NOT_APPLIED, How.ANSWER_LOST])
def test_a_drain_cut_off_between_any_two_lines_says_what_the_ledger_says(how, looks, monkeypatch):
    monkeypatch.setattr(commit_module, "backoff_seconds", lambda *_: 0.0)
    lines: list[str] = []
    line, is_whole = 0, False
    while not is_whole:
        line += 1
        world, progress = two_micro_batches(looks), DrainProgress([])
        faults = Faults(2, how, only="ledger.send_commit")
        lines.clear()
        try:
            with cut_off_at(line, lines):
                world.drain(faults=faults, progress=progress)
            is_whole = True
        except Crash:
            world.check()
        assert_true(world, progress)
    assert line > 100
    assert {text.split(":")[0] for text in lines} == set().union(*COMMITTING.values())


@pytest.mark.parametrize("how", [How.CRASH_BEFORE, How.CRASH_AFTER])
def test_a_drain_cut_off_in_any_call_says_what_the_ledger_says(how):
    calls = 0
    while True:
        calls += 1
        world, progress = a_busy_world(2), DrainProgress([])
        faults = Faults(calls, how)
        try:
            world.drain(faults=faults, progress=progress)
        except Crash:
            assert_true(world, progress)
        else:
            break
    assert calls > 30


@dataclass(slots=True)
class Clock:
    """Time that passes only while somebody waits."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass(slots=True)
class SlowLedger(FakeLedger):
    """Answers nothing; what was sent takes effect when `arrive` is called."""

    clock: Clock = field(default_factory=Clock)
    is_down: bool = False

    def send_commit(self, commit: Commit) -> FakePending:
        self.commits.append(commit)
        return FakePending(looks=FAR_ABOVE)

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        assert timeout_seconds is not None
        if self.is_down:
            self.clock.sleep(timeout_seconds)
            raise CassandraUnavailableError("reading the ledger: no answer in time")
        return FakeLedger.read_state(self, commit)

    def wait(self, timeout_seconds: float) -> None:
        self.clock.sleep(timeout_seconds)

    def arrive(self) -> None:
        sent, self.commits = self.commits, []
        for commit in sent:
            assert FakeLedger.send_commit(self, commit).applied


def cut_off_while_it_waits(ledger: SlowLedger, progress: DrainProgress) -> World:
    """Drain until commits are on their way, and cut it off there; it must end within a second."""
    world = two_micro_batches()
    world.plan()
    ledger.checkpoints, world.ledger = world.ledger.checkpoints, ledger
    waits = 0
    cut_at = 0.0

    def cut_off(seconds: float) -> None:
        nonlocal waits, cut_at
        waits += 1
        if waits == 3:
            cut_at = ledger.clock.now
            raise Crash("waiting for an answer")
        ledger.clock.sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit_module, "time", ledger.clock)
        patch.setattr(SlowLedger, "wait", lambda _, seconds: cut_off(seconds))
        with pytest.raises(Crash):
            world.drain(progress=progress, config=replace(CONFIG, micro_batch_records=1000))
    assert 0.3 < ledger.clock.now - cut_at < 0.8
    return world


@pytest.mark.parametrize("is_down", [True, False])
def test_a_commit_that_nobody_can_tell_of_is_said_to_be_in_doubt_in_time(is_down):
    ledger, progress = SlowLedger(is_down=is_down), DrainProgress([])
    world = cut_off_while_it_waits(ledger, progress)
    assert progress.ranges == []
    assert progress.in_doubt == [OffsetRange(0, 0, 3), OffsetRange(1, 0, 3)]
    ledger.arrive()
    world.check_all_is_drained()


class MuteLedger(SlowLedger):
    """Does what it was asked, and answers nothing."""

    def send_commit(self, commit: Commit) -> FakePending:
        FakeLedger.send_commit(self, commit)
        return FakePending(looks=FAR_ABOVE)


def test_a_commit_whose_answer_never_comes_is_achieved_when_the_ledger_has_it():
    progress = DrainProgress([])
    world = cut_off_while_it_waits(MuteLedger(), progress)
    assert progress.in_doubt == []
    assert_true(world, progress)
    assert progress.done_offsets == 6


def test_what_never_left_is_not_in_doubt_and_what_was_cut_off_while_it_left_is_asked():
    ledger = FakeLedger()
    ledger.first_contact("iot_data", [Checkpoint(0, 0, 0, "uuid")])
    commit = Commit("iot_data", 0, 0, "uuid", 0, 0, 5, "run", UUID(int=1), Counts(holes=5))
    never_left, leaving = InFlight(commit), InFlight(commit, has_left=True)
    assert list(last_answers(ledger, [never_left, leaving], 0.0, 1.0)) == [(leaving, None)]
    ledger.send_commit(commit)
    assert list(last_answers(ledger, [leaving], 0.0, 1.0)) == [(leaving, Applied.YES)]
