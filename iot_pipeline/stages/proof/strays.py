"""Rows that no record explains: another program wrote them, or their records are gone.

In bounded memory: one fingerprint per bucket of partitions, of what the records should have made
and of what is there. Cassandra adds up the latter; only buckets that differ are read row by row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from iot_pipeline.core.proof.audit_result import AuditResult, Fate, Finding
from iot_pipeline.core.proof.former_rows import FormerRows
from iot_pipeline.core.proof.mended import MendedRows
from iot_pipeline.core.proof.read_back import write_times_in
from iot_pipeline.core.proof.read_times import WriteTimes
from iot_pipeline.core.proof.row_sums import BUCKETS, RowSums, hash_row
from iot_pipeline.core.proof.stretches import rows_in
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.quantities import are_in_parts
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import arrived_ms
from iot_pipeline.core.times import day_number, day_of
from iot_pipeline.errors import TooManyTombstonesError
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import scan_rows, sum_rows
from iot_pipeline.stages.proof.trace import Written, find_records

# Keys held at once while rows without a record are named, about 100 bytes each.
MAX_EXPLAINED = 2_000_000
# What was written, and the number of its quantity where each cell is judged by itself; else 0.
_Cell = tuple[Written, int]
# Rows whose records are looked for together among those that came meanwhile.
_LOOKED_FOR_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class StraySearch:
    """Looks for rows without a record.

    Args:
        mended: torn rows that were written again.
        readable: the offsets that were read.
        times: write times in which every record was read; others are not judged.
        newest_ms: Kafka timestamp of the newest record read.
        former: until when rows of a partition may be of records from before a rebase.
        days: days since 1970 to look at; None: every partition of the table.
        result: where strays are counted and named.
    """

    ports: AuditPorts
    mended: MendedRows
    readable: Sequence[OffsetRange]
    times: WriteTimes
    newest_ms: int
    former: FormerRows
    days: Sequence[int] | None
    result: AuditResult
    tell: Callable[[], None]

    def run(self, stored: RowSums) -> None:
        """Count and name the rows that none of the records read has made.

        Args:
            stored: fingerprints of the rows that the records read should have made.
        """
        summed = RowSums(self._cells)
        rows, give_up = self.ports.rows, self.ports.settings.retry_seconds
        for place, sums in sum_rows(rows, self._places(), give_up):
            summed.add(place, 0 if self._in_parts else sums.rows, *sums.totals)
            self.tell()
        # A row that a record outside of those times has written is no difference: only row by row
        # can those be left out.
        suspects = stored.differing(summed)
        if suspects:
            suspects = stored.differing(self._inside_times(suspects), suspects)
        if suspects:
            self._name(suspects)

    @property
    def _cells(self) -> int:
        return len(self.ports.quantities)

    @property
    def _in_parts(self) -> bool:
        return are_in_parts(self.ports.quantities)

    def _inside_times(self, buckets: set[int]) -> RowSums:
        found = RowSums(self._cells)
        places = (place for place in self._places() if RowSums.bucket_of(place) in buckets)
        for place, rows in scan_rows(self.ports.rows, places, self.ports.settings.retry_seconds):
            for _, stored in rows:
                times = (us or 0 for us in write_times_in(stored))
                inside = [us if us in self.times else 0 for us in times]
                found.add(place, not self._in_parts and any(inside), *inside)
            self.tell()
        return found

    def _name(self, suspects: set[int]) -> None:
        # The keys of a slice of the buckets fit in memory; the log is read once per slice.
        share = max(1, MAX_EXPLAINED * BUCKETS // max(1, self.result.records))
        ordered = sorted(suspects)
        for at in range(0, len(ordered), share):
            buckets = set(ordered[at : at + share])
            explained = self._explained(buckets)
            places = (p for p in self._places() if RowSums.bucket_of(p) in buckets)
            unexplained: list[_Cell] = []
            for place, ms, written in self._scan(places):
                cells = {
                    (us, number if self._in_parts else 0)
                    for number, us in enumerate(written)
                    if us is not None and us in self.times
                }
                unexplained += [
                    ((place, ms, us), number)
                    for us, number in sorted(cells)
                    if hash_row(hash(place), ms, us, number) not in explained
                ]
                if len(unexplained) >= _LOOKED_FOR_AT_ONCE:
                    self._name_all(unexplained)
                    unexplained = []
            self._name_all(unexplained)

    def _name_all(self, unexplained: Sequence[_Cell]) -> None:
        # Records that came after those we read: clocks differ a little.
        newer = [key for key, _ in unexplained if arrived_ms(key[2]) >= self.newest_ms]
        found = find_records(self.ports, newer)
        named: set[tuple[Place, int]] = set()
        for key, number in unexplained:
            place, ms, written_us = key
            is_known = any(row[3 + number] is not None for row in found.get(key, ()))
            if is_known or (place, ms) in named:
                continue
            named.add((place, ms))  # a row of two strange writes is one stray
            if self.former.may_have_written(written_us):
                self.result.rows_unverifiable += 1
                continue
            self.result.fates[Fate.STRAY] += 1
            detail = f"no record wrote it, at {written_us} µs"
            self.result.name(Finding(Fate.STRAY, place[0], ms, None, None, detail))

    def _explained(self, buckets: set[int]) -> set[int]:
        explained: set[int] = set()
        for stretch in self.ports.stretches(self.readable):
            for place, group in stretch.groups.items():
                if RowSums.bucket_of(place) in buckets:
                    place_hash = hash(place)
                    explained |= {
                        hash_row(place_hash, ms, self.mended.row_of(place[0], ms, row)[0], number)
                        for ms, rows in group.items()
                        for row in rows_in(rows)
                        for number in range(self._cells if self._in_parts else 1)
                        if row[3 + number] is not None
                    }
        return explained

    def _places(self) -> Iterator[Place]:
        days = self.days
        if days is None:
            try:
                yield from list(self.ports.rows.all_places())
                return
            except TooManyTombstonesError:
                self.result.is_listed = False
            # Rows that live have a note there, if they are the pipeline's.
            days = [day_number(day) for day in self.ports.days.days()]
        for number in days:
            for device_id in self.ports.days.walk(day_of(number)):
                yield device_id, number

    def _scan(self, places: Iterable[Place]) -> Iterator[tuple[Place, int, Sequence[int | None]]]:
        """Every row of these partitions: (place, timestamp_ms, write times of its cells)."""
        for place, found in scan_rows(self.ports.rows, places, self.ports.settings.retry_seconds):
            for ms, stored in found:
                yield place, ms, write_times_in(stored)
            self.tell()
