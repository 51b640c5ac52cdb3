"""How data moved: rows per second, how far behind each run was, how late readings came."""

from iot_pipeline.artifacts.drawing import Theme, as_png, dress, new_figure, time_axis
from iot_pipeline.core.fleet.delays import LABELS, Delays
from iot_pipeline.core.ledger.flow import Flow
from iot_pipeline.core.times import in_words, moment_of

_AHEAD, _LATE_FROM = 0, 7  # of LABELS


def draw_flow(flow: Flow, theme: Theme) -> bytes:
    """A PNG: rows per second above, below how old a run's newest record was when it was stored.

    The lower plot ends where 99 of 100 runs are: the first run of all, which found a day of
    records waiting, would press the others into a line. What lies above is drawn at the edge and
    counted.
    """
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


def draw_lateness(delays: Delays, theme: Theme) -> bytes:
    """A PNG: how many of the readings came how late, by the broker's clock."""
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
