"""Readings of a few devices as a picture: temperature above humidity."""

from collections.abc import Sequence
from datetime import UTC, datetime

from iot_pipeline.artifacts.drawing import (
    LIGHT,
    Theme,
    as_png,
    dress,
    legend,
    new_figure,
    time_axis,
)
from iot_pipeline.core.fleet.series import Series

_NAMED = 12


def draw_readings(series: Sequence[Series], theme: Theme = LIGHT) -> bytes:
    """A PNG of 1000 x 600 pixels; times are UTC, gaps stay gaps.

    Args:
        series: at least one; past twelve devices the legend names the first ones only.
        theme: its colours.
    """
    figure = new_figure(theme, 10, 6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, name, attribute in (
        (upper, "temperature, °C", "temperatures"),
        (lower, "humidity, %", "humidities"),
    ):
        dress(axes, theme, name)
        for number, item in enumerate(series):
            times = [datetime.fromtimestamp(ms / 1000, UTC) for ms in item.times_ms]
            axes.plot(
                times,
                getattr(item, attribute),
                color=theme.series[number % len(theme.series)],
                linestyle=("-", "--", ":", "-.")[number // len(theme.series) % 4],
                linewidth=1.2,
                marker="o" if len(item) < 3 else None,
                label=item.device_id if number < _NAMED else None,
            )
    upper.tick_params(labelbottom=False)
    time_axis(lower, ticks=9)
    figure.subplots_adjust(left=0.06, right=0.98, top=0.9, bottom=0.09, hspace=0.18)
    names = [item.device_id for item in series]
    if len(names) == 1:
        figure.suptitle(
            names[0], x=0.06, ha="left", fontsize=12, color=theme.text, fontweight="bold"
        )
    else:
        legend(
            upper,
            theme,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=min(6, len(names)),
            borderaxespad=0.2,
        )
    return as_png(figure)
