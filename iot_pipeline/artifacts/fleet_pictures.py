"""The pictures of a fleet, by name, with the words below them on a page.

Its last day, a small curve per device; how complete each hour is; how data moved: rows per second,
how far behind each run was, how late readings came.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from iot_pipeline.artifacts.drawing import (
    LIGHT,
    Theme,
    as_png,
    dress,
    headline,
    new_figure,
    time_axis,
)
from iot_pipeline.core.fleet.delays import LABELS
from iot_pipeline.core.fleet.view import FleetView
from iot_pipeline.core.reading.quantities import first_number
from iot_pipeline.core.times import MS_PER_HOUR, in_words, moment_of
from iot_pipeline.core.words import printable

_COLUMNS = 4
_SHOWN_NAME = 22
_MOST_LABELS = 40
HOURS_LABELLED = 12
_AHEAD, _LATE_FROM = 0, 7  # of LABELS


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
    shown = first_number(view.fleet.limits.quantities)
    means = f"means of {in_words(slot_ms / 1000)}"
    headline(figure, theme, f"{shown.title[:1].upper()}{shown.title[1:]}, {means}", 0.05)
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


def draw_flow(view: FleetView, theme: Theme) -> bytes:
    """A PNG: rows per second above, below how old a run's newest record was when it was stored.

    The lower plot ends where 99 of 100 runs are: the first run of all, which found a day of
    records waiting, would press the others into a line. What lies above is drawn at the edge and
    counted.
    """
    flow = view.flow
    figure = new_figure(theme, 9, 3.4)
    upper, lower = figure.subplots(
        2,
        1,
        sharex=True,
        gridspec_kw={"left": 0.08, "right": 0.985, "top": 0.92, "bottom": 0.11, "hspace": 0.38},
    )
    dress(upper, theme, "Readings stored per second, by the time they arrived")
    begin = [
        moment_of(flow.since_ms + flow.slice_ms * number)
        for number in range(len(flow.rows_per_second))
    ]
    end = moment_of(flow.since_ms + flow.slice_ms * len(begin))
    upper.stairs(
        flow.rows_per_second,
        [moment.timestamp() / 86_400 for moment in [*begin, end]],
        fill=True,
        color=theme.good,
    )
    upper.set_ylim(bottom=0)
    behind = [max(run.behind_seconds, 0.01) for run in flow.runs]
    highest = max(10.0, 1.5 * sorted(behind)[int(0.99 * (len(behind) - 1))])
    above = sum(seconds > highest for seconds in behind)
    title = "Seconds from Kafka to the table, newest record of each run"
    title += f"; {above} above, at most {in_words(max(behind))}" if above else ""
    dress(lower, theme, title)
    lower.plot(
        [moment_of(run.ended_ms) for run in flow.runs],
        [min(seconds, highest) for seconds in behind],
        color=theme.warn,
        linewidth=0,
        marker="o",
        markersize=2.5,
    )
    lower.set_yscale("log", subs=[])
    lower.set_ylim(min(0.1, *behind), highest * 1.1)
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    lower.set_xlim(begin[0], end)
    upper.tick_params(labelbottom=False)
    time_axis(lower, ticks=8)
    return as_png(figure)


def draw_lateness(view: FleetView, theme: Theme) -> bytes:
    """A PNG: how many of the readings came how late, by the broker's clock."""
    delays = view.fleet.delays
    figure = new_figure(theme, 9, 2.6)
    axes = figure.add_axes((0.02, 0.2, 0.965, 0.62))
    dress(
        axes,
        theme,
        f"How late readings reach Kafka: share of {delays.total:,} readings of the last hours",
        grid=False,
    )
    shares = [100 * count / max(1, delays.total) for count in delays.shown()]
    colors = [
        theme.warn if number == _AHEAD or number >= _LATE_FROM else theme.good
        for number in range(len(shares))
    ]
    axes.bar(range(len(shares)), shares, color=colors, width=0.85)
    for number, share in enumerate(shares):
        if share:
            label = f"{share:.0f} %" if share >= 1 else "< 1 %"
            axes.annotate(
                label,
                (number, share),
                ha="center",
                va="bottom",
                fontsize=8,
                color=theme.text,
                xytext=(0, 1),
                textcoords="offset points",
            )
    axes.set_ylim(0, max(shares) * 1.18 or 1)
    axes.set_yticks([])
    axes.set_xticks(range(len(LABELS)), LABELS, fontsize=8)
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
    name = printable(name)
    return name if len(name) <= _SHOWN_NAME else name[: _SHOWN_NAME - 1] + "…"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture; left out where `content` of the view is empty."""

    name: str
    caption: str
    content: Callable[[FleetView], Any]
    draw: Callable[[FleetView, Theme], bytes]


PICTURES = (
    Picture(
        "last_day",
        "Some devices; those with a problem are orange. A line that ends is a device that fell "
        "silent.",
        lambda view: view.lines,
        draw_small_multiples,
    ),
    Picture(
        "completeness",
        "Each row is a device, each column an hour of the last day. Blue: all readings that were "
        "due have arrived. Orange: they are missing.",
        lambda view: view.shares,
        draw_completeness,
    ),
    Picture(
        "lag_and_throughput",
        "How many readings were stored, and how old the newest one was by then. Dots that climb "
        "mean that storing cannot keep up.",
        lambda view: view.flow.runs,
        draw_flow,
    ),
    Picture(
        "lateness",
        "From the moment a device measured to the moment its reading arrived. A clock that is "
        "ahead makes readings seem to come from the future.",
        lambda view: view.fleet.delays.total,
        draw_lateness,
    ),
)


def draw_album(view: FleetView, theme: Theme = LIGHT) -> dict[str, bytes]:
    """PNG by name, under 50 KB each."""
    return {item.name: item.draw(view, theme) for item in PICTURES if item.content(view)}
