"""Named doubles of what a simulation talks to; the contract suite verifies the sender."""

from collections.abc import Callable, Sequence
from functools import partial

from iot_pipeline.core.simulator.faults import Emission
from iot_pipeline.core.simulator.scenarios import FleetDevice
from iot_pipeline.errors import PipelineError


def emission(device_id: str, payload: bytes | None) -> Emission:
    """A message of a device, measured and sent at the beginning of time."""
    return Emission(0, 0, FleetDevice(device_id, "group", "place", 1_000_000), payload)


class FakeClock:
    """Seconds that pass only when a test sleeps or works."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        # Never nothing: a clock that stands still would loop for ever.
        self.seconds += max(seconds, 1e-6)


class FakeSender:
    """A `Sender` in memory: confirms on poll and flush, has room for `room` messages.

    Offsets ascend from 0 in partition 7.
    """

    def __init__(self, clock: FakeClock | None = None, room: int = 100_000) -> None:
        self.taken: list[tuple[str, bytes | None]] = []
        self.taken_at: list[float] = []
        self.acknowledged = 0
        self.failed = 0
        self._clock = clock
        self._room = room
        self._reports: list[Callable[[int, int], None]] = []
        self._offset = 0

    @property
    def sent(self) -> int:
        return len(self.taken)

    def send(
        self,
        emissions: Sequence[Emission],
        on_acknowledged: Callable[[Emission, int, int], None] | None = None,
    ) -> int:
        free = self._room - (self.sent - self.acknowledged - self.failed)
        taken = emissions[: max(0, free)]
        self.taken += [(emission.device.device_id, emission.payload) for emission in taken]
        if on_acknowledged is not None:
            self._reports += [partial(on_acknowledged, emission) for emission in taken]
        if self._clock is not None:
            self._clock.seconds += 5e-6 * len(taken)
            self.taken_at += [self._clock.seconds] * len(taken)
        return len(taken)

    def poll(self, seconds: float) -> None:
        self._confirm()

    def flush(self, seconds: float) -> int:
        self._confirm()
        return self.sent - self.acknowledged - self.failed

    def _confirm(self) -> None:
        self.acknowledged = self.sent - self.failed
        reports, self._reports = self._reports, []
        for report in reports:
            report(7, self._offset)
            self._offset += 1


class SilentSender(FakeSender):
    """Confirms nothing, as a broker that went away: every wait takes its full time."""

    def __init__(self, clock: FakeClock, room: int = 100_000) -> None:
        super().__init__(clock, room)
        self._silent_clock = clock

    def poll(self, seconds: float) -> None:
        self._silent_clock.seconds += seconds

    def flush(self, seconds: float) -> int:
        self._silent_clock.seconds += seconds
        return self.sent - self.acknowledged - self.failed


class RefusingSender(FakeSender):
    """Takes messages, then says that the first of them was refused."""

    def __init__(self, error: PipelineError) -> None:
        super().__init__()
        self._error = error

    def poll(self, seconds: float) -> None:
        if self.sent:
            self.failed = 1
            self._confirm()
            raise self._error


def offsets_of(fault):
    """Every (partition, offset) of a manifest's fault, ascending."""
    return [
        (partition, offset)
        for partition, ranges in sorted(fault.offsets.items())
        for first, last in ranges
        for offset in range(first, last + 1)
    ]
