"""A row that a record should have made, beside the row that is there."""

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from iot_pipeline.core.reading.quantities import Quantity, are_in_parts
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import Row, rank

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


def judge_part(row: Row, stored: StoredRow | None) -> RowState:
    """`judge_row` where readings may be told in parts: by the cells that the record has.

    NEWER: none is missing, and one at least is of a later record.
    """
    if stored is None:
        return RowState.MISSING
    written_us = row[0]
    is_newer = is_older = is_tied = False
    for value, found, us in _cells_beside(row, stored):
        if us is None:
            return RowState.MISSING
        is_older |= us < written_us
        is_newer |= us > written_us
        is_tied |= us == written_us and found != value
    if is_older:
        return RowState.OLDER
    if is_tied:
        return RowState.TIED
    return RowState.NEWER if is_newer else RowState.EQUAL


def judge_of(quantities: Sequence[Quantity]) -> Callable[[Row, StoredRow | None], RowState]:
    """How rows of these quantities are judged."""
    return judge_part if are_in_parts(quantities) else judge_row


def cells_of_its_own(row: Row, stored: StoredRow) -> list[int]:
    """The numbers of the quantities whose cell has the record's value and write time."""
    cells = zip(row[3:], values_in(stored), write_times_in(stored), strict=True)
    return [
        number
        for number, (value, found, us) in enumerate(cells)
        if value is not None and us == row[0] and found == value
    ]


def are_ties_explained(row: Row, stored: StoredRow, rivals: Iterable[Row]) -> bool:
    """Whether each cell with the record's write time and another value is one of a rival that wins.

    It is one that comes first of those with this write time, or one whose every cell is there:
    which of these wins across partitions Cassandra decides.

    Args:
        rivals: every record of the key with the row's write time.
    """
    same = [rival for rival in rivals if rival[0] == row[0]]
    cells = zip(row[3:], values_in(stored), write_times_in(stored), strict=True)
    return all(
        any(
            rival[3 + number] == found
            and (rank(rival) < rank(row) or not _has_tied_cell(rival, stored))
            for rival in same
        )
        for number, (value, found, us) in enumerate(cells)
        if value is not None and us == row[0] and found != value
    )


def _has_tied_cell(row: Row, stored: StoredRow) -> bool:
    return any(us == row[0] and found != value for value, found, us in _cells_beside(row, stored))


def _cells_beside(row: Row, stored: StoredRow) -> list[tuple[Any, Any, int | None]]:
    """(its value, the value that is there, its write time) of each cell that a record has."""
    cells = zip(row[3:], values_in(stored), write_times_in(stored), strict=True)
    return [cell for cell in cells if cell[0] is not None]


def says_the_same(row: Row, stored: StoredRow) -> bool:
    """Whether every value of a record is the one that is there."""
    return all(value == found for value, found, _ in _cells_beside(row, stored))


def values_in(stored: StoredRow) -> StoredRow:
    return stored[: len(stored) // 2]


def write_times_in(stored: StoredRow) -> tuple[int | None, ...]:
    """The write time of each cell: all equal in a whole row, None of a cell that is not there."""
    return stored[len(stored) // 2 :]


def newest_us(stored: StoredRow) -> int:
    """The latest write time of its cells; 0 where there is none."""
    return max((us for us in write_times_in(stored) if us is not None), default=0)


def should_write(row: Row, stored: StoredRow | None) -> bool:
    """Whether writing a record's row again restores something, and mixes it with nothing.

    A cell is restored when it is missing or older. Where another value has the same write time
    Cassandra would keep the larger of the two.
    """
    if stored is None:
        return True
    cells = _cells_beside(row, stored)
    if any(us == row[0] and found != value for value, found, us in cells):
        return False
    return any(us is None or us < row[0] for _, _, us in cells)


def without_ties(row: Row, stored: StoredRow | None) -> Row:
    """A record's row without the cells of which another value has the same write time; in parts."""
    if stored is None:
        return row
    cells = zip(row[3:], values_in(stored), write_times_in(stored), strict=True)
    kept = [None if us == row[0] and found != value else value for value, found, us in cells]
    return (row[0], row[1], row[2], *kept)


def count_new_cells(row: Row, stored: StoredRow | None) -> int:
    """How many cells a record has that the table does not have at all."""
    times = (None,) * (len(row) - 3) if stored is None else write_times_in(stored)
    cells = zip(row[3:], times, strict=True)
    return sum(value is not None and us is None for value, us in cells)


@dataclass(frozen=True, slots=True)
class RowFinding:
    device_id: str
    timestamp_ms: int
    row: Row
    stored: StoredRow | None
    state: RowState

    def __str__(self) -> str:
        where = f"{self.device_id} at {self.timestamp_ms} ms (record {self.row[2]}:{self.row[1]})"
        stored_us = newest_us(self.stored) if self.stored else None
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
    be compared, and the time did not suffice. `judge` is that of their quantities (`judge_of`).
    """

    judge: Callable[[Row, StoredRow | None], RowState] = judge_row
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
        state = self.judge(row, stored)
        self.states[state] += 1
        if state is not RowState.EQUAL:
            self._name(RowFinding(place[0], timestamp_ms, row, stored, state))
        return state

    def take_tied(
        self, place: Place, timestamp_ms: int, row: Row, stored: StoredRow, rivals: Sequence[Row]
    ) -> None:
        """Take a TIED row in, by every record of the key with its write time; in parts."""
        is_explained = are_ties_explained(row, stored, rivals)
        state = RowState.EQUAL if is_explained else RowState.TORN
        self.states[state] += 1
        if not is_explained:
            self._name(RowFinding(place[0], timestamp_ms, row, stored, state))

    def _name(self, finding: RowFinding) -> None:
        """Rows that are not whole first: harmless ones must not take their place."""
        if finding.state in NOT_WHOLE:
            at = sum(item.state in NOT_WHOLE for item in self.named)
            self.named.insert(at, finding)
            del self.named[MAX_NAMED:]
        elif len(self.named) < MAX_NAMED:
            self.named.append(finding)
