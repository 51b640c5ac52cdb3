"""Readings of a few devices as a picture: one plot per quantity, one above the other."""

from collections.abc import Sequence
from datetime import UTC, datetime

from iot_pipeline.artifacts.drawing import (
    LIGHT,
    Theme,
    as_png,
    dress,
    new_figure,
    time_axis,
)
from iot_pipeline.core.fleet.series import Series, drawn
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.words import printable

_NAMED = 12


def draw_readings(
    series: Sequence[Series], quantities: Sequence[Quantity], theme: Theme = LIGHT
) -> bytes:
    """A PNG, 1000 pixels wide and 300 high for each quantity that was told.

    Times are UTC, gaps stay gaps. `series` are one at least; past twelve devices the legend names
    the first ones only.
    """
    shown = drawn(series, quantities)
    figure = new_figure(theme, 10, 3 * len(shown))
    plots = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (place, quantity) in zip(plots, shown, strict=True):
        dress(axes, theme, quantity.title)
        for number, item in enumerate(series):
            times_ms, values = item.line(place)
            times = [datetime.fromtimestamp(ms / 1000, UTC) for ms in times_ms]
            axes.plot(
                times,
                values,
                color=theme.series[number % len(theme.series)],
                linestyle=("-", "--", ":", "-.")[number // len(theme.series) % 4],
                linewidth=1.2,
                marker="o" if len(item) < 3 else None,
                label=_as_label(item.device_id) if number < _NAMED else None,
            )
        axes.tick_params(labelbottom=axes is plots[-1])
    time_axis(plots[-1], ticks=9)
    figure.subplots_adjust(left=0.06, right=0.98, top=0.9, bottom=0.09, hspace=0.18)
    names = [printable(item.device_id) for item in series]
    if len(names) == 1:
        figure.suptitle(
            names[0], x=0.06, ha="left", fontsize=12, color=theme.text, fontweight="bold"
        )
    else:
        legend = plots[0].legend(
            fontsize=8,
            frameon=False,
            labelcolor=theme.text,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=min(6, len(names)),
            borderaxespad=0.2,
        )
        legend.set_zorder(5)
    return as_png(figure)


def _as_label(name: str) -> str:
    """The name in a legend, which leaves out those that begin with an underscore."""
    shown = printable(name)
    return f" {shown}" if shown.startswith("_") else shown
