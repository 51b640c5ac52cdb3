"""Rows leave at the rate that holds; ends, retries and changed limits do not wait for it."""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.throttle import Limit, SetLimit
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.errors import (
    CassandraUnavailableError,
    MissingRightError,
    PipelineError,
)
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.following import Follow, open_ended
from iot_pipeline.stages.ingest.row_writer import RowWriter
from iot_pipeline.stages.ingest.throttle import LOOK_SECONDS, Throttle
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline_tests.stages.fakes import FakePending, FakeStore, writer_id
from iot_pipeline_tests.stages.world import CONFIG, World

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class _Answer:
    found: SetLimit | None = None
    error: PipelineError | None = None
    done: bool = True
    answered_at: float = 0.0


@dataclass
class _Throttles:
    """A `Throttles`; counts the questions."""

    kept: SetLimit | None = None
    error: PipelineError | None = None
    is_slow: bool = False
    questions: int = 0

    def read_limit(self, topic: str) -> SetLimit | None:
        return self.kept

    def start_read(self, topic: str) -> _Answer:
        self.questions += 1
        return _Answer(self.kept, self.error, not self.is_slow)

    def keep_limit(self, topic: str, kept: SetLimit | None) -> None:
        self.kept = kept


@dataclass
class _Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class _WaitingStore(FakeStore):
    """Time passes while it is waited for."""

    clock: _Clock = field(default_factory=_Clock)

    def wait(self, timeout_seconds: float) -> None:
        self.clock.now += timeout_seconds


def _batch(devices: int, rows: int) -> MicroBatch:
    groups = {
        (f"d{at}", 1): {ms: (1_000_000 + ms, ms, 0, 1.0, 2.0) for ms in range(rows)}
        for at in range(devices)
    }
    return MicroBatch(RowGroups.of(groups), [], {0: 0}, {0: 1}, {0: Counts()}, [])


def _write_seconds(limit: Limit) -> tuple[float, int]:
    clock = _Clock()
    store = _WaitingStore(clock=clock)
    writer = RowWriter(store, 64, 30.0, clock, throttle=Throttle("t", None, limit, clock=clock))
    writer.begin(_batch(40, 250))
    turns = 1
    while not writer.pump(0.01):
        turns += 1
    return clock.now - 100.0, turns


def test_a_micro_batch_takes_as_long_as_its_rows_may() -> None:
    # 10,000 rows and 40 notes of devices, but for a quarter of a second at the start.
    assert _write_seconds(Limit(5_000))[0] == pytest.approx(1.76, abs=0.15)
    assert _write_seconds(Limit())[0] == 0.0


def test_bytes_are_a_limit_of_their_own() -> None:
    seconds, _ = _write_seconds(Limit(0, 500_000))
    assert seconds == pytest.approx(10_000 * 98 / 500_000 - 0.25, abs=0.15)


def test_a_writer_that_is_held_back_waits_instead_of_turning() -> None:
    seconds, turns = _write_seconds(Limit(5_000))
    assert turns <= seconds / 0.01 + 60


def test_what_is_sent_again_has_been_paid_for() -> None:
    clock = _Clock()

    class Failing(_WaitingStore):
        fails = 3

        def _pend(self, places, error=None):
            if self.fails:
                self.fails -= 1
                return FakePending(True, CassandraUnavailableError("away"))
            return super()._pend(places, error)

    # One request: 250 rows at one a second are paid for in four minutes.
    throttle = Throttle("t", None, Limit(1), clock=clock)
    writer = RowWriter(Failing(clock=clock), 64, 30.0, clock, throttle=throttle)
    writer.begin(_batch(1, 250))
    while not throttle_left(writer):
        writer.pump(0.05)
    assert clock.now - 100.0 < 30.0


def throttle_left(writer: RowWriter) -> bool:
    """Whether all rows are acknowledged; the note of the device waits for its turn."""
    return not (writer._in_flight or writer._delayed or writer._queue)


def _throttle(throttles: _Throttles, clock: _Clock, **said: object) -> Throttle:
    return Throttle("t", throttles, clock=clock, **said)  # type: ignore[arg-type]


def test_a_changed_limit_is_taken_in_within_seconds_and_asked_for_no_more_often() -> None:
    clock, throttles = _Clock(), _Throttles()
    throttle = _throttle(throttles, clock)
    throttle.look(1.0)
    throttles.kept = SetLimit(Limit(7), _NOW)
    for _ in range(100):
        clock.now += LOOK_SECONDS / 10
        throttle.look_again()
    assert throttle.limit == Limit(7)
    assert throttles.questions <= 10
    throttles.kept = None
    for _ in range(30):
        clock.now += LOOK_SECONDS / 10
        throttle.look_again()
    assert throttle.limit == Limit()


def test_an_answer_that_does_not_come_holds_nothing_up() -> None:
    clock, throttles = _Clock(), _Throttles(is_slow=True)
    throttle = _throttle(throttles, clock, by_setting=Limit(5))
    for _ in range(50):
        clock.now += LOOK_SECONDS
        throttle.look_again()
    assert (throttle.limit, throttles.questions) == (Limit(5), 1)


def test_a_limit_that_cannot_be_asked_for_stays_and_a_missing_right_is_told() -> None:
    clock, throttles = _Clock(), _Throttles(error=CassandraUnavailableError("away"))
    throttle = _throttle(throttles, clock, by_setting=Limit(5))
    for _ in range(4):
        clock.now += LOOK_SECONDS
        throttle.look_again()
    assert throttle.limit == Limit(5)
    throttles.error = MissingRightError("SELECT")
    clock.now += LOOK_SECONDS
    throttle.look_again()
    with pytest.raises(MissingRightError):
        throttle.look_again()


def test_what_a_run_was_asked_for_holds_until_something_else_is_said() -> None:
    clock, throttles = _Clock(), _Throttles(SetLimit(Limit(7), _NOW))
    asked = SetLimit(Limit(3), _NOW + timedelta(seconds=1))
    throttle = _throttle(throttles, clock, asked=asked)
    throttle.look(1.0)
    assert throttle.limit == Limit(3)
    throttles.keep_limit("t", SetLimit(Limit(9), _NOW + timedelta(seconds=2)))
    for _ in range(2):
        clock.now += LOOK_SECONDS
        throttle.look_again()
    assert throttle.limit == Limit(9)


# A whole drain.


def _filled(records: int) -> World:
    world = World(1)
    for at in range(records):
        world.log.tick()
        world.write(0, device=f"d{at % 3}", at=1_735_444_918.0 + at)
    return world


def test_a_drain_keeps_to_its_limit() -> None:
    world = _filled(60)
    config = replace(CONFIG, micro_batch_records=1_000, limit=Limit(bytes_per_second=9_000))
    began = time.monotonic()
    drained = drain(world.plan(), world.ports(), Run("run", writer_id(1)), config)
    assert drained.total.stored == 60
    # 6,174 bytes, less a quarter of a second and the last request, which is a note.
    assert time.monotonic() - began > 0.3


def test_a_run_that_is_ended_writes_what_it_has_read_at_once() -> None:
    world = _filled(400)
    first_row_at: list[float] = []

    def should_stop() -> bool:
        if world.store.sent_rows and not first_row_at:
            first_row_at.append(time.monotonic())
        return bool(first_row_at) and time.monotonic() > first_row_at[0] + 0.3

    follow = Follow(60.0, should_stop=should_stop)
    limit = Limit(rows_per_second=1)
    config = replace(CONFIG, micro_batch_records=1_000, limit=limit, follow=follow)
    began = time.monotonic()
    drain(open_ended(world.plan()), world.ports(), Run("run", writer_id(1)), config)
    assert time.monotonic() - began < 30.0, "half a second on a quiet machine, never sixty"
    # And that is little: a micro-batch is no larger than the limit allows to be written soon.
    reached = world.ledger.read_checkpoints(world.log.topic, [0])[0].next_offset
    assert 0 < reached < 100
