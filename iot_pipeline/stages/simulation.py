"""Send a simulated fleet: paced, confirmed, and stopped at any moment with the true count.

Belongs here: the order of sending, waiting and counting. Does not belong here: what is sent
(`core.fleet`), when it is due (`core.pacing`), how Kafka takes it (`clients.kafka_producer`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from iot_pipeline.core.fleet import Fleet
from iot_pipeline.core.pacing import LONGEST_PAUSE_SECONDS, Pacer
from iot_pipeline.core.simulation import SimulationPlan

# How long an ended simulation waits for confirmations of what it has sent: a second is all that
# Terminate may take, and a live broker confirms in milliseconds.
STOP_SECONDS = 0.5
PROGRESS_SECONDS = 0.25
# At most some milliseconds of work between two looks at `should_stop`.
_CHUNK = 2_000
_CALL_SECONDS = 0.1


class ReadingSender(Protocol):
    """Where readings go. `sent` = `acknowledged` + `failed` + those not yet confirmed."""

    @property
    def sent(self) -> int: ...

    @property
    def acknowledged(self) -> int: ...

    @property
    def failed(self) -> int: ...

    def send(self, messages: Sequence[tuple[str, bytes]]) -> int:
        """Hand over (message key, value) pairs in order; returns how many found room."""

    def poll(self, seconds: float) -> None:
        """Serve confirmations for at most `seconds`; raises what made deliveries fail."""

    def flush(self, seconds: float) -> int:
        """Wait at most `seconds` for confirmations; returns how many are missing."""


@dataclass(slots=True)
class SimulationResult:
    """What a simulation did so far; filled in while it runs, true whenever it ends.

    `produced` is what was handed to Kafka's client, `acknowledged` what the broker confirmed.
    The rest, less `failed`, is unconfirmed: it may have arrived. `start_us` is the event time of
    the first reading, in microseconds since 1970.
    """

    produced: int = 0
    acknowledged: int = 0
    failed: int = 0
    seconds: float = 0.0
    start_us: int = 0
    is_stopped: bool = False

    @property
    def unconfirmed(self) -> int:
        return self.produced - self.acknowledged - self.failed

    @property
    def rate(self) -> float:
        """Messages per second, sending and waiting for confirmations included."""
        return self.produced / self.seconds if self.seconds > 0 else 0.0


def _never() -> bool:
    return False


def _ignore(_result: SimulationResult) -> None:
    return None


def simulate(
    sender: ReadingSender,
    plan: SimulationPlan,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
    should_stop: Callable[[], bool] = _never,
    on_progress: Callable[[SimulationResult], None] = _ignore,
    result: SimulationResult | None = None,
) -> SimulationResult:
    """Send what the plan says and wait until every message is confirmed.

    Args:
        sender: takes the messages; its counts start at zero.
        plan: made by `core.simulation.plan_simulation`.
        clock: monotonic seconds; paces the messages.
        sleep: rests for so many seconds, 0.1 at most at a time.
        now: seconds since 1970; asked once, for the event times of a live fleet.
        should_stop: asked at least every 0.1 s; once True, sending ends at once and what was
            sent has `STOP_SECONDS` to be confirmed.
        on_progress: called about four times a second, and at the end however it ends.
        result: filled in place, for who must know the count after an exception.

    Returns:
        `result`. At a set rate it lasts count / rate seconds: the last message has its share.

    Raises:
        KafkaUnavailableError: messages could not be delivered.
        PermanentError: the broker refuses them.
        BaseException: KeyboardInterrupt and Dagster's interruption pass through; `result` and
            `on_progress` have the true count before they do.
    """
    if result is None:
        result = SimulationResult()
    now_us = round(now() * 1e6)
    result.start_us = plan.begin_us(now_us)
    # 5 µs a device: before the clock starts, or the first tick of a large fleet would be late.
    fleet = plan.fleet(now_us)
    run = _Run(sender, clock, should_stop, on_progress, result)
    try:
        if plan.rate is None:
            _send_at_max(run, fleet, plan)
        else:
            _send_paced(run, fleet, plan.rate, plan.count, sleep)
        while sender.flush(_CALL_SECONDS) and not run.must_stop():
            run.look()
        sender.poll(0)
    finally:
        try:
            run.confirm_within(STOP_SECONDS)
        finally:
            # A second interrupt ends the waiting, not the counting.
            run.count()
            on_progress(result)
    return result


def _send_at_max(run: "_Run", fleet: Fleet, plan: SimulationPlan) -> None:
    first = 0
    pending: Sequence[tuple[str, bytes]] = ()
    while not run.must_stop():
        if plan.duration_seconds is not None and run.elapsed() >= plan.duration_seconds:
            return
        if not pending:
            wanted = _CHUNK if plan.count is None else min(_CHUNK, plan.count - first)
            if wanted == 0:
                return
            pending = fleet.messages(first, wanted)
            first += wanted
        pending = run.send(pending)
        run.look()


def _send_paced(
    run: "_Run", fleet: Fleet, rate: float, count: int | None, sleep: Callable[[float], None]
) -> None:
    pacer = Pacer(rate, count)
    first = 0
    pending: Sequence[tuple[str, bytes]] = ()
    while not run.must_stop():
        elapsed = run.elapsed()
        if count is not None and first == count and not pending and elapsed >= count / rate:
            return
        if not pending:
            wanted = min(pacer.due(elapsed, first), _CHUNK)
            pending = fleet.messages(first, wanted) if wanted else ()
            first += wanted
        if pending:
            pending = run.send(pending)
        run.look()
        if not pending:
            sleep(pacer.pause_seconds(run.elapsed(), first))


class _Run:
    """One simulation under way: its clock, its counts, and whether to stop."""

    def __init__(
        self,
        sender: ReadingSender,
        clock: Callable[[], float],
        should_stop: Callable[[], bool],
        on_progress: Callable[[SimulationResult], None],
        result: SimulationResult,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._should_stop = should_stop
        self._on_progress = on_progress
        self._result = result
        self._began_at = clock()
        self._told_at = self._began_at

    def elapsed(self) -> float:
        return self._clock() - self._began_at

    def must_stop(self) -> bool:
        if not self._result.is_stopped:
            self._result.is_stopped = self._should_stop()
        return self._result.is_stopped

    def send(self, messages: Sequence[tuple[str, bytes]]) -> Sequence[tuple[str, bytes]]:
        """Hand over what finds room, wait for room if there was none; returns the rest."""
        taken = self._sender.send(messages)
        rest = messages[taken:]
        if rest:
            self._sender.poll(LONGEST_PAUSE_SECONDS)
        return rest

    def look(self) -> None:
        """Serve confirmations, raise what failed, and tell the progress when it is time."""
        self._sender.poll(0)
        if self._clock() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = self._clock()
            self.count()
            self._on_progress(self._result)

    def confirm_within(self, seconds: float) -> None:
        give_up_at = self._clock() + seconds
        while self._sender.flush(_CALL_SECONDS) and self._clock() < give_up_at:
            pass

    def count(self) -> None:
        self._result.produced = self._sender.sent
        self._result.acknowledged = self._sender.acknowledged
        self._result.failed = self._sender.failed
        self._result.seconds = self.elapsed()
