"""What every simulation under way has in common: a clock, true counts, and whether to stop.

Belongs here: counting, progress, the end. Does not belong here: what is sent and when
(`stages.simulator.simulation`, `stages.simulator.scenario`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# How long an ended simulation waits for confirmations of what it has sent: a second is all that
# Terminate may take, and a live broker confirms in milliseconds.
STOP_SECONDS = 0.5
PROGRESS_SECONDS = 0.25
CALL_SECONDS = 0.1


class CountingSender(Protocol):
    """Where messages go. `sent` = `acknowledged` + `failed` + those not yet confirmed."""

    @property
    def sent(self) -> int: ...

    @property
    def acknowledged(self) -> int: ...

    @property
    def failed(self) -> int: ...

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


def never() -> bool:
    """Nobody asks to stop."""
    return False


def ignore(_result: SimulationResult) -> None:
    """Nobody wants to be told."""


class SendingRun:
    """One simulation under way: its clock, its counts, and whether to stop."""

    def __init__(
        self,
        sender: CountingSender,
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

    def look(self) -> None:
        """Serve confirmations, raise what failed, and tell the progress when it is time."""
        self._sender.poll(0)
        if self._clock() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = self._clock()
            self.count()
            self._on_progress(self._result)

    def confirm(self) -> None:
        """Wait until everything that was sent is confirmed, or somebody asks to stop."""
        while self._sender.flush(CALL_SECONDS) and not self.must_stop():
            self.look()
        self._sender.poll(0)

    def end(self) -> None:
        """Give what was sent `STOP_SECONDS` to be confirmed, and count; for `finally`."""
        give_up_at = self._clock() + STOP_SECONDS
        try:
            while self._sender.flush(CALL_SECONDS) and self._clock() < give_up_at:
                pass
        finally:
            # A second interrupt ends the waiting, not the counting.
            self.count()
            self._on_progress(self._result)

    def count(self) -> None:
        self._result.produced = self._sender.sent
        self._result.acknowledged = self._sender.acknowledged
        self._result.failed = self._sender.failed
        self._result.seconds = self.elapsed()
