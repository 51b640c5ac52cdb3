"""How fast a run may write: limits, which of them holds, and a bucket that keeps to it."""

from dataclasses import dataclass
from datetime import datetime

# What a row takes on the wire beside its device_id, about.
ROW_WIRE_BYTES = 96
# A micro-batch has no more than this takes to write: checkpoints move on, and what a run that ends
# still has to write is soon written.
MICRO_BATCH_SECONDS = 5.0
# What was not used for so long is not made up for: that would be a burst.
_UNUSED_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Limit:
    """Rows and bytes a second, of one run, at most; 0: as many as there are.

    Bytes are about those of the requests that Cassandra gets.
    """

    rows_per_second: int = 0
    bytes_per_second: int = 0

    def __bool__(self) -> bool:
        return bool(self.rows_per_second or self.bytes_per_second)

    def __str__(self) -> str:
        rows, size = self.rows_per_second, self.bytes_per_second
        said = [f"{rows:,} rows/s"] * bool(rows) + [f"{size:,} bytes/s"] * bool(size)
        return " and ".join(said) or "no limit"

    def seconds_for(self, rows: int, size_bytes: int) -> float:
        """How long writing so much takes at least."""
        return max(
            rows / self.rows_per_second if self.rows_per_second else 0.0,
            size_bytes / self.bytes_per_second if self.bytes_per_second else 0.0,
        )

    def seconds_for_lag(self, offsets: int) -> float:
        """The same for what waits in Kafka: each offset a row; 0.0 without a limit."""
        return self.seconds_for(offsets, offsets * ROW_WIRE_BYTES)

    def most_records(self) -> int:
        """How many records a micro-batch takes at most; at least 1. Asked of a real limit."""
        each = self.seconds_for(1, ROW_WIRE_BYTES)
        return max(1, int(MICRO_BATCH_SECONDS / each))


NO_LIMIT = Limit()


@dataclass(frozen=True, slots=True)
class SetLimit:
    """What was said at some time, for one run or, by `iot throttle`, for all; maybe no limit."""

    limit: Limit
    set_at: datetime
    set_by: str = ""


def choose_limit(by_setting: Limit, *said: SetLimit | None) -> Limit:
    """The limit that holds for a run: what was said last, else that of the settings.

    Args:
        said: what the run was asked for, and what `iot throttle` set; None: nothing.
    """
    latest = max(filter(None, said), key=lambda one: one.set_at, default=None)
    return by_setting if latest is None else latest.limit


@dataclass(slots=True)
class Bucket:
    """A token bucket that lends: what is sent is paid for before the next may leave.

    So a request larger than a second's worth leaves too, and the rate holds all the same.
    """

    limit: Limit
    _open_at: float = 0.0

    def is_open(self, now: float) -> bool:
        """Whether something may leave; `now` is in seconds, of a clock that never goes back."""
        return now >= self._open_at

    def take(self, now: float, rows: int, size_bytes: int) -> None:
        """What left now."""
        since = max(self._open_at, now - _UNUSED_SECONDS)
        self._open_at = since + self.limit.seconds_for(rows, size_bytes)
