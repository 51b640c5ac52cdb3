"""Which Cassandra partitions, and which times in them, a question about readings is made of."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from iot_pipeline.core.times import MS_PER_DAY, Window, day_number, us_of

# (device_id, day number): rows of one Cassandra partition.
Place = tuple[str, int]
# (timestamp_ms, then the values of the quantities): a row as it is passed on, without names and
# objects; a cell that was deleted is None.
PlainRow = tuple[int, *tuple[Any, ...]]

# A day of a million devices in `devices_by_day` is eight partitions of 5 MB, not one of 40 MB that
# every first write of the day goes to. More would cost every question about a day.
BUCKETS = 8


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one Cassandra partition from first_ms to last_ms, both inclusive."""

    device_id: str
    day_number: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The rows, or cells, of the newest part of a span; `rest` is what was not counted, or None."""

    rows: int
    rest: Span | None = None


@dataclass(frozen=True, slots=True)
class Summed:
    """The same, and per quantity the sum of the write times, modulo 2**64."""

    rows: int
    totals: Sequence[int]
    rest: Span | None = None


# Of a piece of time: its first millisecond, the rows in it, and the first of them.
PieceCount = tuple[int, int, int]
# Its first millisecond, the rows that have the first number of a reading, and its mean: None
# without any.
PieceMean = tuple[int, int, float | None]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of one device, oldest first, at least one."""

    device_id: str
    rows: Sequence[PlainRow]


def bucket_of(device_id: str) -> int:
    return share_of(device_id, BUCKETS)


def share_of(device_id: str, shares: int) -> int:
    """Which of `shares` parts a device belongs to: the same in every process and version."""
    return zlib.crc32(device_id.encode()) % shares


def whole_day(device_id: str, number: int) -> Span:
    """A whole Cassandra partition."""
    return Span(device_id, number, number * MS_PER_DAY, (number + 1) * MS_PER_DAY - 1)


def day_span(device_id: str, day: date, window: Window | None = None) -> Span:
    """The part of a device's UTC day that the window touches; all of it without one."""
    number = day_number(day)
    first, last = number * MS_PER_DAY, (number + 1) * MS_PER_DAY - 1
    if window is not None:
        # Rows are floored to the millisecond, so the first one inside is rounded up.
        first = max(first, _ceil_ms(window.since))
        last = min(last, _ceil_ms(window.until) - 1)
    return Span(device_id, number, first, last)


def spans_between(device_id: str, first_ms: int, end_ms: int) -> list[Span]:
    """[first_ms, end_ms), cut by day."""
    return [
        Span(
            device_id,
            number,
            max(first_ms, number * MS_PER_DAY),
            min(end_ms, (number + 1) * MS_PER_DAY) - 1,
        )
        for number in range(first_ms // MS_PER_DAY, (end_ms - 1) // MS_PER_DAY + 1)
    ]


def _ceil_ms(moment: datetime) -> int:
    return -(-us_of(moment) // 1000)
