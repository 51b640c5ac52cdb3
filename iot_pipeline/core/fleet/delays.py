"""How long readings travelled, as counts between fixed edges: percentiles of every one of them.

Belongs here: the edges, sums, percentiles. Does not belong here: which delay is too long
(`core.fleet.problems`), drawing (`artifacts.fleet_pictures`).
"""

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from iot_pipeline.core.times import MS_PER_HOUR, in_words

# Upper ends in seconds; below the first one a clock was ahead, above the last one nothing is known.
EDGES = (
    *(-1.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0),
    *(30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21_600.0),
    *(43_200.0, 86_400.0),
)
# What a picture shows, made of the edges above.
_SHOWN = (-1.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 86_400.0)
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
KEPT_HOURS = 25


class Delays(msgspec.Struct, array_like=True):
    """Counts of delays; `counts[n]` are those from EDGES[n - 1] on and below EDGES[n]."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(EDGES) + 1))
    largest_ms: int = 0

    @property
    def total(self) -> int:
        return sum(self.counts)

    @classmethod
    def of(cls, delays_ms: Iterable[int]) -> "Delays":
        """Those of a few readings; of many, count first."""
        delays = cls()
        for delay in delays_ms:
            delays.counts[bisect_right(EDGES, delay / 1000)] += 1
            delays.largest_ms = max(delays.largest_ms, delay)
        return delays

    def add(self, other: "Delays") -> None:
        """Add what was counted elsewhere."""
        self.counts = [
            ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.largest_ms = max(self.largest_ms, other.largest_ms)

    def percentile(self, share: float) -> float:
        """Seconds that about this share of the delays does not exceed; 0.0 without any."""
        wanted = share * self.total
        below = 0.0
        for number, count in enumerate(self.counts):
            if count and below + count >= wanted:
                low = EDGES[number - 1] if number else EDGES[0]
                high = EDGES[number] if number < len(EDGES) else self.largest_ms / 1000
                high = max(low, min(high, self.largest_ms / 1000))
                return max(0.0, low + (high - low) * (wanted - below) / count)
            below += count
        return 0.0

    def in_words(self, share: float) -> str:
        """The percentile, 0.1 s at least: `0.2 s`, `3 min`."""
        return in_words(max(0.1, self.percentile(share)))

    def numbers(self, way: str) -> dict[str, float]:
        """Percentiles as numbers that plot, their names beginning with the `way`."""
        return {
            f"{way}_p50_seconds": round(self.percentile(0.5), 3),
            f"{way}_p95_seconds": round(self.percentile(0.95), 3),
            f"{way}_max_seconds": self.largest_ms / 1000,
        }

    def shown(self) -> list[int]:
        """Counts of LABELS."""
        shown = [0] * len(LABELS)
        for number, count in enumerate(self.counts):
            low = EDGES[number - 1] if number else float("-inf")
            shown[bisect_right(_SHOWN, low)] += count
        return shown


class FleetRecord(msgspec.Struct, array_like=True, tag=2):
    """What is kept of a whole fleet: delays by the hour of arrival, of the last day.

    At `listed_ms` there were `listed` devices, and all but `unlooked` of them had a state.
    `suspects` are devices with problems: of a fleet that is too large for a look at all, these are
    looked at every time. At `recounted_ms` the hours that lacked readings were counted again.
    """

    hours: dict[int, Delays] = {}
    listed_ms: int = 0
    listed: int = 0
    unlooked: int = 0
    suspects: list[str] = []
    recounted_ms: int = 0

    def add(self, hour: int, delays: Delays) -> None:
        """Add delays of readings that arrived in this hour."""
        if hour not in self.hours:
            self.hours[hour] = Delays()
            if len(self.hours) > KEPT_HOURS:
                del self.hours[min(self.hours)]
        if hour in self.hours:
            self.hours[hour].add(delays)

    def since(self, ms: float) -> Delays:
        """All of the hours that end after this."""
        found = Delays()
        for hour, delays in self.hours.items():
            if (hour + 1) * MS_PER_HOUR > ms:
                found.add(delays)
        return found
