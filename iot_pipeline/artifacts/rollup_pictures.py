"""What the rollups say: a day by the hour, and days side by side."""

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from iot_pipeline.artifacts.drawing import LIGHT, Theme, as_png, dress, new_figure
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.rollups.day_view import DayTotal, DayView
from iot_pipeline.core.rollups.statistics import Stats
from iot_pipeline.core.times import HOURS_PER_DAY

_MOST_LABELS = 12


def draw_day(view: DayView, shown: Sequence[Quantity], theme: Theme = LIGHT) -> bytes:
    """A PNG: the quantities that were told, and the readings of the fleet, by the hour of a day."""
    told = {name for rollup in view.hours for name in rollup.stats}
    numbers = [quantity for quantity in shown if quantity.is_number]
    # One at least, which says of what day it is.
    shown = [quantity for quantity in numbers if quantity.name in told] or numbers[:1]
    plots = len(shown) + 1
    figure = new_figure(theme, 9, 0.35 + 1.42 * plots)
    *of_quantities, below = figure.subplots(
        plots,
        1,
        sharex=True,
        gridspec_kw={"left": 0.08, "right": 0.97, "top": 0.93, "bottom": 0.07, "hspace": 0.42},
    )
    for number, (axes, quantity) in enumerate(zip(of_quantities, shown, strict=True)):
        name = quantity.name.capitalize()
        if not number:
            name = f"{view.day} (UTC), all devices: {quantity.name}"
        in_unit = f" in {quantity.unit}" if quantity.unit else ""
        title = f"{name}{in_unit}, mean of each hour; shaded: least to greatest"
        dress(axes, theme, title)
        _band(axes, [rollup.stats.get(quantity.name) for rollup in view.hours], theme)
    dress(below, theme, "Readings of each hour")
    below.bar(
        [hour + 0.5 for hour in range(HOURS_PER_DAY)],
        [rollup.count for rollup in view.hours],
        width=0.85,
        color=theme.good,
    )
    _count_axis(below)
    below.set_xlim(0, HOURS_PER_DAY)
    below.set_xticks(
        range(0, HOURS_PER_DAY + 1, 3), [f"{hour:02}:00" for hour in range(0, HOURS_PER_DAY + 1, 3)]
    )
    return as_png(figure)


def draw_days(days: Sequence[DayTotal], theme: Theme = LIGHT) -> bytes:
    """A PNG: readings and devices of each day, the newest at the right; at least one day."""
    figure = new_figure(theme, 9, 3.2)
    above, below = figure.subplots(
        2,
        1,
        sharex=True,
        gridspec_kw={"left": 0.08, "right": 0.985, "top": 0.91, "bottom": 0.09, "hspace": 0.45},
    )
    places = range(len(days))
    for axes, title, heights, color in (
        (above, "Readings of each day (UTC) that was rolled up", [d.readings for d in days], 0),
        (below, "Devices with readings", [d.devices for d in days], 2),
    ):
        dress(axes, theme, title)
        axes.bar(places, heights, width=0.85, color=theme.series[color])
        _count_axis(axes)
    # A lone day is not a wall of colour.
    below.set_xlim(len(days) - 0.5 - max(len(days), 7), len(days) - 0.5)
    step = -(-len(days) // _MOST_LABELS)
    shown = list(reversed(range(len(days) - 1, -1, -step)))
    below.set_xticks(shown, [f"{days[place].day:%b %d}" for place in shown])
    return as_png(figure)


def _band(axes: Any, hours: Sequence[Stats | None], theme: Theme) -> None:
    known = [(hour + 0.5, stats) for hour, stats in enumerate(hours) if stats is not None]
    for run in _neighbours(known):
        x = [at for at, _ in run]
        axes.fill_between(
            x,
            [stats["min"] for _, stats in run],
            [stats["max"] for _, stats in run],
            color=theme.good,
            alpha=0.22,
            linewidth=0,
        )
        axes.plot(
            x,
            [stats["mean"] for _, stats in run],
            color=theme.good,
            linewidth=1.6,
            marker="o",
            markersize=3,
        )
    if known:
        low = min(stats["min"] for _, stats in known)
        high = max(stats["max"] for _, stats in known)
        margin = max(0.5, (high - low) * 0.08)
        axes.set_ylim(low - margin, high + margin)


def _neighbours(known: Sequence[tuple[float, Stats]]) -> list[list[tuple[float, Stats]]]:
    """Hours that follow each other; an hour without readings is a gap, not a line across it."""
    runs: list[list[tuple[float, Stats]]] = []
    for at, stats in known:
        if not runs or at - runs[-1][-1][0] > 1:
            runs.append([])
        runs[-1].append((at, stats))
    return runs


def _count_axis(axes: Any) -> None:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
