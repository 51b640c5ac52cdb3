"""A row that a record should have made, beside the row that is there."""

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import Row

# The values of the quantities, then the write time of each; a cell that is not there is None.
StoredRow = tuple[Any, ...]

MAX_NAMED = 20


class RowState(enum.StrEnum):
    """How a found row stands to the row that a record makes."""

    EQUAL = "equal"
    NEWER = "newer"  # whole, with a higher write time: another record won, or a person wrote
    TIED = "tied"  # the same write time, other values: another record, or a torn row
    OLDER = "older"  # a lower write time: this record's row is not there
    MISSING = "missing"
    TORN = "torn"  # its cells are not of one write


@cache
def as_stored_of(cells: int) -> Callable[[Row], StoredRow]:
    """`as_stored` of rows of so many quantities, for many of them."""
    return itemgetter(*range(3, 3 + cells), *[0] * cells)


def as_stored(row: Row) -> StoredRow:
    """What the table has when a record's row is there and whole."""
    return as_stored_of(len(row) - 3)(row)


# States in which the record's row, or a later one, is not there as a whole.
NOT_WHOLE = (RowState.MISSING, RowState.OLDER, RowState.TORN)


def judge_row(row: Row, stored: StoredRow | None) -> RowState:
    """Compare what a record makes with what was found under its key."""
    if stored is None:
        return RowState.MISSING
    if stored == as_stored(row):
        return RowState.EQUAL
    times = set(write_times_in(stored))
    if times == {None}:
        return RowState.MISSING
    if len(times) > 1:
        return RowState.TORN
    stored_us = max(filter(None, times))
    if stored_us == row[0]:
        return RowState.TIED
    return RowState.NEWER if stored_us > row[0] else RowState.OLDER


def values_in(stored: StoredRow) -> StoredRow:
    return stored[: len(stored) // 2]


def write_times_in(stored: StoredRow) -> tuple[int | None, ...]:
    """The write time of each cell: all equal in a whole row, None of a cell that is not there."""
    return stored[len(stored) // 2 :]


def should_write(row: Row, stored: StoredRow | None) -> bool:
    """Whether writing a record's row again restores something, and mixes it with nothing.

    A cell is restored when it is missing or older. Where another value has the same write time
    Cassandra would keep the larger of the two.
    """
    if stored is None:
        return True
    cells = list(zip(row[3:], values_in(stored), write_times_in(stored), strict=True))
    if any(us == row[0] and found != value for value, found, us in cells):
        return False
    return any(us is None or us < row[0] for _, _, us in cells)


@dataclass(frozen=True, slots=True)
class RowFinding:
    device_id: str
    timestamp_ms: int
    row: Row
    stored: StoredRow | None
    state: RowState

    def __str__(self) -> str:
        where = f"{self.device_id} at {self.timestamp_ms} ms (record {self.row[2]}:{self.row[1]})"
        stored_us = write_times_in(self.stored)[0] if self.stored else None
        return {
            RowState.EQUAL: f"{where}: as its record says",
            RowState.NEWER: f"{where}: a later write won, at {stored_us} µs",
            RowState.TIED: f"{where}: another record, or a torn row, has the same write time",
            RowState.OLDER: f"{where}: only an older row is there, of {stored_us} µs",
            RowState.MISSING: f"{where}: no row: it was deleted, or it outlived its retention",
            RowState.TORN: f"{where}: its cells are of several writes",
        }[self.state]


@dataclass(slots=True)
class ReadBack:
    """How many rows were found in which state, and the first of those that are not equal.

    `gone` were not looked for: deleted on purpose, or older than their retention. `left` were to
    be compared, and the time did not suffice.
    """

    states: Counter[RowState] = field(default_factory=Counter)
    named: list[RowFinding] = field(default_factory=list)
    gone: int = 0
    left: int = 0

    @property
    def rows(self) -> int:
        return self.states.total()

    @property
    def not_equal(self) -> int:
        return self.rows - self.states[RowState.EQUAL]

    def take(self, place: Place, timestamp_ms: int, row: Row, stored: StoredRow | None) -> RowState:
        state = judge_row(row, stored)
        self.states[state] += 1
        if state is not RowState.EQUAL:
            self._name(RowFinding(place[0], timestamp_ms, row, stored, state))
        return state

    def _name(self, finding: RowFinding) -> None:
        """Rows that are not whole first: harmless ones must not take their place."""
        if finding.state in NOT_WHOLE:
            at = sum(item.state in NOT_WHOLE for item in self.named)
            self.named.insert(at, finding)
            del self.named[MAX_NAMED:]
        elif len(self.named) < MAX_NAMED:
            self.named.append(finding)
