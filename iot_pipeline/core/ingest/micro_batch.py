"""Records become a micro-batch: decoded or rejected, winners found, grouped for Cassandra."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from itertools import compress, repeat
from operator import attrgetter, getitem, is_not, itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.decoding import (
    UNREADABLE,
    DeadLetter,
    Reading,
    ReadingDecoder,
    Reason,
    Record,
    Rejection,
    columns_of,
    find_device_id_problem,
    timestamp_ms,
)
from iot_pipeline.core.reading.fingerprints import Fingerprint, fingerprint_of
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.write_times import (
    Row,
    RowsByTime,
    rank,
    record_of,
    write_times_of_partition,
)
from iot_pipeline.core.times import MS_PER_DAY, day_of

_partition_of = itemgetter(2)
_place_in_log = attrgetter("record.partition", "record.offset")
_device_of = attrgetter("device_id")
_seconds_of = attrgetter("timestamp")


def timestamps_ms(seconds: Iterable[float], count: int) -> npt.NDArray[np.int64]:
    """`timestamp_ms` of each of `count` timestamps: numpy, too, rounds halves to the even one."""
    return np.rint(np.fromiter(seconds, np.float64, count) * 1e6).astype(np.int64) // 1000


@dataclass(slots=True)
class MicroBatch:
    """What one conditional write commits: rows to write, letters to deliver, counts to record.

    `groups` holds the winners by (device_id, day number); `ends` says, for every Kafka partition
    that moved, where its checkpoint goes; `counts` has the same keys. `losers` are the superseded
    rows by the (partition, offset) of the one that won. No row's Kafka timestamp exceeds
    `newest_ms`. `fingerprints` are of the last record of each Kafka partition that has one.
    """

    groups: dict[tuple[str, int], RowsByTime]
    dead_letters: list[DeadLetter]
    starts: dict[int, int]
    ends: dict[int, int]
    counts: dict[int, Counts]
    holes: list[OffsetRange]
    split_ms: int = 0
    losers: dict[tuple[int, int], list[Row]] = field(default_factory=dict)
    newest_ms: int = 1 << 62
    fingerprints: dict[int, Fingerprint] = field(default_factory=dict)

    def reject(self, record: Record, decoder: ReadingDecoder) -> None:
        """Count a row that the store refused as rejected: its record becomes a dead letter."""
        # By the same rules but apart: the record was counted when it was decoded first.
        decoded = ReadingDecoder(decoder.rules).decode(record.value)
        assert not isinstance(decoded, Rejection), "it made a row, so it was a reading"
        day = day_of(timestamp_ms(decoded.timestamp) // MS_PER_DAY)
        self._unstore(record.partition, day, "rejected")

    def supersede(self, row: Row, day_number: int, *, is_repeat: bool = False) -> None:
        """Count a row that is not to be written after all, as another one is in its place.

        Args:
            day_number: the row's day.
            is_repeat: whether that one has the same values.
        """
        self._unstore(row[2], day_of(day_number), "repeated" if is_repeat else "superseded")

    def reject_loser(self, row: Row, *, is_repeat: bool) -> None:
        """Count a row as rejected that lost to one that the store then refused."""
        self._move(row[2], "repeated" if is_repeat else "superseded", "rejected")

    def _unstore(self, partition: int, day: date, won: str) -> None:
        self._move(partition, "stored", won)
        counts = self.counts[partition]
        by_day = {**counts.stored_by_day, day: counts.stored_by_day[day] - 1}
        self.counts[partition] = replace(
            counts, stored_by_day={day: rows for day, rows in by_day.items() if rows}
        )

    def _move(self, partition: int, lost: str, won: str) -> None:
        """Count one record under another fate."""
        counts = self.counts[partition]
        fates = counts.by_fate()
        changed: dict[str, Any] = {lost: fates[lost] - 1, won: fates[won] + 1}
        self.counts[partition] = replace(counts, **changed)

    @property
    def rows(self) -> int:
        return sum(map(len, self.groups.values()))

    @property
    def span(self) -> int:
        return sum(self.ends[p] - self.starts[p] for p in self.ends)


@dataclass(slots=True)
class _PartitionTally:
    expected: int
    holes: list[OffsetRange] = field(default_factory=list)
    records: int = 0
    superseded: int = 0
    repeated: int = 0
    rejected: int = 0
    aged_out: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    # The last record: what its fingerprint is made of, once for all of them.
    last: tuple[int, int, bytes | None, bytes | None] | None = None

    @property
    def stored(self) -> int:
        lost_their_key = self.superseded + self.repeated
        return self.records - lost_their_key - self.rejected - self.aged_out


class _NoDeviceError(Exception):
    """No device can have this id."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id


class _Groups(dict[str, RowsByTime]):
    """By device; a device that is new gets its group when it is asked for."""

    __slots__ = ("_is_device",)

    def __init__(self, is_device: Callable[[str], bool]) -> None:
        self._is_device = is_device

    def __missing__(self, device_id: str) -> RowsByTime:
        if not self._is_device(device_id):
            raise _NoDeviceError(device_id)
        group = self[device_id] = RowsByTime()
        return group


@dataclass(slots=True)
class MicroBatchBuilder:
    """Folds records into one micro-batch; `build` ends it.

    Args:
        starts: the offset at which this micro-batch begins, per Kafka partition.
        decoder: turns messages into readings; it outlives the micro-batch.
        expired_before_ms: records whose Kafka timestamp is lower have outlived the retention of
            the rows: aged_out, not written. None: rows live for ever.

    `kept_bytes` is what the dead letters take so far: a reading is small whatever its message was,
    a dead letter is kept whole.
    """

    starts: dict[int, int]
    decoder: ReadingDecoder
    expired_before_ms: int | None = None
    records: int = 0
    split_ms: int = 0
    kept_bytes: int = 0
    _newest_ms: int = 0
    _has_rivals: bool = False
    # By day number: nearly all readings of a micro-batch are of one day.
    _days: defaultdict[int, _Groups] = field(init=False)
    _dead_letters: list[DeadLetter] = field(default_factory=list)
    _tallies: dict[int, _PartitionTally] = field(default_factory=dict)
    # By the record of the winner: the winner, and what lost to it.
    _losers: dict[tuple[int, int], tuple[Row, list[Row]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._days = defaultdict(partial(_Groups, self.decoder.is_device))

    def add(self, chunk: RecordChunk) -> None:
        """Take records in; those of one partition in the order of their offsets."""
        partition = chunk.partition
        tally = self._tallies.get(partition)
        if tally is None:
            tally = self._tallies[partition] = _PartitionTally(self.starts[partition])
        self._tally(chunk, tally)
        self._place(chunk, tally)

    def compete(self, chunk: RecordChunk) -> None:
        """Let rows of an earlier micro-batch win where they do; they are not written again."""
        self._has_rivals = True
        self._place(chunk, None)

    def _tally(self, chunk: RecordChunk, tally: _PartitionTally) -> None:
        offsets, count = chunk.offsets, len(chunk)
        self.records += count
        tally.records += count
        if tally.first_ms is None:
            tally.first_ms = chunk.produced_ms[0]
        tally.last_ms = chunk.produced_ms[-1]
        tally.last = offsets[-1], tally.last_ms, chunk.message_keys[-1], chunk.values[-1]
        self._newest_ms = max(self._newest_ms, max(chunk.produced_ms))
        if offsets[-1] - tally.expected + 1 != count:
            expected = tally.expected
            for offset in offsets:
                if offset != expected:
                    tally.holes.append(OffsetRange(chunk.partition, expected, offset))
                expected = offset + 1
        tally.expected = offsets[-1] + 1

    def _place(self, chunk: RecordChunk, tally: _PartitionTally | None) -> None:
        # A microsecond per record here is a third of what a drain costs, so what can be done with
        # all records at once is done by functions in C; loops have what is left.
        readings, offsets, produced_ms = self._read(chunk, tally)
        if not readings:
            return
        write_times = write_times_of_partition(produced_ms, offsets, chunk.partition)
        columns = columns_of(readings)
        rows: list[Row] = list(
            zip(write_times, offsets, repeat(chunk.partition), *columns, strict=False)
        )
        times = timestamps_ms(map(_seconds_of, readings), len(readings))
        times_ms, days = times.tolist(), times // MS_PER_DAY
        first_day = int(days[0])
        by_day = (
            repeat(self._days[first_day])
            if (days == first_day).all()
            else map(self._days.__getitem__, days.tolist())
        )
        # One step of all of these is one record. Where a device is none, `groups` has taken its
        # record, and the others have not.
        groups = map(getitem, by_day, map(_device_of, readings))
        ms_left, rows_left, compared = iter(times_ms), iter(rows), iter(rows)
        rivals = map(dict.setdefault, groups, ms_left, rows_left)
        conflicts = compress(range(len(rows)), map(is_not, rivals, compared))
        while True:
            try:
                for at in conflicts:
                    self._settle(
                        self._days[int(days[at])][readings[at].device_id], times_ms[at], rows[at]
                    )
                return
            except _NoDeviceError as exc:
                offset = next(compared)[1]
                next(ms_left)
                next(rows_left)
                self._reject_device(chunk.record_at(offset), exc.device_id, tally)

    def _settle(self, group: RowsByTime, ms: int, row: Row) -> None:
        """Of two rows of one key, the one that wins stays."""
        rival = group[ms]
        if rank(row) < rank(rival):
            group[ms] = row
            self._supersede(rival, row)
        else:
            self._supersede(row, rival)

    def _read(
        self, chunk: RecordChunk, tally: _PartitionTally | None
    ) -> tuple[list[Reading], Sequence[int], Sequence[int]]:
        """The readings, with their offsets and times; records that are none are accounted for."""
        decoder = self.decoder
        decode = decoder.decode_plain if decoder.are_small(chunk.values) else decoder.decode_small
        readings: list[Reading] = []
        rejected: list[int] = []
        values = iter(chunk.values)
        while True:
            try:
                readings.extend(map(decode, values))
                break
            except UNREADABLE:
                # `readings` has those before it, and `values` goes on behind it.
                at = len(readings) + len(rejected)
                decoded = decoder.decode_odd(chunk.values[at])
                if isinstance(decoded, Rejection):
                    rejected.append(at)
                    self._reject(chunk.record(at), decoded, tally)
                else:
                    readings.append(decoded)
        offsets, produced_ms = chunk.offsets, chunk.produced_ms
        if rejected:
            is_reading = [True] * len(chunk)
            for at in rejected:
                is_reading[at] = False
            offsets = list(compress(offsets, is_reading))
            produced_ms = list(compress(produced_ms, is_reading))
        aged_before_ms = self.expired_before_ms or 0
        if min(produced_ms, default=aged_before_ms) < aged_before_ms:
            lives = [ms >= aged_before_ms for ms in produced_ms]
            for reading, offset, is_alive in zip(readings, offsets, lives, strict=True):
                if not is_alive:
                    self._age(chunk.record_at(offset), reading.device_id, tally)
            readings = list(compress(readings, lives))
            offsets = list(compress(offsets, lives))
            produced_ms = list(compress(produced_ms, lives))
        return readings, offsets, produced_ms

    def _reject(self, record: Record, rejection: Rejection, tally: _PartitionTally | None) -> None:
        if tally is None:
            return
        tally.rejected += 1
        self._dead_letters.append(DeadLetter(record, rejection.reason, rejection.message))
        self.kept_bytes += record.size_bytes

    def _reject_device(self, record: Record, device_id: str, tally: _PartitionTally | None) -> None:
        problem = find_device_id_problem(device_id)
        assert problem is not None, "asked only where is_device said no"
        self._reject(record, Rejection(Reason.OUT_OF_RANGE, problem), tally)

    def _age(self, record: Record, device_id: str, tally: _PartitionTally | None) -> None:
        if not self.decoder.is_device(device_id):
            self._reject_device(record, device_id, tally)
        elif tally is not None:
            tally.aged_out += 1

    @property
    def partition_keys(self) -> int:
        """How many Cassandra partitions have rows in it so far."""
        return sum(map(len, self._days.values()))

    def _supersede(self, loser: Row, winner: Row) -> None:
        # Kept for the case that the store refuses the winner: then nothing superseded them.
        _, kept = self._losers.pop(record_of(loser), (loser, []))
        if self._is_own(loser):
            self._tallies[loser[2]].superseded += 1
            kept.append(loser)
        known = self._losers.get(record_of(winner))
        if known is not None:
            known[1].extend(kept)
        elif kept:
            # Moved, not copied: a thousand records of one key each win over the one before.
            self._losers[record_of(winner)] = winner, kept

    def _tell_repeats(self) -> None:
        """Of what lost, tell apart what has its winner's values: only known at the end."""
        for winner, losers in self._losers.values():
            for loser in losers:
                if loser[3:] == winner[3:]:
                    self._tallies[loser[2]].superseded -= 1
                    self._tallies[loser[2]].repeated += 1

    def _stored_on(
        self, day_number: int, groups: Mapping[tuple[str, int], RowsByTime]
    ) -> Mapping[int, int]:
        """Rows of one day per Kafka partition."""
        tallies = self._tallies
        if not self._has_rivals and len(self._days) == 1:
            # The common case, without a look at every row: all that was not settled otherwise.
            return {partition: tally.stored for partition, tally in tallies.items() if tally.stored}
        counted: Counter[int] = Counter()
        for device_id in self._days[day_number]:
            counted.update(map(_partition_of, groups.get((device_id, day_number), {}).values()))
        return counted

    def _is_own(self, row: Row) -> bool:
        return not self._has_rivals or row[1] >= self.starts[row[2]]

    def build(self, ends: dict[int, int]) -> MicroBatch:
        """End the micro-batch at `ends`: every offset below without a record is a hole."""
        groups = {
            (device_id, day_number): group
            for day_number, by_device in self._days.items()
            for device_id, group in by_device.items()
        }
        if self._has_rivals:
            groups = {
                place: own_rows
                for place, group in groups.items()
                if (own_rows := {ms: row for ms, row in group.items() if self._is_own(row)})
            }
        # Last before the tallies are read, and once: it changes them.
        self._tell_repeats()
        stored_by_day: dict[int, dict[date, int]] = {partition: {} for partition in ends}
        for day_number in self._days:
            day = day_of(day_number)
            for partition, rows in self._stored_on(day_number, groups).items():
                stored_by_day[partition][day] = rows
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
            by_day = stored_by_day[partition]
            starts[partition], moved[partition] = start, end
            counts[partition] = Counts(
                stored=sum(by_day.values()),
                superseded=tally.superseded,
                repeated=tally.repeated,
                rejected=tally.rejected,
                aged_out=tally.aged_out,
                holes=end - start - tally.records,
                stored_by_day=by_day,
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
            {place: losers for place, (_, losers) in self._losers.items()},
            self._newest_ms,
            {
                partition: fingerprint_of(*tally.last)
                for partition, tally in self._tallies.items()
                if partition in moved and tally.last is not None
            },
        )
