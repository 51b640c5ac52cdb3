"""Measurements become a table, ratios with their spread, JSON and a plot."""

import json
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

BASE = "handwritten"


@dataclass(frozen=True)
class Measurement:
    """One run of one contender. CPU in µs per row, client, Kafka and Cassandra apart."""

    commitlog: str
    devices: int
    contender: str
    round: int
    rows: int
    seconds: float
    client_us: float
    kafka_us: float
    cassandra_us: float
    peak_rss_mb: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def _spread(values: list[float], digits: int = 0) -> str:
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def ratios(runs: list[Measurement]) -> dict[tuple[str, int, str], list[float]]:
    """Rates over the hand-written consumer's of the same round: what shakes both cancels out."""
    rates = {(run.commitlog, run.devices, run.contender, run.round): run.rate for run in runs}
    found: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for (commitlog, devices, contender, number), rate in rates.items():
        base = rates.get((commitlog, devices, BASE, number))
        if base:
            found[commitlog, devices, contender].append(rate / base)
    return dict(found)


def table(runs: list[Measurement]) -> str:
    """Markdown: medians, and the least and the most of all rounds in brackets."""
    groups: dict[tuple[str, int, str], list[Measurement]] = defaultdict(list)
    for run in runs:
        groups[run.commitlog, run.devices, run.contender].append(run)
    compared = ratios(runs)
    lines = [
        "| commit log | devices | contender | rows | rows/s | × hand-written | client µs/row "
        "| Kafka µs/row | Cassandra µs/row | peak RSS MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in sorted(groups, key=lambda at: (at[0], at[1])):
        found = groups[key]
        times = compared.get(key)
        cells = [
            key[0],
            f"{key[1]:,}",
            key[2],
            f"{found[0].rows:,}",
            _spread([run.rate for run in found]),
            _spread(times, 1) if times else "",
            _spread([run.client_us for run in found], 1),
            _spread([run.kafka_us for run in found], 1),
            _spread([run.cassandra_us for run in found], 1),
            f"{max(run.peak_rss_mb for run in found):,.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(runs: list[Measurement], latencies: list[dict[str, float]], folder: Path) -> None:
    """Leave table.md, results.json and throughput.png in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = table(runs)
    for latency in latencies:
        text += "\nfollow mode: " + ", ".join(f"{k} {v:g}" for k, v in latency.items()) + "\n"
    (folder / "table.md").write_text(text)
    found = {"runs": [asdict(run) for run in runs], "latency": latencies}
    (folder / "results.json").write_text(json.dumps(found, indent=1))
    if runs:
        _plot(runs, folder / "throughput.png")


def _plot(runs: list[Measurement], file: Path) -> None:
    # Imported here: half a second, and only the last step needs it.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    logs = sorted({run.commitlog for run in runs})
    figure, axes = plt.subplots(1, len(logs), figsize=(6 * len(logs), 4), squeeze=False)
    for axis, commitlog in zip(axes[0], logs, strict=True):
        for contender in sorted({run.contender for run in runs}):
            rates: dict[int, list[float]] = defaultdict(list)
            for run in runs:
                if (run.commitlog, run.contender) == (commitlog, contender):
                    rates[run.devices].append(run.rate)
            xs = sorted(rates)
            axis.plot(xs, [statistics.median(rates[x]) for x in xs], marker="o", label=contender)
        axis.set(xscale="log", yscale="log", xlabel="devices", ylabel="rows/s", title=commitlog)
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
