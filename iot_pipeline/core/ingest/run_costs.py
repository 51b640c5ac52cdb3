"""What runs cost, and whether the newest ones cost more than runs like them did before.

Only like is compared with like: drains of a backlog, about as large, that nothing held back, so
that they took as long as they had to; parts of runs that follow with about as many rows a second.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import NamedTuple

# Fewer rows than these are stored in the time that a run takes to begin.
LEAST_ROWS = 100_000
# A percentile of fewer readings is a few of them.
LEAST_SAMPLES = 100
# A median of fewer runs is one or two of them.
LEAST_RUNS = 8
# A machine that does something else makes one run slow; what stays makes the next one slow, too.
# Measured on two busy cores, fourteen equal drains: 9,400 to 61,000 rows a second, 6.0 to 11.4 µs
# of CPU a row; a run that followed: a p99 of 0.3 to 2.2 s by ten seconds.
IN_A_ROW = 2
MOST_RUNS = 100


class Mode(enum.StrEnum):
    """Whether a run drains what waits, or stays."""

    DRAIN = "drain"
    FOLLOW = "follow"


class Place(NamedTuple):
    """What runs are kept under: with another number of lanes a lane is another one."""

    lane: str
    mode: Mode


def lane_name(place: int = 0, count: int = 1) -> str:
    """What a lane of a topic is called here: `0 of 1` is all of it."""
    return f"{place} of {count}"


@dataclass(frozen=True, slots=True)
class RunCost:
    """A run that drained, or ten seconds of one that follows.

    `cpu_seconds` are the process's, of a drain; `p99_ms` is from topic to row, of a run that
    follows. 0: not measured.
    """

    ended_at: datetime
    run_id: str
    stored: int
    seconds: float
    cpu_seconds: float = 0.0
    p99_ms: float = 0.0

    @property
    def rows_per_second(self) -> float:
        return self.stored / self.seconds

    @property
    def cpu_us_per_row(self) -> float:
        return 1e6 * self.cpu_seconds / self.stored


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of a run, and how many times worse than usual it has to be."""

    name: str
    unit: str
    of: Callable[[RunCost], float]
    times: float
    is_more_better: bool = False

    def is_bad(self, value: float, usual: float) -> bool:
        return value < usual / self.times if self.is_more_better else value > usual * self.times


@dataclass(frozen=True, slots=True)
class Compared:
    """The newest values of one measure against the median of `runs` before them; newest first."""

    measure: Measure
    values: Sequence[float]
    usual: float
    runs: int

    @property
    def is_known(self) -> bool:
        return self.runs >= LEAST_RUNS

    @property
    def is_bad(self) -> bool:
        """Whether both of the newest are."""
        return self.is_known and all(self.measure.is_bad(one, self.usual) for one in self.values)


ROWS = Measure("rows_per_second", "rows a second", lambda run: run.rows_per_second, 2.0, True)
CPU = Measure("cpu_us_per_row", "µs of CPU a row", lambda run: run.cpu_us_per_row, 2.0)
P99 = Measure("p99_ms", "ms from topic to row (p99)", lambda run: run.p99_ms, 4.0)
MEASURES = {Mode.DRAIN: (ROWS, CPU), Mode.FOLLOW: (P99,)}
# By how many times a run may be larger, or have more rows a second, and still be like another.
_LIKE = {Mode.DRAIN: 4.0, Mode.FOLLOW: 2.0}


def compare(mode: Mode, history: Sequence[RunCost]) -> list[Compared]:
    """Each measure of the newest runs against those before that are like the newest.

    Args:
        history: of one lane, the newest first.
    """
    found = []
    for measure in MEASURES[mode]:
        measured = [run for run in history if measure.of(run) > 0]
        like = [run for run in measured if _is_like(mode, run, measured[0])]
        values = [measure.of(run) for run in like]
        newest, before = values[:IN_A_ROW], values[IN_A_ROW:]
        found.append(Compared(measure, newest, median(before) if before else 0.0, len(before)))
    return found


def _is_like(mode: Mode, run: RunCost, newest: RunCost) -> bool:
    size, other = (
        (run.stored, newest.stored)
        if mode is Mode.DRAIN
        else (run.rows_per_second, newest.rows_per_second)
    )
    return 1 / _LIKE[mode] <= size / other <= _LIKE[mode]
