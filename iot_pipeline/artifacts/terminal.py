"""Readings as a plot of characters, for a terminal."""

import math
import shutil
from collections.abc import Sequence
from typing import Any

from iot_pipeline.core.fleet.series import Series, drawn
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.core.words import printable

_MARKERS = ("braille", "dot", "cross", "sd", "hd")
_TICKS = 5
_HEIGHT = 15


def plot_readings(
    series: Sequence[Series],
    quantities: Sequence[Quantity],
    *,
    is_colored: bool,
    width: int | None = None,
) -> str:
    """A plot per quantity that was told, one above the other, time in UTC along each.

    Args:
        series: at least one, each with at least one reading; time gaps are left empty.
        is_colored: without it devices are told apart by their markers.
        width: in characters; None: that of the terminal.
    """
    import plotext

    parts = []
    for place, quantity in drawn(series, quantities):
        plotext.clear_figure()
        plotext.limit_size(True, False)
        plotext.plotsize(width or shutil.get_terminal_size((100, 30)).columns, _HEIGHT)
        for number, item in enumerate(series):
            _add(plotext, item, place, number, is_colored)
        first = min(item.times_ms[0] for item in series)
        last = max(item.times_ms[-1] for item in series)
        at = [first + (last - first) * tick / (_TICKS - 1) for tick in range(_TICKS)]
        plotext.xticks(at, [_clock(ms, last - first) for ms in at])
        plotext.title(quantity.heading)
        text = plotext.build()
        parts.append(text if is_colored else plotext.uncolorize(text))
    between = " to ".join(in_utc(moment_of(round(ms))) for ms in (first, last))
    return "\n".join([*parts, between])


def _add(plotext: Any, item: Series, place: int, number: int, colored: bool) -> None:
    marker = "braille" if colored or number >= len(_MARKERS) else _MARKERS[number]
    labelled = False
    for times, numbers in _unbroken(*item.line(place)):
        label = None if labelled else printable(item.device_id)
        plotext.plot(times, numbers, marker=marker, color=number + 1, label=label)
        labelled = True


def _unbroken(
    times: Sequence[float], values: Sequence[float]
) -> list[tuple[list[float], list[float]]]:
    parts: list[tuple[list[float], list[float]]] = [([], [])]
    for at, value in zip(times, values, strict=True):
        if math.isnan(value):
            parts.append(([], []))
        else:
            parts[-1][0].append(at)
            parts[-1][1].append(value)
    return [part for part in parts if part[0]]


def _clock(ms: float, span_ms: float) -> str:
    form = "%H:%M:%S" if span_ms < 6 * 3_600_000 else "%H:%M"
    if span_ms > 36 * 3_600_000:
        form = "%m-%d %H:%M"
    return moment_of(round(ms)).strftime(form)
