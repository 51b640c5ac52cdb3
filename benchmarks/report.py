"""Measurements become a table, ratios with their spread, JSON and a plot."""

import json
import shutil
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

# What rates are compared with: the first of these that ran.
_BASES = ("before", "handwritten")
# The series of a drain by so many processes.
LANES = "lanes: {}"
_BEGIN, _END = "<!-- results: written by make bench -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Measurement:
    """One run of one contender. CPU in µs per row, client, Kafka and Cassandra apart.

    `rate` is that of all rows in all of the seconds; `first_rate` and `last_rate` are those of the
    first and the last million of a long run, 0 where a run is not long enough.
    """

    series: str
    commitlog: str
    devices: int
    partitions: int
    contender: str
    round: int
    rows: int
    seconds: float
    rate: float
    client_us: float
    kafka_us: float
    cassandra_us: float
    peak_rss_mb: float
    first_rate: float = 0.0
    last_rate: float = 0.0

    @property
    def total_us(self) -> float:
        """CPU of one row, wherever it is spent."""
        return self.client_us + self.kafka_us + self.cassandra_us


@dataclass
class Found:
    """All that one benchmark found. A line of `profile`: function, calls per 1,000 rows, µs."""

    runs: list[Measurement] = field(default_factory=list)
    latencies: list[dict[str, float | str]] = field(default_factory=list)
    profile: list[tuple[str, float, float]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    command: str = ""
    machine: str = ""

    def of_devices(self) -> list[Measurement]:
        """Those of the series that compares contenders."""
        return [run for run in self.runs if run.series == "devices"]


def _spread(values: list[float], digits: int = 0) -> str:
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def base_of(runs: list[Measurement]) -> str:
    """The contender that the others are compared with."""
    ran = {run.contender for run in runs}
    return next((base for base in _BASES if base in ran), "")


def ratios(runs: list[Measurement]) -> dict[tuple[str, int, str], list[float]]:
    """Rates over the base's of the same round: what shakes both cancels out."""
    base_name = base_of(runs)
    rates = {(run.commitlog, run.devices, run.contender, run.round): run.rate for run in runs}
    found: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for (commitlog, devices, contender, number), rate in rates.items():
        base = rates.get((commitlog, devices, base_name, number))
        if base:
            found[commitlog, devices, contender].append(rate / base)
    return dict(found)


def table(runs: list[Measurement]) -> str:
    """Markdown: medians, and the least and the most of all rounds in brackets."""
    groups: dict[tuple[str, int, str], list[Measurement]] = defaultdict(list)
    for run in runs:
        groups[run.commitlog, run.devices, run.contender].append(run)
    compared = ratios(runs)
    base = base_of(runs) or "none"
    lines = [
        f"| commit log | devices | contender | rows | rows/s | × {base} | client µs/row "
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
            _spread(times, 2) if times else "",
            _spread([run.client_us for run in found], 1),
            _spread([run.kafka_us for run in found], 1),
            _spread([run.cassandra_us for run in found], 1),
            f"{max(run.peak_rss_mb for run in found):,.0f}",
        ]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _lanes_table(runs: list[Measurement]) -> str:
    """CPU of a row by lanes, and how many times that of the first line it is, round by round."""
    groups: dict[str, list[Measurement]] = defaultdict(list)
    for run in runs:
        groups[run.series].append(run)
    first = {run.round: run.total_us for run in groups[min(groups)]}
    lines = [
        f"| drained, {runs[0].devices:,} devices | rows | rows/s | client µs/row | Kafka µs/row "
        "| Cassandra µs/row | all µs/row | × the first | peak RSS MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(groups):
        found = groups[name]
        times = [run.total_us / first[run.round] for run in found if run.round in first]
        cells = [
            name,
            f"{found[0].rows:,}",
            _spread([run.rate for run in found]),
            _spread([run.client_us for run in found], 1),
            _spread([run.kafka_us for run in found], 1),
            _spread([run.cassandra_us for run in found], 1),
            _spread([run.total_us for run in found], 1),
            _spread(times, 2) if times else "",
            f"{max(run.peak_rss_mb for run in found):,.0f}",
        ]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def text(found: Found) -> str:
    """Everything as Markdown, without the plot."""
    parts = [f"`{found.command}`: {found.machine}.\n"]
    if found.of_devices():
        parts.append(table(found.of_devices()))
    lanes = [run for run in found.runs if run.series.startswith(LANES.format(""))]
    if lanes:
        parts.append(_lanes_table(lanes))
    others = [run for run in found.runs if run.series != "devices" and run not in lanes]
    if others:
        lines = [
            "| packed drain, 1,000 devices | commit log | rows | rows/s | client µs/row "
            "| peak RSS MB | first and last million, rows/s |",
            "|---|---|---|---|---|---|---|",
        ]
        series: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
        for run in others:
            series[run.series, run.commitlog].append(run)
        for (name, commitlog), runs in series.items():
            first = runs[0]
            ends = f"{first.first_rate:,.0f}, {first.last_rate:,.0f}" if first.last_rate else ""
            cells = [name, commitlog, f"{first.rows:,}", _spread([run.rate for run in runs])]
            cells.append(_spread([run.client_us for run in runs], 1))
            lines.append(_line([*cells, f"{max(run.peak_rss_mb for run in runs):,.0f}", ends]))
        parts.append("\n".join(lines) + "\n")
    if found.latencies:
        names = list(found.latencies[0])
        lines = [_line([f"following: {names[0]}", *names[1:]]), "|" + "---|" * len(names)]
        lines += [_line([str(one[name]) for name in names]) for one in found.latencies]
        parts.append("\n".join(lines) + "\n")
    if found.profile:
        lines = ["| main thread, profiled | calls per 1,000 rows | µs per row |", "|---|---|---|"]
        lines += [_line([f"`{w}`", f"{calls:,.1f}", f"{us:.2f}"]) for w, calls, us in found.profile]
        parts.append("\n".join(lines) + "\n")
    if found.left_out:
        parts.append("Left out for want of time: " + "; ".join(found.left_out) + ".\n")
    return "\n".join(parts)


def write(found: Found, folder: Path) -> None:
    """Leave table.md, results.json and throughput.png in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text(found))
    (folder / "results.json").write_text(json.dumps(asdict(found), indent=1))
    if found.of_devices():
        _plot(found.of_devices(), folder / "throughput.png")


def write_docs(found: Found, folder: Path, page: Path) -> None:
    """Put the results between the marks of a page, and the plot beside it."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    plot = page.with_name("throughput.png")
    shutil.copyfile(folder / "throughput.png", plot)
    body = f"{_BEGIN}\n\n{text(found)}\n![rows a second by devices]({plot.name})\n\n{_END}"
    page.write_text(before + body + after)


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
    figure.savefig(file, dpi=90)
    plt.close(figure)
