"""A device's late, outside and jumping readings of its last minutes: how many, and the worst."""

import msgspec

from iot_pipeline.core.times import HOURS_PER_DAY

# What was seen of late readings, clocks and values counts for this long.
WINDOW_MS = 900_000
HALF_MS = WINDOW_MS // 2
# Hours are counted for a day, and for the one that is not over.
KEPT_HOURS = HOURS_PER_DAY + 1


class Half(msgspec.Struct, array_like=True):
    """Counts of the readings that arrived in one half of a window; `number` since 1970."""

    number: int = 0
    rows: int = 0
    late: int = 0
    outside: int = 0
    jumps: int = 0
    delay_most_ms: int = 0

    def add(self, other: "Half") -> None:
        self.rows += other.rows
        self.late += other.late
        self.outside += other.outside
        self.jumps += other.jumps
        self.delay_most_ms = max(self.delay_most_ms, other.delay_most_ms)


class Odd(msgspec.Struct, array_like=True, frozen=True):
    """A value that cannot be: past its limits, or too far from the one `before`."""

    quantity: str
    value: float
    before: float | None
    measured_ms: int

    @property
    def badness(self) -> tuple[bool, float]:
        """A value past its limits is worse than a jump."""
        return self.before is None, abs(self.value - (self.before or 0.0))


class Apart(msgspec.Struct, array_like=True, frozen=True):
    """What a device said while its neighbours said `middle`."""

    quantity: str
    value: float
    middle: float
