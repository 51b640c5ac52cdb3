"""Rates out of marks: how many rows were safe at which second of a run."""

import resource
from collections.abc import Sequence

# Starting and ending are left out of a rate: what lies between is what a long run does.
FIRST_SHARE, LAST_SHARE = 0.20, 0.95

# (seconds since the run began, rows safe by then), both growing
Mark = tuple[float, int]


def cpu_seconds() -> float:
    """CPU of this process so far, all of its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def seconds_at(marks: Sequence[Mark], rows: float) -> float:
    """When so many rows were safe, on straight lines between the marks."""
    before: Mark = (0.0, 0)
    for mark in marks:
        if mark[1] >= rows:
            share = (rows - before[1]) / (mark[1] - before[1]) if mark[1] > before[1] else 1.0
            return before[0] + share * (mark[0] - before[0])
        before = mark
    return before[0]


def rate_between(marks: Sequence[Mark], first: float, last: float) -> float:
    """Rows a second from row `first` to row `last`."""
    seconds = seconds_at(marks, last) - seconds_at(marks, first)
    return (last - first) / seconds if seconds > 0 else 0.0


def steady_rate(marks: Sequence[Mark]) -> float:
    """Rows a second from 20 % to 95 % of all rows."""
    rows = marks[-1][1]
    return rate_between(marks, rows * FIRST_SHARE, rows * LAST_SHARE)
