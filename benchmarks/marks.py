"""Rates out of marks: how many rows were safe at which second of a run."""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

# (seconds since the run began, rows safe by then), both growing
Mark = tuple[float, int]


def cpu_seconds() -> float:
    """CPU of this process so far, all of its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_mb() -> float:
    """The most memory this process had so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage counts what the parent had when it forked, which may be more.
        line = next(at for at in status.read_text().splitlines() if at.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


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
