"""Many readings as a line that fits a picture: means of equal slices of time, with its gaps."""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.fleet.cadence import learn_cadence
from iot_pipeline.core.reading.quantities import Quantity, first_number
from iot_pipeline.core.reading.spans import PlainRow

_SLICES = 600
# A line is broken where this many readings of the device's own cadence are missing.
_GAP_READINGS = 5


@dataclass(slots=True)
class Series:
    """One device's readings, oldest first, 8 bytes a number; nan where there is none, or text.

    `values` has one line per quantity, in the pipeline's order.
    """

    device_id: str
    values: "list[array[float]]"
    times_ms: "array[float]" = field(default_factory=lambda: array("d"))

    @classmethod
    def of(cls, device_id: str, quantities: int) -> "Series":
        """Without readings yet."""
        return cls(device_id, [array("d") for _ in range(quantities)])

    def __len__(self) -> int:
        return len(self.times_ms)

    def extend(self, rows: Iterable[PlainRow]) -> None:
        for ms, *values in rows:
            self.times_ms.append(ms)
            for line, value in zip(self.values, values, strict=True):
                line.append(math.nan if value is None or isinstance(value, str) else value)

    def line(self, number: int) -> tuple[list[float], list[float]]:
        """Times and values of one quantity: without the readings that lack it, but with gaps."""
        told = [
            (ms, values[number])
            for ms, *values in zip(self.times_ms, *self.values, strict=True)
            if not math.isnan(values[number]) or all(map(math.isnan, values))
        ]
        return [ms for ms, _ in told], [value for _, value in told]


def drawn(series: Iterable[Series], quantities: Sequence[Quantity]) -> list[tuple[int, Quantity]]:
    """The quantities that have a line, each with its number; where none has one, the first number.

    Text has none, and neither has what no device has told.
    """
    told = {
        number
        for one in series
        for number, line in enumerate(one.values)
        if not all(map(math.isnan, line))
    }
    found = [(number, item) for number, item in enumerate(quantities) if number in told]
    only = first_number(quantities)
    return found or [(list(quantities).index(only), only)]


def thin(series: Series, slices: int = _SLICES) -> Series:
    """At most about twice `slices` points: the mean of each slice of time that has readings.

    Where a device was silent there is a point of nan, so that no line is drawn over it.
    """
    if not len(series):
        return series
    first, last = series.times_ms[0], series.times_ms[-1]
    width = max(1.0, (last - first) / slices)
    cadence = learn_cadence([int(ms) for ms in series.times_ms[-1000:]])
    gap_ms = max(2 * width, _GAP_READINGS * 1000 * (cadence or 0.0))
    thinned = Series.of(series.device_id, len(series.values))
    at, before = 0, first
    while at < len(series):
        end_ms = first + (math.floor((series.times_ms[at] - first) / width) + 1) * width
        begin = at
        while at < len(series) and series.times_ms[at] < end_ms:
            at += 1
        if series.times_ms[begin] - before > gap_ms:
            between = round((before + series.times_ms[begin]) / 2)
            thinned.extend([(between, *(None for _ in series.values))])
        before = series.times_ms[at - 1]
        thinned.times_ms.append(sum(series.times_ms[begin:at]) / (at - begin))
        for means, line in zip(thinned.values, series.values, strict=True):
            means.append(_mean(line[begin:at]))
    return thinned


def _mean(values: "array[float]") -> float:
    there = [value for value in values if not math.isnan(value)]
    return sum(there) / len(there) if there else math.nan
