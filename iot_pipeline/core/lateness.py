"""How late readings are: from the device's clock to the broker's, and how that is spread.

Belongs here: sorting seconds into a histogram, who is late. Does not belong here: reading records
(`stages.lateness`).
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

# Upper ends of the bins, in seconds; clocks a little apart are no news.
EDGES = (-1.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 86_400.0)
LABELS = (
    "clock\nahead",
    "under\n1 s",
    "1–2 s",
    "2–5 s",
    "5–10 s",
    "10–30 s",
    "30–60 s",
    "1–10\nmin",
    "10–60\nmin",
    "1–24 h",
    "over\na day",
)
# A device is called late when half of its readings are this late, and its clock ahead by this.
LATE_SECONDS = 60.0
AHEAD_SECONDS = -5.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A reading as it arrived: `late_seconds` is the broker's time minus the device's."""

    device_id: str
    late_seconds: float


@dataclass(frozen=True, slots=True)
class Lateness:
    """A sample of arrivals, summed up. `counts` are of LABELS; shares of devices by median.

    `p50`, `p95` and `longest` are seconds, 0.0 when there is no arrival. `late` and `ahead` are
    (device_id, median seconds), the worst first.
    """

    counts: tuple[int, ...]
    p50: float
    p95: float
    longest: float
    devices: int
    late: tuple[tuple[str, float], ...]
    ahead: tuple[tuple[str, float], ...]

    @property
    def readings(self) -> int:
        return sum(self.counts)


def sum_up(arrivals: Sequence[Arrival]) -> Lateness:
    """The histogram, its quantiles and the devices at its ends."""
    counts = [0] * len(LABELS)
    by_device: defaultdict[str, list[float]] = defaultdict(list)
    for arrival in arrivals:
        counts[bisect_right(EDGES, arrival.late_seconds)] += 1
        by_device[arrival.device_id].append(arrival.late_seconds)
    ordered = sorted(arrival.late_seconds for arrival in arrivals)
    medians = sorted(
        ((name, median(seconds)) for name, seconds in by_device.items()), key=lambda item: -item[1]
    )
    return Lateness(
        tuple(counts),
        _quantile(ordered, 0.5),
        _quantile(ordered, 0.95),
        ordered[-1] if ordered else 0.0,
        len(by_device),
        tuple(item for item in medians if item[1] > LATE_SECONDS),
        tuple(item for item in reversed(medians) if item[1] < AHEAD_SECONDS),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
