"""The log and the table side by side: the fate of every offset, and rows without a record.

Apart from ingestion on purpose: it shares the reading contract and how a write time is made
(`core.reading.write_times`). The highest write time wins; which of several equal ones won it does
not judge, as long as the row is one of them, whole. Where readings may be told in parts each cell
is judged by itself: a row then is what several records made.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.proof.audit_result import AuditResult, Fate, Finding
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.proof.mended import MendedRows
from iot_pipeline.core.proof.read_back import (
    RowState,
    StoredRow,
    are_ties_explained,
    as_stored,
    as_stored_of,
    cells_of_its_own,
    judge_part,
    judge_row,
    says_the_same,
    values_in,
    write_times_in,
)
from iot_pipeline.core.proof.row_sums import RowSums
from iot_pipeline.core.proof.stretches import LetterIndex, Stretch, Tie, rows_in
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.quantities import Quantity, are_in_parts
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import Row, arrived_ms, rank, record_of
from iot_pipeline.core.times import day_of

# The row of their key is another record's; which is no defect.
NO_ROW_OF_ITS_OWN = (Fate.SUPERSEDED, Fate.REPEATED)


def _fate_beside(row: Row, stored: StoredRow) -> Fate:
    """Of a record whose row is another one's: whether that says the same."""
    return Fate.REPEATED if says_the_same(row, stored) else Fate.SUPERSEDED


@dataclass(slots=True)
class Judge:
    """Sorts the records of stretches by what the table and the dead letters say about them.

    Args:
        quantities: of a row.
        letters: coordinates of the topic's dead letters.
        deletions: what was deleted on purpose.
        mended: torn rows that were written again.
        aged_before_ms: of a device: rows of records that arrived before have outlived their
            retention; 0: they live for ever.
        losses: what the ledger says was left unread of the present log.
        counted: the names of the quantities whose cells are counted by day; None: of all.
    """

    quantities: Sequence[Quantity]
    letters: LetterIndex
    deletions: Deletions
    mended: MendedRows
    aged_before_ms: Callable[[str], int]
    losses: Sequence[LedgerEntry]
    result: AuditResult
    sums: RowSums = field(init=False)
    cells: int = field(init=False)
    in_parts: bool = field(init=False)
    # False: a part of the dead-letter topic cannot be read, so a letter may be there.
    has_all_letters: bool = True
    counted: Collection[str] | None = None
    _counted: set[int] = field(init=False)

    def __post_init__(self) -> None:
        names = [quantity.name for quantity in self.quantities]
        wanted = names if self.counted is None else self.counted
        self._counted = {number for number, name in enumerate(names) if name in wanted}
        self.cells, self.in_parts = len(self.quantities), are_in_parts(self.quantities)
        self.sums = RowSums(self.cells)

    def judge_rejected(self, stretch: Stretch) -> None:
        """Messages that are no readings: each must have its dead letter, but for the ignored."""
        self.result.fates[Fate.IGNORED] += stretch.ignored
        for partition, offset in stretch.rejected:
            if (partition, offset) in self.letters:
                self.result.fates[Fate.REJECTED] += 1
            elif (lost := self._lost_as(partition, offset)) is not None:
                self.result.fates[lost] += 1
            elif not self.has_all_letters:
                self.result.fates[Fate.UNVERIFIABLE] += 1
            else:
                self.result.fates[Fate.LOST] += 1
                detail = "the message is no reading, and no dead letter keeps it"
                self.result.name(Finding(Fate.LOST, "", 0, partition, offset, detail))

    def judge_rows(
        self,
        place: Place,
        times: Sequence[int],
        records: Mapping[int, Row | list[Row]],
        found: Mapping[int, StoredRow],
    ) -> list[Tie]:
        """Judge the records of some keys; gives back what only more records can tell."""
        if self.in_parts:
            return self._judge_parts(place, times, records, found)
        ties: list[Tie] = []
        stored_count = without_row = total = 0
        stored_at, as_stored = found.get, as_stored_of(self.cells)
        for ms in times:
            record, stored = records[ms], stored_at(ms)
            # This is the hot loop: one record, and its row as it should be.
            if not isinstance(record, list) and stored == as_stored(record):
                stored_count += 1
                total += record[0]
                continue
            claimed = False
            rows = [self.mended.row_of(place[0], ms, row) for row in rows_in(record)]
            for row in rows:
                fate = self._fate_of(place, ms, row, rows, stored, claimed)
                if fate is None:
                    assert stored is not None
                    ties.append(Tie(place, ms, row, stored, _fate_beside(row, stored)))
                elif fate is Fate.STORED:
                    claimed = True
                    stored_count += 1
                    total += row[0]
                else:
                    without_row += fate in NO_ROW_OF_ITS_OWN
                    self.result.fates[fate] += 1
        day = day_of(place[1])
        if stored_count:
            self.sums.add(place, stored_count, *[total] * self.cells)
            self.result.fates[Fate.STORED] += stored_count
            self.result.stored_by_day[day] += stored_count
        if without_row:
            self.result.superseded_by_day[day] += without_row
        return ties

    def _judge_parts(
        self,
        place: Place,
        times: Sequence[int],
        records: Mapping[int, Row | list[Row]],
        found: Mapping[int, StoredRow],
    ) -> list[Tie]:
        """`judge_rows` by cell: a record is stored where one at least is its own."""
        ties: list[Tie] = []
        totals, own_cells = [0] * self.cells, 0
        for ms in times:
            stored = found.get(ms)
            rows = [self.mended.row_of(place[0], ms, row) for row in rows_in(records[ms])]
            claimed: set[int] = set()
            for row in sorted(rows, key=rank):
                otherwise = Fate.LOST
                if stored is not None:
                    # Of two records that say the same at once only one has stored the cell.
                    own = set(cells_of_its_own(row, stored)) - claimed
                    claimed |= own
                    own_cells += len(own & self._counted)
                    for number in own:
                        totals[number] += row[0]
                    otherwise = Fate.STORED if own else _fate_beside(row, stored)
                fate = self._fate_of_part(place, ms, row, rows, stored, otherwise)
                if fate is None:
                    assert stored is not None
                    ties.append(Tie(place, ms, row, stored, otherwise))
                else:
                    self._count_fate(place, fate)
        if any(totals):
            # No rows: several records make one, and not all of them are here.
            self.sums.add(place, 0, *totals)
            if own_cells:
                self.result.cells_by_day[day_of(place[1])] += own_cells
        return ties

    def _fate_of_part(
        self,
        place: Place,
        ms: int,
        row: Row,
        rivals: Sequence[Row],
        stored: StoredRow | None,
        otherwise: Fate,
    ) -> Fate | None:
        state = judge_part(row, stored)
        if stored is None or state in (RowState.MISSING, RowState.OLDER):
            cells = zip(self.quantities, row[3:], (stored or ())[self.cells :], strict=False)
            lacking = [q.name for q, value, us in cells if value is not None and (us or 0) < row[0]]
            detail = f"it has no cell of {', '.join(lacking)}" if lacking else "it has no row"
            return self._fate_without_row(place, ms, row, detail)
        if state is RowState.TIED and not are_ties_explained(row, stored, rivals):
            return None
        return otherwise

    def _count_fate(self, place: Place, fate: Fate) -> None:
        self.result.fates[fate] += 1
        if fate is Fate.STORED:
            self.result.stored_by_day[day_of(place[1])] += 1
        elif fate in NO_ROW_OF_ITS_OWN:
            self.result.superseded_by_day[day_of(place[1])] += 1

    def settle_tie(self, tie: Tie, rivals: Iterable[Row]) -> None:
        """Decide a tie, given every record of the key with the row's write time."""
        if self.in_parts:
            is_explained = are_ties_explained(tie.row, tie.stored, rivals)
        else:
            values = values_in(tie.stored)
            is_explained = any(rival[3:] == values for rival in rivals)
        if is_explained:
            self._count_fate(tie.place, tie.otherwise)
            return
        self._torn(tie.place, tie.timestamp_ms, tie.row, tie.stored)
        self.result.fates[Fate.TORN] += 1

    def _fate_of(
        self,
        place: Place,
        ms: int,
        row: Row,
        rivals: Sequence[Row],
        stored: StoredRow | None,
        claimed: bool,
    ) -> Fate | None:
        state = judge_row(row, stored)
        if stored is None or state is RowState.MISSING:
            return self._fate_without_row(place, ms, row, "it has no row")
        if state is RowState.TORN:
            self._torn(place, ms, row, stored)
            return Fate.TORN
        if state is RowState.NEWER:
            return _fate_beside(row, stored)
        if state is RowState.OLDER:
            detail = f"the row is older, written at {write_times_in(stored)[0]} µs"
            return self._fate_without_row(place, ms, row, detail)
        if state is RowState.EQUAL:
            # One row: of two equal records with one write time only one has stored it.
            return Fate.REPEATED if claimed else Fate.STORED
        if any(stored == as_stored(rival) for rival in rivals):
            return _fate_beside(row, stored)
        return None

    def _fate_without_row(self, place: Place, ms: int, row: Row, detail: str) -> Fate:
        written_us, offset, partition = row[:3]
        if (partition, offset) in self.letters:
            return Fate.REJECTED
        if arrived_ms(written_us) < self.aged_before_ms(place[0]):
            self.result.gone_by_day[day_of(place[1])] += 1
            return Fate.AGED_OUT
        if (deletion := self.deletions.covering(place[0], ms, written_us)) is not None:
            self.result.gone_by_day[day_of(place[1])] += 1
            return Fate.FORGOTTEN if deletion.is_forgotten else Fate.DELETED
        if (lost := self._lost_as(partition, offset)) is not None:
            return lost
        self.result.name(Finding(Fate.LOST, place[0], ms, partition, offset, detail))
        return Fate.LOST

    def _torn(self, place: Place, ms: int, row: Row, stored: StoredRow) -> None:
        values = ", ".join(map(str, values_in(stored)))
        times = ", ".join(map(str, write_times_in(stored)))
        said = ", ".join(map(str, row[3:]))
        detail = (
            f"the row holds {values} written at {times} µs; its record says {said} at {row[0]} µs"
        )
        self.result.name(Finding(Fate.TORN, place[0], ms, *record_of(row), detail))

    def _lost_as(self, partition: int, offset: int) -> Fate | None:
        """What the ledger says of an offset that was left unread; None: it was read."""
        for entry in self.losses:
            if entry.partition == partition and entry.start_offset <= offset < entry.end_offset:
                return Fate(entry.outcome.value)
        return None

    def count_unread(self, gone: OffsetRange) -> int:
        """Offsets that Kafka does not have, or cannot give out: a loss where the ledger says so.

        Returns:
            How many of them were ingested, by the ledger.
        """
        self.result.uncompared.append(gone)
        unknown = gone.span
        for entry in self.losses:
            inside = min(gone.end, entry.end_offset) - max(gone.start, entry.start_offset)
            if entry.partition == gone.partition and inside > 0:
                self.result.fates[Fate(entry.outcome.value)] += inside
                unknown -= inside
        self.result.fates[Fate.UNVERIFIABLE] += unknown
        return unknown
