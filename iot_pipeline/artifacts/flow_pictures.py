"""How data moved: rows per second, how far behind each run was, how late readings came."""

from datetime import UTC, datetime

from iot_pipeline.artifacts.drawing import LIGHT, Theme, as_png, dress, new_figure, time_axis
from iot_pipeline.core.flow import Flow
from iot_pipeline.core.lateness import LABELS, Lateness

_AHEAD, _LATE_FROM = 0, 7  # of LABELS


def draw_flow(flow: Flow, theme: Theme = LIGHT) -> bytes:
    """A PNG: rows per second above, below how old a run's newest record was when it was stored."""
    figure = new_figure(theme, 9, 3.4)
    upper, lower = figure.subplots(
        2,
        1,
        sharex=True,
        gridspec_kw={"left": 0.08, "right": 0.985, "top": 0.92, "bottom": 0.11, "hspace": 0.38},
    )
    dress(upper, theme, "Rows stored per second")
    begin = [
        _at(flow.since_ms + flow.slice_ms * number) for number in range(len(flow.rows_per_second))
    ]
    end = _at(flow.since_ms + flow.slice_ms * len(begin))
    upper.stairs(
        flow.rows_per_second,
        [moment.timestamp() / 86_400 for moment in [*begin, end]],
        fill=True,
        color=theme.good,
    )
    upper.set_ylim(bottom=0)
    dress(lower, theme, "Seconds from Kafka to the table, newest record of each run")
    lower.plot(
        [_at(run.ended_ms) for run in flow.runs],
        [max(run.behind_seconds, 0.01) for run in flow.runs],
        color=theme.warn,
        linewidth=0,
        marker="o",
        markersize=2.5,
    )
    lower.set_yscale("log", subs=[])
    low, high = lower.get_ylim()
    lower.set_ylim(min(0.1, low), max(10.0, high))
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    lower.set_xlim(begin[0], end)
    upper.tick_params(labelbottom=False)
    time_axis(lower, ticks=8)
    return as_png(figure)


def draw_lateness(lateness: Lateness, theme: Theme = LIGHT) -> bytes:
    """A PNG: how many of the sampled readings came how late, by the broker's clock."""
    figure = new_figure(theme, 9, 2.6)
    axes = figure.add_axes((0.02, 0.2, 0.965, 0.62))
    dress(
        axes,
        theme,
        f"How late readings reach Kafka: share of {lateness.readings:,} readings",
        grid=False,
    )
    total = max(1, lateness.readings)
    shares = [100 * count / total for count in lateness.counts]
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


def _at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
