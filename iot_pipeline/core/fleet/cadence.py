"""How often a device reports, learned from its own newest readings."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

# Four intervals tell a cadence; fewer readings say nothing about a rhythm.
LEAST_READINGS = 5
# Gaps that differ from the middle one by more, half of them, are no rhythm to expect anything by.
_IRREGULAR_SHARE = 0.4


def learn_cadence(times_ms: Sequence[int]) -> float | None:
    """Seconds between two readings of a device: the mean of its ordinary gaps.

    Ordinary is what lies around the median gap. With jitter the median alone is off by a few
    percent, the plain mean by every pause. The times are in any order, each once. None when fewer
    than LEAST_READINGS are given, or all at the same time.
    """
    if len(times_ms) < LEAST_READINGS:
        return None
    gaps = _gaps(times_ms)
    usual = median(gaps)
    ordinary = [gap for gap in gaps if 0.1 * usual <= gap <= 1.9 * usual]
    return (sum(ordinary) / len(ordinary) if ordinary else usual) / 1000 or None


def is_regular(times_ms: Sequence[int]) -> bool:
    """Whether at least half of the gaps are about equal: what came tells what should have come."""
    if len(times_ms) < LEAST_READINGS:
        return False
    gaps = _gaps(times_ms)
    usual = median(gaps)
    return usual > 0 and median(abs(gap - usual) for gap in gaps) <= _IRREGULAR_SHARE * usual


def _gaps(times_ms: Sequence[int]) -> list[int]:
    return [right - left for left, right in pairwise(sorted(times_ms))]
