"""The fleet's last day: a small temperature curve per device, and how complete each hour is."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from iot_pipeline.artifacts.drawing import LIGHT, Theme, as_png, dress, new_figure, time_axis
from iot_pipeline.core.fleet_day import HOUR_MS, HOURS

_COLUMNS = 4
_SHOWN_NAME = 22
_MOST_LABELS = 40


def draw_small_multiples(
    lines: Mapping[str, Sequence[tuple[int, float | None]]],
    problems: Mapping[str, str],
    theme: Theme = LIGHT,
) -> bytes:
    """A PNG with a little plot of temperature per device, all on the same axes.

    Args:
        lines: device_id -> (middle of ten minutes in ms, mean °C or None), at least one device.
        problems: device_id -> a word; those are drawn in the colour of warnings and say it.
        theme: its colours.
    """
    rows = -(-len(lines) // _COLUMNS)
    figure = new_figure(theme, 9, 0.75 + 1.05 * rows)
    values = [value for line in lines.values() for _, value in line if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = max(0.5, (high - low) * 0.08)
    top = 1 - 0.55 / figure.get_figheight()
    bottom = 0.35 / figure.get_figheight()
    axes_of = figure.subplots(
        rows,
        _COLUMNS,
        sharex=True,
        sharey=True,
        squeeze=False,
        gridspec_kw={
            "left": 0.05,
            "right": 0.985,
            "top": top,
            "bottom": bottom,
            "hspace": 0.5,
            "wspace": 0.06,
        },
    )
    figure.text(
        0.05,
        1 - 0.06 / figure.get_figheight(),
        "Temperature of the last 24 hours, °C, means of ten minutes",
        ha="left",
        va="top",
        fontsize=9,
        color=theme.text,
        fontweight="bold",
    )
    flat = [axes for row in axes_of for axes in row]
    for axes, (device_id, line) in zip(flat, lines.items(), strict=False):
        problem = problems.get(device_id)
        dress(axes, theme)
        axes.set_title(
            _short(device_id) + (f" – {problem}" if problem else ""),
            loc="left",
            fontsize=7.5,
            pad=2,
            color=theme.warn if problem else theme.text,
        )
        axes.plot(
            [datetime.fromtimestamp(ms / 1000, UTC) for ms, _ in line],
            [np.nan if value is None else value for _, value in line],
            color=theme.warn if problem else theme.good,
            linewidth=1.2,
            marker=".",
            markersize=2.5,
        )
        axes.set_ylim(low - margin, high + margin)
    for axes in flat[len(lines) :]:
        axes.set_visible(False)
    first = next(iter(lines.values()))
    if first:
        flat[0].set_xlim(
            datetime.fromtimestamp(first[0][0] / 1000, UTC),
            datetime.fromtimestamp(first[-1][0] / 1000, UTC),
        )
    time_axis(flat[0], ticks=4, is_dated=False)
    for number, axes in enumerate(flat[: len(lines)]):
        is_lowest = number + _COLUMNS >= len(lines)
        axes.tick_params(labelbottom=is_lowest, labelsize=7)
    return as_png(figure)


def draw_completeness(
    shares: Mapping[str, Sequence[float | None]], now: datetime, theme: Theme = LIGHT
) -> bytes:
    """A PNG with one row per device and one column per hour: how much of what was due is there.

    Args:
        shares: device_id -> 24 shares, oldest hour first; None where nothing is expected.
        now: aware; in the last column.
        theme: its colours.
    """
    names = list(shares)
    height = 1.05 + 0.17 * max(4, len(names))
    figure = new_figure(theme, 9, height)
    axes = figure.add_axes((0.19, 0.38 / height, 0.71, 1 - 0.8 / height))
    dress(axes, theme, grid=False)
    axes.spines["bottom"].set_visible(False)
    title = "Readings received of those due, by device and hour (UTC)"
    figure.text(
        0.02,
        1 - 0.06 / height,
        title,
        ha="left",
        va="top",
        fontsize=9,
        color=theme.text,
        fontweight="bold",
    )
    matrix = np.array(
        [[np.nan if share is None else share for share in shares[name]] for name in names],
        dtype=float,
    ).reshape(len(names), HOURS)
    # What is missing is loud, what is there is quiet; blue and orange are told apart by everybody.
    colors = LinearSegmentedColormap.from_list(
        "completeness", [theme.warn, theme.half, theme.good], N=11
    ).with_extremes(bad=theme.empty)
    image = axes.pcolormesh(
        np.ma.masked_invalid(matrix),
        cmap=colors,
        vmin=0,
        vmax=1,
        edgecolors=theme.background,
        linewidth=0.5,
    )
    axes.invert_yaxis()
    step = -(-len(names) // _MOST_LABELS)
    axes.set_yticks([row + 0.5 for row in range(0, len(names), step)])
    axes.set_yticklabels([_short(name) for name in names[::step]], fontsize=7)
    current = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [current - timedelta(milliseconds=HOUR_MS * back) for back in range(HOURS - 1, -1, -1)]
    axes.set_xticks([column + 0.5 for column in range(1, HOURS, 2)])
    axes.set_xticklabels([f"{hour:%H}" for hour in hours[1::2]], fontsize=7)
    bar_axes = figure.add_axes((0.915, 0.38 / height, 0.016, 1 - 0.8 / height))
    bar = figure.colorbar(image, cax=bar_axes, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["none", "half", "all"])
    bar.ax.tick_params(colors=theme.text, labelsize=7, length=0)
    bar.outline.set_visible(False)
    figure.text(
        0.19, 0.02, "grey: nothing due yet, or not counted yet", fontsize=7, color=theme.text
    )
    return as_png(figure)


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME else name[: _SHOWN_NAME - 1] + "…"
