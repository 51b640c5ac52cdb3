"""How often a device reports, learned from its own newest readings, and when it counts as silent.

Belongs here: the arithmetic on one device's times. Does not belong here: reading them
(`stages.devices`).
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from statistics import median

# Fewer readings say nothing about a rhythm.
LEAST_READINGS = 3
# Enough for a median that one dropout or one burst does not move.
LEARNED_FROM = 31
# Micro-batches, a sensor's tick and a busy machine lie between a measurement and its row.
_LEAST_SILENCE_SECONDS = 60.0
_MISSED_READINGS = 5
_UNKNOWN_CADENCE_SECONDS = 3600.0


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


def silence_limit(cadence_seconds: float | None) -> timedelta:
    """How long after its newest reading a device of this cadence is called silent.

    Five readings missed, and a minute at least; an hour when the cadence is not known.
    """
    if cadence_seconds is None:
        return timedelta(seconds=_UNKNOWN_CADENCE_SECONDS)
    return timedelta(seconds=max(_LEAST_SILENCE_SECONDS, _MISSED_READINGS * cadence_seconds))
