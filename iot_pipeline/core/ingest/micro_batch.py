"""Records become a micro-batch: decoded or rejected, in columns, winners found, grouped."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from operator import attrgetter
from sys import getsizeof
from typing import Any

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.ingest.winners import Losers, Lost, group_rows
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.columns import NO_DEVICE, Codes, Columns, DeviceCodes, Ints
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.fingerprints import Fingerprint, fingerprint_of
from iot_pipeline.core.reading.messages import (
    DeadLetter,
    Ignored,
    Reason,
    Record,
    Rejection,
    find_device_id_problem,
)
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.read_chunk import read_chunk
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import Row, record_of, write_times_of_partition
from iot_pipeline.core.times import MS_PER_DAY, day_of

_place_in_log = attrgetter("record.partition", "record.offset")


@dataclass(slots=True)
class MicroBatch:
    """What one conditional write commits: rows to write, letters to deliver, counts to record.

    `groups` holds the winners by device and day; `ends` says, for every Kafka partition that moved,
    where its checkpoint goes; `counts` has the same keys. No row's Kafka timestamp exceeds
    `newest_ms`. `fingerprints` are of the last record of each Kafka partition that has one.
    """

    groups: RowGroups
    dead_letters: list[DeadLetter]
    starts: dict[int, int]
    ends: dict[int, int]
    counts: dict[int, Counts]
    holes: list[OffsetRange]
    split_ms: int = 0
    newest_ms: int = 1 << 62
    fingerprints: dict[int, Fingerprint] = field(default_factory=dict)
    _losers: Losers | None = None

    def losers(self) -> dict[tuple[int, int], list[Lost]]:
        """Rows without a cell, by the (partition, offset) of each that won one; as objects."""
        return self._losers.by_winner() if self._losers is not None else {}

    def reject(self, record: Record, decoder: ReadingDecoder) -> None:
        """Count a row that the store refused as rejected: its record becomes a dead letter."""
        # By the same rules but apart: the record was counted when it was decoded first.
        decoded = ReadingDecoder(decoder.rules).decode_record(record)
        assert not isinstance(decoded, Rejection | Ignored), "it made a row, so it was a reading"
        day = day_of(timestamp_ms(decoded.timestamp) // MS_PER_DAY)
        self._unstore(record.partition, day, "rejected")

    def supersede(self, row: Row, day_number: int, *, is_repeat: bool = False) -> None:
        """Count a row that is not to be written after all, as another one is in its place.

        Args:
            day_number: the row's day.
            is_repeat: whether that one has the same values.
        """
        self._unstore(row[2], day_of(day_number), "repeated" if is_repeat else "superseded")

    def reject_loser(self, lost: Lost) -> None:
        """Count a row as rejected that lost to one that the store then refused."""
        self._move(lost.row[2], "repeated" if lost.is_repeat else "superseded", "rejected")

    def count_cells_again(self, refused: Collection[tuple[int, int]] = ()) -> None:
        """Where readings may be told in parts: after rows were taken out, or refused.

        What is counted as stored is in `groups` then.
        """
        losers = self._losers
        if losers is None or not losers.columns.may_lack_cells:
            return
        beside = losers.cells_beside(refused)
        found: dict[int, Counter[date]] = {partition: Counter() for partition in self.counts}
        for (_, day_number), rows in self.groups.items():
            for row in rows.values():
                record = record_of(row)
                if record in refused:
                    continue
                cells = (at for at, value in enumerate(row[3:]) if value is not None)
                found[row[2]][day_of(day_number)] += sum((record, at) not in beside for at in cells)
        for partition, by_day in found.items():
            self.counts[partition] = replace(self.counts[partition], cells_by_day=dict(by_day))

    def _unstore(self, partition: int, day: date, won: str) -> None:
        self._move(partition, "stored", won)
        counts = self.counts[partition]
        by_day = {**counts.stored_by_day, day: counts.stored_by_day[day] - 1}
        by_day = {day: rows for day, rows in by_day.items() if rows}
        counts = replace(counts, stored_by_day=by_day)
        if self._losers is not None and not self._losers.columns.may_lack_cells:
            cells = len(self._losers.columns.values)
            counts = replace(counts, cells_by_day={d: rows * cells for d, rows in by_day.items()})
        self.counts[partition] = counts

    def _move(self, partition: int, lost: str, won: str) -> None:
        """Count one record under another fate."""
        counts = self.counts[partition]
        fates = counts.by_fate()
        changed: dict[str, Any] = {lost: fates[lost] - 1, won: fates[won] + 1}
        self.counts[partition] = replace(counts, **changed)

    @property
    def rows(self) -> int:
        return self.groups.rows

    @property
    def span(self) -> int:
        return sum(self.ends[p] - self.starts[p] for p in self.ends)


@dataclass(slots=True)
class _PartitionTally:
    expected: int
    holes: list[OffsetRange] = field(default_factory=list)
    records: int = 0
    rejected: int = 0
    ignored: int = 0
    aged_out: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    # The last record: what its fingerprint is made of, once for all of them.
    last: tuple[int, int, bytes | None, bytes | None] | None = None


@dataclass(slots=True)
class MicroBatchBuilder:
    """Folds records into one micro-batch; `build` ends it.

    Args:
        starts: the offset at which this micro-batch begins, per Kafka partition.
        decoder: turns messages into readings; it outlives the micro-batch.
        codes: of the devices; they may outlive it, too.
        expired_before_ms: records whose Kafka timestamp is lower have outlived the retention of
            the rows: aged_out, not written. None: rows live for ever.
        expired_by_code: the same by device, where they differ: none is above `expired_before_ms`.

    `kept_bytes` is what the dead letters and the texts of readings take so far: all else of a
    reading is small whatever its message was, a dead letter is kept whole.
    """

    starts: dict[int, int]
    decoder: ReadingDecoder
    codes: DeviceCodes = field(default_factory=DeviceCodes)
    expired_before_ms: int | None = None
    expired_by_code: Callable[[DeviceCodes], Ints] | None = None
    records: int = 0
    split_ms: int = 0
    kept_bytes: int = 0
    _newest_ms: int = 0
    _columns: Columns = field(init=False)
    # Which of the places of `_columns` are rivals: rows of an earlier micro-batch.
    _rivals: list[slice] = field(default_factory=list)
    # By code: which devices have rows. And the days that have.
    _has_rows: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1024, np.bool_))
    _days: set[int] = field(default_factory=set)
    _dead_letters: list[DeadLetter] = field(default_factory=list)
    _tallies: dict[int, _PartitionTally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._columns = Columns.of(self.codes, self.decoder.rules.quantities)

    def add(self, chunk: RecordChunk) -> None:
        """Take records in; those of one partition in the order of their offsets."""
        partition = chunk.partition
        tally = self._tallies.get(partition)
        if tally is None:
            tally = self._tallies[partition] = _PartitionTally(self.starts[partition])
        produced_ms = np.array(chunk.produced_ms, np.int64)
        self._tally(chunk, int(produced_ms.max()), tally)
        self._place(chunk, produced_ms, tally)

    def compete(self, chunk: RecordChunk) -> None:
        """Let rows of an earlier micro-batch win where they do; they are not written again."""
        start = self._columns.count
        self._place(chunk, np.array(chunk.produced_ms, np.int64), None)
        self._rivals.append(slice(start, self._columns.count))

    def _tally(self, chunk: RecordChunk, newest_ms: int, tally: _PartitionTally) -> None:
        offsets, count = chunk.offsets, len(chunk)
        self.records += count
        tally.records += count
        if tally.first_ms is None:
            tally.first_ms = chunk.produced_ms[0]
        tally.last_ms = chunk.produced_ms[-1]
        tally.last = offsets[-1], tally.last_ms, chunk.message_keys[-1], chunk.values[-1]
        self._newest_ms = max(self._newest_ms, newest_ms)
        if offsets[-1] - tally.expected + 1 != count:
            expected = tally.expected
            for offset in offsets:
                if offset != expected:
                    tally.holes.append(OffsetRange(chunk.partition, expected, offset))
                expected = offset + 1
        tally.expected = offsets[-1] + 1

    def _place(self, chunk: RecordChunk, produced_ms: Ints, tally: _PartitionTally | None) -> None:
        found = read_chunk(self.decoder, chunk)
        for at, rejection in found.rejections:
            self._reject(chunk.record(at), rejection, tally)
        if tally is not None:
            tally.ignored += found.ignored
        first, last = chunk.offsets[0], chunk.offsets[-1]
        if last - first + 1 == len(chunk):
            offsets = np.arange(first, last + 1)
        else:
            offsets = np.array(chunk.offsets, np.int64)
        if found.left_out:
            offsets = np.delete(offsets, found.left_out)
            produced_ms = np.delete(produced_ms, found.left_out)
        count, ms, values, has = len(found.devices), found.ms, found.values, found.has
        code = np.fromiter(map(self.codes.__getitem__, found.devices), np.int32, count)
        is_row = self._find_rows(chunk, found.devices, code, offsets, produced_ms, tally)
        if is_row is not None:
            code, ms, values = code[is_row], ms[is_row], [column[is_row] for column in values]
            has = [mask if mask is None else mask[is_row] for mask in has]
            offsets, produced_ms = offsets[is_row], produced_ms[is_row]
        if not len(code):
            return
        self._note_keys(code, ms)
        for column in values:
            if column.dtype.hasobject:
                self.kept_bytes += sum(map(getsizeof, column.tolist()))
        self._columns.extend(
            ms,
            write_times_of_partition(produced_ms, offsets, chunk.partition),
            offsets,
            chunk.partition,
            code,
            values,
            has,
        )

    def _find_rows(
        self,
        chunk: RecordChunk,
        devices: list[str],
        code: Codes,
        offsets: Ints,
        produced_ms: Ints,
        tally: _PartitionTally | None,
    ) -> npt.NDArray[np.bool_] | None:
        """Which readings make rows; None: all. Those that make none are accounted for."""
        aged_before_ms = self.expired_before_ms or 0
        if not len(code) or (
            int(code.min()) != NO_DEVICE and int(produced_ms.min()) >= aged_before_ms
        ):
            return None
        is_device = code != NO_DEVICE
        for at in np.flatnonzero(~is_device).tolist():
            problem = find_device_id_problem(devices[at])
            assert problem is not None, "asked only where there is no code"
            record = chunk.record_at(int(offsets[at]))
            self._reject(record, Rejection(Reason.OUT_OF_RANGE, problem), tally)
        by_code = self.expired_by_code
        # What is no device is no row, whatever stands at -1.
        edge = aged_before_ms if by_code is None else by_code(self.codes)[code]
        is_alive = produced_ms >= edge
        if tally is not None:
            tally.aged_out += int(np.count_nonzero(is_device & ~is_alive))
        is_row: npt.NDArray[np.bool_] = is_device & is_alive
        return is_row

    def _reject(self, record: Record, rejection: Rejection, tally: _PartitionTally | None) -> None:
        if tally is None:
            return
        tally.rejected += 1
        self._dead_letters.append(DeadLetter(record, rejection.reason, rejection.message))
        self.kept_bytes += record.size_bytes

    def _note_keys(self, code: Codes, ms: Ints) -> None:
        highest = int(code.max())
        if highest >= len(self._has_rows):
            self._has_rows = np.concatenate(
                [self._has_rows, np.zeros(max(highest, len(self._has_rows)), np.bool_)]
            )
        self._has_rows[code] = True
        first, last = int(ms.min()) // MS_PER_DAY, int(ms.max()) // MS_PER_DAY
        if first == last:
            self._days.add(first)
        else:
            self._days.update((ms // MS_PER_DAY).tolist())

    @property
    def partition_keys(self) -> int:
        """How many Cassandra partitions have rows in it so far; less where some miss a day."""
        devices = int(np.count_nonzero(self._has_rows))
        return min(devices * len(self._days), self._columns.count)

    def build(self, ends: dict[int, int]) -> MicroBatch:
        """End the micro-batch at `ends`: every offset below without a record is a hole."""
        columns = self._columns
        columns.trim()
        groups, losers = group_rows(columns)
        if self._rivals:
            is_rival = np.zeros(columns.count, np.bool_)
            for places in self._rivals:
                is_rival[places] = True
            groups, losers = groups.without(is_rival), losers.without(is_rival)
        is_repeat = losers.are_repeats()
        lost_to = columns.partition[losers.losers]
        repeated = _count_each(lost_to[is_repeat])
        superseded = _count_each(lost_to[~is_repeat])
        stored_by_day = _count_by_day(groups)
        cells = len(columns.values)
        cells_by_day = _count_by_day(groups, losers) if columns.may_lack_cells else None
        starts, moved, counts = {}, {}, {}
        holes: list[OffsetRange] = []
        for partition, end in ends.items():
            start = self.starts[partition]
            if end == start:
                continue
            tally = self._tallies.get(partition) or _PartitionTally(start)
            if end > tally.expected:
                tally.holes.append(OffsetRange(partition, tally.expected, end))
            holes += tally.holes
            by_day = stored_by_day.get(partition, {})
            starts[partition], moved[partition] = start, end
            counts[partition] = Counts(
                stored=sum(by_day.values()),
                superseded=superseded.get(partition, 0),
                repeated=repeated.get(partition, 0),
                rejected=tally.rejected,
                ignored=tally.ignored,
                aged_out=tally.aged_out,
                holes=end - start - tally.records,
                stored_by_day=by_day,
                cells_by_day=(
                    {day: rows * cells for day, rows in by_day.items()}
                    if cells_by_day is None
                    else cells_by_day.get(partition, {})
                ),
                first_record_ms=tally.first_ms,
                last_record_ms=tally.last_ms,
            )
        return MicroBatch(
            groups,
            sorted(self._dead_letters, key=_place_in_log),
            starts,
            moved,
            counts,
            holes,
            self.split_ms,
            self._newest_ms,
            {
                partition: fingerprint_of(*tally.last)
                for partition, tally in self._tallies.items()
                if partition in moved and tally.last is not None
            },
            losers,
        )


def _count_each(partitions: Codes) -> Mapping[int, int]:
    found, counts = np.unique(partitions, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _count_by_day(groups: RowGroups, losers: Losers | None = None) -> dict[int, dict[date, int]]:
    """Rows by Kafka partition and by day; with `losers` the cells that are their own."""
    places = groups.places()
    partitions = groups.columns.partition[places]
    days, day_of_group = np.unique(groups.days, return_inverse=True)
    if not len(days):
        return {}
    lowest = int(partitions.min())
    partitions = partitions - lowest
    numbers = (
        partitions
        if len(days) == 1
        else (partitions * len(days) + np.repeat(day_of_group, groups.counts))
    )
    counted = np.bincount(numbers, None if losers is None else losers.count_cells()[places])
    found: dict[int, dict[date, int]] = {}
    for number in np.flatnonzero(counted).tolist():
        partition, day = divmod(number, len(days))
        of_partition = found.setdefault(lowest + partition, {})
        of_partition[day_of(int(days[day]))] = int(counted[number])
    return found
