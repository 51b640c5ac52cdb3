"""How long readings take from the broker to a row that can be read, as percentiles."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

# Each bucket ends one percent above the one before, so a percentile is right to half of that.
_GROWTH = math.log(1.01)
# What is faster is not told apart: broker timestamps are whole milliseconds.
_LEAST_SECONDS = 1e-6


@dataclass(slots=True)
class Latencies:
    """Durations in seconds, kept as counts per bucket: bounded however many are added.

    Percentiles are within 0.5 % of the sample they name, and the highest is exact.
    """

    highest_seconds: float = 0.0
    _buckets: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Latencies":
        found = cls()
        for one in seconds:
            found.add(one)
        return found

    def add(self, seconds: float) -> None:
        """One more; below zero is zero: the broker's clock may run ahead of ours."""
        self.highest_seconds = max(self.highest_seconds, seconds)
        self._buckets[round(math.log(max(seconds, _LEAST_SECONDS)) / _GROWTH)] += 1

    def merge(self, other: "Latencies") -> None:
        self.highest_seconds = max(self.highest_seconds, other.highest_seconds)
        self._buckets.update(other._buckets)

    @property
    def samples(self) -> int:
        return self._buckets.total()

    def percentile_seconds(self, share: float) -> float:
        """The least duration that this share of all samples, at most 1, does not exceed."""
        if share >= 1 or not self._buckets:
            return self.highest_seconds
        rank = max(1, math.ceil(share * self.samples))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(math.exp(bucket * _GROWTH), self.highest_seconds)
        return self.highest_seconds

    def numbers(self) -> dict[str, int | float]:
        """By name, in milliseconds; percentiles are left out where nothing was measured."""
        found: dict[str, int | float] = {"latency_samples": self.samples}
        if self.samples:
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
                found[f"latency_{name}_ms"] = round(1000 * self.percentile_seconds(share), 1)
        return found

    def __str__(self) -> str:
        if not self.samples:
            return "latency not measured yet"
        p50, p95, p99 = (f"{1000 * self.percentile_seconds(s):,.0f}" for s in (0.5, 0.95, 0.99))
        return f"topic to row p50 {p50} ms, p95 {p95} ms, p99 {p99} ms"
