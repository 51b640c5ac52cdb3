"""Readings become rollups: count, least, mean, greatest, first, last and spread per device.

A rollup of a part and a rollup of the rest merge into the rollup of the whole, so readings stream
through by the page. Belongs here: the arithmetic. Does not belong here: which days want a rebuild
(`core.rollups.days`), reading and writing (`stages.rollups.rebuild`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

MS_PER_HOUR = 3_600_000
QUANTITIES = ("temperature", "humidity")
# Of two ways to the same number, and far below what any sensor resolves.
RELATIVE_TOLERANCE = 1e-9

# (timestamp_ms, temperature, humidity); a cell that somebody deleted is None.
ReadingRow = tuple[int, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Stats:
    """One quantity over `count` values, at least one.

    `m2` is the sum of squared deviations from the mean: unlike a standard deviation it merges
    (Chan, Golub and LeVeque 1979). `first` and `last` are by time.
    """

    count: int
    minimum: float
    mean: float
    maximum: float
    m2: float
    first_ms: int
    first: float
    last_ms: int
    last: float

    @property
    def stddev(self) -> float:
        """Of these values, not an estimate for others: divided by the count; one value has 0."""
        return math.sqrt(self.m2 / self.count)


@dataclass(frozen=True, slots=True)
class Rollup:
    """Readings of one device over some time; all of them when a value is missing, too.

    `first_ms` and `last_ms` are None, as each quantity is, where there was none.
    """

    count: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    temperature: Stats | None = None
    humidity: Stats | None = None


def summarize(rows: Sequence[ReadingRow]) -> Rollup:
    """The rollup of rows, in any order, no two with one timestamp; of none: an empty one."""
    if not rows:
        return Rollup()
    times, temperatures, humidities = zip(*rows, strict=True)
    return Rollup(
        len(rows),
        min(times),
        max(times),
        _stats(times, temperatures),
        _stats(times, humidities),
    )


def _stats(times: Sequence[int], values: Sequence[float | None]) -> Stats | None:
    if None in values:
        kept = [(ms, value) for ms, value in zip(times, values, strict=True) if value is not None]
        return _stats_of([ms for ms, _ in kept], [value for _, value in kept]) if kept else None
    return _stats_of(times, values)  # type: ignore[arg-type]


def _stats_of(times: Sequence[int], values: Sequence[float]) -> Stats:
    count = len(values)
    least, greatest = min(values), max(values)
    # Three times 0.1 have a mean of 0.10000000000000002, above their maximum.
    mean = min(max(math.fsum(values) / count, least), greatest)
    # Two passes: the sum of squares less the square of the sum loses every digit of a spread
    # that is small beside its mean.
    m2 = math.fsum([(value - mean) ** 2 for value in values])
    first_ms, last_ms = min(times), max(times)
    return Stats(
        count,
        least,
        mean,
        greatest,
        m2,
        first_ms,
        values[times.index(first_ms)],
        last_ms,
        values[times.index(last_ms)],
    )


def merge(one: Rollup, other: Rollup) -> Rollup:
    """The rollup of both their readings, which have no timestamp in common; in either order."""
    if not one.count or not other.count:
        return one if one.count else other
    assert one.first_ms is not None
    assert other.first_ms is not None
    assert one.last_ms is not None
    assert other.last_ms is not None
    return Rollup(
        one.count + other.count,
        min(one.first_ms, other.first_ms),
        max(one.last_ms, other.last_ms),
        _merge(one.temperature, other.temperature),
        _merge(one.humidity, other.humidity),
    )


def _merge(one: Stats | None, other: Stats | None) -> Stats | None:
    if one is None or other is None:
        return one or other
    count = one.count + other.count
    least, greatest = min(one.minimum, other.minimum), max(one.maximum, other.maximum)
    apart = other.mean - one.mean
    mean = min(max(one.mean + apart * (other.count / count), least), greatest)
    earlier = one if one.first_ms <= other.first_ms else other
    later = one if one.last_ms >= other.last_ms else other
    return Stats(
        count,
        least,
        mean,
        greatest,
        one.m2 + other.m2 + apart * apart * (one.count * other.count / count),
        earlier.first_ms,
        earlier.first,
        later.last_ms,
        later.last,
    )


def merge_all(parts: Iterable[Rollup]) -> Rollup:
    """All of them together; an empty one of none."""
    whole = Rollup()
    for part in parts:
        whole = merge(whole, part)
    return whole


def add_page(hours: dict[int, Rollup], rows: Sequence[ReadingRow]) -> None:
    """Take a page of one device's rows into its hours, by the hour's first millisecond."""
    for hour, group in groupby(rows, _hour_of):
        part = summarize(list(group))
        known = hours.get(hour)
        hours[hour] = part if known is None else merge(known, part)


def _hour_of(row: ReadingRow) -> int:
    return row[0] - row[0] % MS_PER_HOUR


def day_of_hours(hours: Mapping[int, Rollup]) -> Rollup:
    """A day from its hours, always added up in one order."""
    return merge_all(hours[hour] for hour in sorted(hours))


def is_same(one: Rollup, other: Rollup) -> bool:
    """Whether both say the same, within rounding."""
    return (one.count, one.first_ms, one.last_ms) == (
        other.count,
        other.first_ms,
        other.last_ms,
    ) and all(_is_same(getattr(one, quantity), getattr(other, quantity)) for quantity in QUANTITIES)


def _is_same(one: Stats | None, other: Stats | None) -> bool:
    if one is None or other is None:
        return one is other
    scale = max(abs(one.minimum), abs(one.maximum))
    pairs = (
        (one.minimum, other.minimum),
        (one.mean, other.mean),
        (one.maximum, other.maximum),
        (one.stddev, other.stddev),
        (one.first, other.first),
        (one.last, other.last),
    )
    return one.count == other.count and all(
        math.isclose(mine, its, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE * scale)
        for mine, its in pairs
    )
