"""Named doubles of what a simulation talks to; the contract suite verifies the sender."""

from collections.abc import Sequence

from iot_pipeline.errors import PipelineError


class FakeClock:
    """Seconds that pass only when somebody sleeps or works."""

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
    """A `ReadingSender` in memory: confirms on poll and flush, has room for `room` messages."""

    def __init__(self, clock: FakeClock | None = None, room: int = 100_000) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.taken_at: list[float] = []
        self.acknowledged = 0
        self.failed = 0
        self._clock = clock
        self._room = room
        self._tracked = []
        self._offset = 0

    @property
    def sent(self) -> int:
        return len(self.taken)

    def send(self, messages: Sequence[tuple[str, bytes]]) -> int:
        free = self._room - (self.sent - self.acknowledged - self.failed)
        taken = messages[: max(0, free)]
        self.taken += taken
        if self._clock is not None:
            self._clock.seconds += 5e-6 * len(taken)
            self.taken_at += [self._clock.seconds] * len(taken)
        return len(taken)

    def send_tracked(self, messages, on_acknowledged) -> int:
        """Confirms with partition 7 and ascending offsets, when `send`'s messages are confirmed."""
        taken = self.send([(message_key, value) for message_key, value, _ in messages])
        self._tracked += [(on_acknowledged, token) for _, _, token in messages[:taken]]
        return taken

    def poll(self, seconds: float) -> None:
        self._confirm()

    def flush(self, seconds: float) -> int:
        self._confirm()
        return self.sent - self.acknowledged - self.failed

    def _confirm(self) -> None:
        self.acknowledged = self.sent - self.failed
        while self._tracked:
            on_acknowledged, token = self._tracked.pop(0)
            on_acknowledged(token, 7, self._offset)
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
