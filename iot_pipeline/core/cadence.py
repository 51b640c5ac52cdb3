"""How often a device reports, learned from its own newest readings.

Belongs here: the arithmetic on one device's times. Does not belong here: reading them
(`stages.devices`), silence (`core.reporting`).
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

# Fewer readings say nothing about a rhythm.
LEAST_READINGS = 3
# Enough for a median that one dropout or one burst does not move.
LEARNED_FROM = 31


def learn_cadence(times_ms: Sequence[int]) -> float | None:
    """Seconds between two readings of a device: the mean of its ordinary gaps.

    Ordinary is what lies around the median gap. With jitter the median alone is off by a few
    percent, the plain mean by every pause.

    Args:
        times_ms: of its newest readings, in any order, each time once.

    Returns:
        More than 0; None when fewer than LEAST_READINGS are given.
    """
    if len(times_ms) < LEAST_READINGS:
        return None
    ordered = sorted(times_ms)
    gaps = [right - left for left, right in pairwise(ordered)]
    usual = median(gaps)
    ordinary = [gap for gap in gaps if 0.1 * usual <= gap <= 1.9 * usual]
    return (sum(ordinary) / len(ordinary) if ordinary else usual) / 1000
