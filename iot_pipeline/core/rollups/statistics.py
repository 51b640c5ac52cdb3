"""Readings become rollups: count, least, mean, greatest, first, last and spread per device.

A rollup of a part and a rollup of the rest merge into the rollup of the whole, so readings stream
through by the page.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import groupby
from operator import itemgetter
from typing import Any

from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.spans import PlainRow
from iot_pipeline.core.times import MS_PER_HOUR

# Of two ways to the same number, and far below what any sensor resolves.
RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Stats:
    """One quantity over `count` values, at least one: each statistic it has, by its name.

    `first_ms` and `last_ms` are when the first and the last of them were measured.
    """

    count: int
    first_ms: int
    last_ms: int
    numbers: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number about the values of a quantity; its column is `<quantity>_<name>`.

    `of` makes it from values in the order of time, at least one; `merge` from the numbers of two
    parts, whichever is earlier.
    """

    name: str
    meaning: str
    of: Callable[[Sequence[float]], float]
    merge: Callable[[Stats, Stats], float]


def _mean(values: Sequence[float]) -> float:
    # Three times 0.1 have a mean of 0.10000000000000002, above their maximum.
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def _merge_means(one: Stats, other: Stats) -> float:
    apart = other["mean"] - one["mean"]
    mean = one["mean"] + apart * (other.count / (one.count + other.count))
    least, greatest = min(one["min"], other["min"]), max(one["max"], other["max"])
    return float(min(max(mean, least), greatest))


def _spread(values: Sequence[float]) -> float:
    # Of the differences: the sum of squares less the square of the sum loses every digit of a
    # spread that is small beside its mean.
    return math.dist(values, [_mean(values)] * len(values)) / math.sqrt(len(values))


def _merge_spreads(one: Stats, other: Stats) -> float:
    """The spread of both (Chan, Golub and LeVeque 1979)."""
    count = one.count + other.count
    # hypot is the root of a sum of squares, without squares that vanish or overflow.
    of_each = (math.sqrt(part.count) * part["stddev"] for part in (one, other))
    between = (other["mean"] - one["mean"]) * math.sqrt(one.count * other.count / count)
    return math.hypot(*of_each, between) / math.sqrt(count)


STATISTICS = (
    Statistic("min", "least", min, lambda one, other: min(one["min"], other["min"])),
    Statistic("mean", "mean", _mean, _merge_means),
    Statistic("max", "greatest", max, lambda one, other: max(one["max"], other["max"])),
    Statistic(
        "stddev",
        "standard deviation of these values themselves (divided by the count)",
        _spread,
        _merge_spreads,
    ),
    Statistic(
        "first",
        "first by time",
        itemgetter(0),
        lambda one, other: (one if one.first_ms <= other.first_ms else other)["first"],
    ),
    Statistic(
        "last",
        "last by time",
        itemgetter(-1),
        lambda one, other: (one if one.last_ms >= other.last_ms else other)["last"],
    ),
)
# Of what is no number: nothing that is added up or compared.
_OF_OTHERS = tuple(statistic for statistic in STATISTICS if statistic.name in ("first", "last"))


def statistics_of(quantity: Quantity) -> tuple[Statistic, ...]:
    """Which of STATISTICS a quantity has; the count it has besides."""
    return STATISTICS if quantity.is_number else _OF_OTHERS


@dataclass(frozen=True, slots=True)
class Rollup:
    """Readings of one device over some time; all of them when a value is missing, too.

    `first_ms` and `last_ms` are None where there was none. `stats` has each quantity that had a
    value, by name.
    """

    count: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    stats: Mapping[str, Stats] = field(default_factory=dict)


def summarize(rows: Sequence[PlainRow], quantities: Sequence[Quantity]) -> Rollup:
    """The rollup of rows, in any order, no two with one timestamp; of none: an empty one."""
    if not rows:
        return Rollup()
    times, *columns = zip(*sorted(rows, key=itemgetter(0)), strict=True)
    stats = {
        quantity.name: found
        for quantity, values in zip(quantities, columns, strict=True)
        if (found := _stats_of(times, values, statistics_of(quantity))) is not None
    }
    return Rollup(len(rows), times[0], times[-1], stats)


def _stats_of(
    times: Sequence[int], values: Sequence[Any], statistics: Sequence[Statistic]
) -> Stats | None:
    if None in values:
        kept = [(ms, value) for ms, value in zip(times, values, strict=True) if value is not None]
        if not kept:
            return None
        times, values = zip(*kept, strict=True)
    numbers = {statistic.name: statistic.of(values) for statistic in statistics}
    return Stats(len(values), times[0], times[-1], numbers)


def merge(one: Rollup, other: Rollup) -> Rollup:
    """The rollup of both their readings, which have no timestamp in common; in either order."""
    if not one.count or not other.count:
        return one if one.count else other
    assert one.first_ms is not None
    assert other.first_ms is not None
    assert one.last_ms is not None
    assert other.last_ms is not None
    stats = {**one.stats, **other.stats}
    for name in one.stats.keys() & other.stats.keys():
        stats[name] = _merge(one.stats[name], other.stats[name])
    return Rollup(
        one.count + other.count,
        min(one.first_ms, other.first_ms),
        max(one.last_ms, other.last_ms),
        stats,
    )


def _merge(one: Stats, other: Stats) -> Stats:
    return Stats(
        one.count + other.count,
        min(one.first_ms, other.first_ms),
        max(one.last_ms, other.last_ms),
        {
            statistic.name: statistic.merge(one, other)
            for statistic in STATISTICS
            if statistic.name in one.numbers
        },
    )


def add_page(
    hours: dict[int, Rollup], rows: Sequence[PlainRow], quantities: Sequence[Quantity]
) -> None:
    """Take a page of one device's rows into its hours, by the hour's first millisecond."""
    for hour, group in groupby(rows, lambda row: row[0] - row[0] % MS_PER_HOUR):
        part = summarize(list(group), quantities)
        known = hours.get(hour)
        hours[hour] = part if known is None else merge(known, part)


def day_of_hours(hours: Mapping[int, Rollup]) -> Rollup:
    """A day from its hours, always added up in one order."""
    return reduce(merge, (hours[hour] for hour in sorted(hours)), Rollup())


def is_same(one: Rollup, other: Rollup) -> bool:
    """Whether both say the same, within rounding."""
    return (
        (one.count, one.first_ms, one.last_ms) == (other.count, other.first_ms, other.last_ms)
        and one.stats.keys() == other.stats.keys()
        and all(_is_same(mine, other.stats[name]) for name, mine in one.stats.items())
    )


def _is_same(one: Stats, other: Stats) -> bool:
    if "min" not in one.numbers:
        return (one.count, one.numbers) == (other.count, other.numbers)
    largest = max(abs(one["min"]), abs(one["max"]))
    return one.count == other.count and all(
        math.isclose(
            one[name],
            other[name],
            rel_tol=RELATIVE_TOLERANCE,
            abs_tol=RELATIVE_TOLERANCE * largest,
        )
        for name in one.numbers
    )


# A rollup as the cells of its tables.


def types_of(quantities: Sequence[Quantity]) -> dict[str, str]:
    """The CQL type of each column of a rollup that is about a quantity, in the cells' order."""
    found = {}
    for quantity in quantities:
        found[f"{quantity.name}_count"] = "bigint"
        # A mean of whole numbers is none.
        of_each = "double" if quantity.is_number else quantity.type
        for statistic in statistics_of(quantity):
            found[f"{quantity.name}_{statistic.name}"] = of_each
    return found


def columns_of(quantities: Sequence[Quantity]) -> tuple[str, ...]:
    """The columns of a rollup behind its key, in the order of its cells."""
    return ("count", "first_at", "last_at", *types_of(quantities))


def as_cells(rollup: Rollup, quantities: Sequence[Quantity]) -> list[Any]:
    """The cells of `columns_of`, times in ms; a quantity without values has the count 0 alone."""
    cells: list[Any] = [rollup.count, rollup.first_ms, rollup.last_ms]
    for quantity in quantities:
        stats = rollup.stats.get(quantity.name)
        if stats is None:
            cells += [0, *(None for _ in statistics_of(quantity))]
        else:
            cells += [stats.count, *stats.numbers.values()]
    return cells


def from_cells(cells: Sequence[Any], quantities: Sequence[Quantity]) -> Rollup:
    """The rollup that `as_cells` made the cells of.

    When the first and last value of a quantity were measured is not kept: it is when the first and
    last reading were, but where a cell was deleted.
    """
    count, first_ms, last_ms, *rest = cells
    stats = {}
    left = iter(rest)
    for quantity in quantities:
        of_values = next(left)
        by_name = {statistic.name: next(left) for statistic in statistics_of(quantity)}
        if of_values:
            stats[quantity.name] = Stats(of_values, first_ms, last_ms, by_name)
    return Rollup(count, first_ms, last_ms, stats)
