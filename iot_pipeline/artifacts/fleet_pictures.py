"""The fleet's last day: a small curve of one quantity per device, and how complete each hour is."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from iot_pipeline.artifacts.drawing import Theme, as_png, dress, headline, new_figure, time_axis
from iot_pipeline.core.fleet.view import FleetView
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.times import MS_PER_HOUR, in_words, moment_of

_COLUMNS = 4
_SHOWN_NAME = 22
_MOST_LABELS = 40
HOURS_LABELLED = 12


def draw_small_multiples(view: FleetView, theme: Theme) -> bytes:
    """A PNG with a little plot of the first quantity per device, all on the same axes.

    Slots without readings are a gap. Devices with a problem have the colour of warnings and say it.
    """
    lines, slot_ms = view.lines, view.slot_ms
    rows = -(-len(lines) // _COLUMNS)
    figure = new_figure(theme, 9, 0.75 + 1.05 * rows)
    values = [value for line in lines.values() for _, value in line]
    low, high = min(values), max(values)
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
            "wspace": 0.16,
        },
    )
    shown = QUANTITIES[0]
    means = f"means of {in_words(slot_ms / 1000)}"
    headline(figure, theme, f"{shown.name.capitalize()}, {shown.unit}, {means}", 0.05)
    flat = [axes for row in axes_of for axes in row]
    for axes, (device_id, line) in zip(flat, lines.items(), strict=False):
        problem = view.words.get(device_id)
        dress(axes, theme)
        axes.set_title(
            _short(device_id) + (f" – {problem}" if problem else ""),
            loc="left",
            fontsize=7.5,
            pad=2,
            color=theme.warn if problem else theme.text,
        )
        axes.plot(
            *_with_gaps(line, slot_ms),
            color=theme.warn if problem else theme.good,
            linewidth=1.2,
            marker=".",
            markersize=2.5,
        )
        axes.set_ylim(low - margin, high + margin)
    for axes in flat[len(lines) :]:
        axes.set_visible(False)
    # The time that there are readings of: an hour of them is not an empty day.
    begin = min(line[0][0] for line in lines.values())
    end = max(line[-1][0] for line in lines.values())
    flat[0].set_xlim(moment_of(begin - slot_ms / 2), moment_of(end + slot_ms / 2))
    time_axis(flat[0], ticks=4, is_dated=False)
    for number, axes in enumerate(flat[: len(lines)]):
        is_lowest = number + _COLUMNS >= len(lines)
        axes.tick_params(labelbottom=is_lowest, labelsize=7)
    return as_png(figure)


def draw_completeness(view: FleetView, theme: Theme) -> bytes:
    """A PNG with one row per device and one column per hour: how much of what was due is there."""
    shares, known = view.shares, view.fleet.known
    hours = max(map(len, shares.values()))
    names = list(shares)
    height = 1.05 + 0.17 * max(4, len(names))
    figure = new_figure(theme, 9, height)
    axes = figure.add_axes((0.19, 0.38 / height, 0.71, 1 - 0.8 / height))
    dress(axes, theme, grid=False)
    axes.spines["bottom"].set_visible(False)
    of = f", {len(names)} of {known:,} devices" if len(names) < known else ""
    title = f"Readings received of those due, by device and hour (UTC){of}"
    headline(figure, theme, title, 0.02)
    matrix = np.array(
        [[np.nan if share is None else share for share in shares[name]] for name in names],
        dtype=float,
    ).reshape(len(names), hours)
    # What is missing is loud, what is there is quiet; all people tell blue from orange.
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
    every = 1 if hours <= HOURS_LABELLED else 2
    columns = range(hours - 1, -1, -every)
    axes.set_xticks([column + 0.5 for column in columns])
    labels = [f"{moment_of((view.first_hour + column) * MS_PER_HOUR):%H:00}" for column in columns]
    axes.set_xticklabels([label[:2] if hours > HOURS_LABELLED else label for label in labels])
    axes.tick_params(axis="x", labelsize=7)
    bar_axes = figure.add_axes((0.915, 0.38 / height, 0.016, 1 - 0.8 / height))
    bar = figure.colorbar(image, cax=bar_axes, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["none", "half", "all"])
    bar.ax.tick_params(colors=theme.text, labelsize=7, length=0)
    bar.outline.set_visible(False)
    figure.text(
        0.19, 0.02, "grey: nothing due, or no rhythm to say so", fontsize=7, color=theme.text
    )
    return as_png(figure)


def _with_gaps(
    line: Sequence[tuple[int, float]], slot_ms: int
) -> tuple[list[datetime], list[float]]:
    """Times and values; where slots are missing between two there is a point without a value."""
    times: list[datetime] = []
    values: list[float] = []
    for at, (ms, value) in enumerate(line):
        if at and ms - line[at - 1][0] > slot_ms:
            times.append(moment_of(ms - slot_ms))
            values.append(np.nan)
        times.append(moment_of(ms))
        values.append(value)
    return times, values


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME else name[: _SHOWN_NAME - 1] + "…"
