"""The record behind a row: a row's write time names it, while Kafka keeps it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from iot_pipeline.core.proof.read_back import (
    ReadBack,
    RowState,
    StoredRow,
    cells_of_its_own,
    judge_of,
    values_in,
    write_times_in,
)
from iot_pipeline.core.proof.stretches import RawRecords, rows_in
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.quantities import Quantity, are_in_parts
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import (
    Row,
    RowsByTime,
    arrived_ms,
    winner_of,
    write_times_us,
)
from iot_pipeline.core.times import MS_PER_DAY, moment_of
from iot_pipeline.stages.proof.as_ingested import as_ingested
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import fetch_row, fetch_rows

MAX_KEYS = 10_000
# Of each range that is too large to be read whole; each costs a consumer of its own.
_BLOCKS = 3
# Of each Kafka partition: what a run has just ingested, or the last ones did.
_ENTRIES = 20
# Reading this many records between two wanted ones is cheaper than another consumer.
_NEAR_OFFSETS = 10_000


@dataclass(frozen=True, slots=True)
class Trace:
    """A row and the records of its key that have its write time; one of them made it.

    `row` is None when there is no such row. No record: it came from elsewhere, or Kafka has
    deleted its record. A row that is none of its records is torn. Where readings may be told in
    parts, several records may have made it, each some cells. `quantities` are those of the row;
    `declarations` are the fingerprints of former declarations that records were read by, by
    "partition:offset".
    """

    row: StoredRow | None
    records: list[Row]
    quantities: tuple[Quantity, ...]
    declarations: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_parts(self) -> bool:
        return are_in_parts(self.quantities)

    @property
    def is_whole(self) -> bool:
        if self.row is None:
            return False
        if not self.in_parts:
            return len(set(write_times_in(self.row))) == 1
        there = [at for at, us in enumerate(write_times_in(self.row)) if us is not None]
        return bool(there) and {at for _, cells in self.makers for at in cells}.issuperset(there)

    @property
    def makers(self) -> list[tuple[Row, list[int]]]:
        """The records that made it, each with the numbers of its cells, where it is in parts."""
        if self.row is None or not self.in_parts:
            return []
        row = self.row
        made = ((record, cells_of_its_own(record, row)) for record in self.records)
        return [(record, cells) for record, cells in made if cells]

    @property
    def made_by(self) -> Row | None:
        if self.row is None or not self.is_whole:
            return None
        if self.in_parts:
            return self.makers[-1][0]
        values = values_in(self.row)
        return next((record for record in self.records if record[3:] == values), None)


# A row's key and its write time.
Written = tuple[Place, int, int]


def find_records(ports: AuditPorts, wanted: Collection[Written]) -> dict[Written, list[Row]]:
    """What the log has under each key with each write time, in whichever partition.

    The write times name broker milliseconds; their offsets are read together, so a thousand rows
    cost as many questions as they have milliseconds, and one consumer or a few.
    """
    found: dict[Written, list[Row]] = {key: [] for key in wanted}
    written = {written_us for _, _, written_us in found}

    def choose(read: RawRecords) -> RawRecords:
        at = write_times_us(read.produced_ms, read.offsets, read.partitions)
        return read.where(written_us in written for written_us in at)

    for stretch in ports.stretches(_ranges_of(ports, set(map(arrived_ms, written))), choose):
        for place, group in stretch.groups.items():
            for ms, rows in group.items():
                for row in rows_in(rows):
                    if (place, ms, row[0]) in found:
                        found[place, ms, row[0]].append(row)
    return found


def _ranges_of(ports: AuditPorts, milliseconds: Collection[int]) -> list[OffsetRange]:
    """Offsets that hold all records of these broker milliseconds, and a few between them."""
    at: dict[int, dict[int, int]] = {}
    for edge in sorted({edge for ms in milliseconds for edge in (ms, ms + 1)}):
        moment = moment_of(edge)
        at[edge] = ports.log.offsets_at(ports.settings.topic, moment)
    ranges: list[OffsetRange] = []
    for partition in sorted({p for starts in at.values() for p in starts}):
        of_partition: list[OffsetRange] = []
        for ms in sorted(milliseconds):
            start, end = at[ms][partition], at[ms + 1][partition]
            if end <= start:
                continue
            if of_partition and start <= of_partition[-1].end + _NEAR_OFFSETS:
                last = of_partition.pop()
                start, end = last.start, max(end, last.end)
            of_partition.append(OffsetRange(partition, start, end))
        ranges += of_partition
    return ranges


def records_of_key(
    ports: AuditPorts, place: Place, timestamp_ms: int, arrived: Collection[int]
) -> list[Row]:
    """The rows that the records of one key make which arrived in these broker milliseconds."""
    return [
        row
        for stretch in ports.stretches(_ranges_of(ports, arrived))
        for row in rows_in(stretch.groups.get(place, {}).get(timestamp_ms, []))
        if arrived_ms(row[0]) in arrived
    ]


def read_message(ports: AuditPorts, partition: int, offset: int) -> bytes | None:
    """The value of one record; None when it has none, or Kafka has deleted it meanwhile."""
    wanted = [OffsetRange(partition, offset, offset + 1)]
    for found in ports.records.read(ports.settings.topic, wanted):
        for at, value in zip(found.offsets, found.values, strict=True):
            if at == offset:
                return value
    return None


def trace(ports: AuditPorts, device_id: str, timestamp_ms: int) -> Trace:
    """Find the row of a key, and the record that made it, read as it was ingested."""
    ports = as_ingested(ports)
    place = (device_id, timestamp_ms // MS_PER_DAY)
    row = fetch_row(ports.rows, place, timestamp_ms, ports.settings.retry_seconds)
    written = {us for us in write_times_in(row or ()) if us is not None}
    mended = ports.read_mended()
    made = [
        mended.row_of(device_id, timestamp_ms, record)
        for record in records_of_key(ports, place, timestamp_ms, set(map(arrived_ms, written)))
    ]
    # By their write times; values need not be of one type.
    records = sorted((row for row in made if row[0] in written), key=lambda row: row[:3])
    declarations = {}
    if ports.ingested is not None:
        for _, offset, partition, *_ in records:
            name = ports.ingested.read_by(partition, offset)
            if name != ports.ingested.present:
                declarations[f"{partition}:{offset}"] = name
    return Trace(row, records, ports.quantities, declarations)


def read_back_run(
    ports: AuditPorts,
    ranges: Sequence[OffsetRange],
    *,
    max_keys: int = MAX_KEYS,
    seed: int = 0,
    aged_before_ms: Callable[[str], int] = lambda _: 0,
    is_read: Callable[[], bool] = lambda: False,
    is_over: Callable[[], bool] = lambda: False,
) -> ReadBack:
    """Compare the rows of a run's keys with their records: all, else a seeded sample of them.

    Args:
        ports: Kafka, its records in a reading of their own, and the table.
        ranges: what the run drained.
        max_keys: how many keys are read at most; of more a few blocks of offsets are.
        seed: chooses the blocks.
        aged_before_ms: of a device: its records that arrived in Kafka before are not looked for.
        is_read: asked while records are read from Kafka; True leaves the rest of them out.
        is_over: asked all the time; the rows that were compared by then are the result.

    Readings that `iot delete` removed are not looked for. A row that another record of its write
    time explains counts as equal; a row that none does is TORN. NEWER is fine: a record with a
    higher write time won. MISSING rows were deleted, outlived their retention, or are lost: the
    audit tells which. Where there are rows at all, some are compared, however late it is; `left`
    says how many were not.
    """
    ports = as_ingested(ports, newest=_ENTRIES)
    deletions = ports.read_deletions()
    blocks = choose_blocks(ranges, max_keys, Random(seed))
    winners = _winners(ports, blocks, lambda: is_read() or is_over())
    judge = judge_of(ports.quantities)
    result = ReadBack(judge, left=sum(map(len, winners.values())))
    wanted = ((place, sorted(group)) for place, group in winners.items())
    tied: dict[Written, StoredRow] = {}

    def is_enough() -> bool:
        return bool(result.rows or tied) and is_over()

    for place, times, found in fetch_rows(
        ports.rows, wanted, ports.settings.retry_seconds, is_enough
    ):
        if result.left and is_enough():
            break
        result.left -= len(times)
        for ms in times:
            row, stored = winners[place][ms], found.get(ms)
            is_aged = arrived_ms(row[0]) < aged_before_ms(place[0])
            if is_aged or deletions.covers(place[0], ms, row[0]):
                result.gone += 1
            elif stored is not None and judge(row, stored) is RowState.TIED:
                tied[place, ms, row[0]] = stored
            else:
                result.take(place, ms, row, stored)
    for key, rivals in find_records(ports, tied).items():
        place, ms, _ = key
        row, stored = winners[place][ms], tied[key]
        if are_in_parts(ports.quantities):
            result.take_tied(place, ms, row, stored, rivals)
            continue
        made = next((rival for rival in rivals if rival[3:] == values_in(stored)), None)
        if made is None:
            stored = (*stored[:-1], None)  # no record has these values: torn
        result.take(place, ms, made or row, stored)
    return result


def choose_blocks(
    ranges: Sequence[OffsetRange], max_offsets: int, random: Random
) -> list[OffsetRange]:
    """All of `ranges` when they are small, else blocks of them, each of a random place.

    Blocks, not single offsets: Kafka is read from a place on, and reading all of a large run again
    would take as long as the run.
    """
    span = sum(item.span for item in ranges)
    if span <= max_offsets:
        return list(ranges)
    blocks = []
    for item in ranges:
        part = item.span // _BLOCKS
        size = max(1, item.span * max_offsets // (span * _BLOCKS))
        for number in range(_BLOCKS if part else 1):
            start = item.start + number * part + random.randrange(max(1, part - size + 1))
            blocks.append(OffsetRange(item.partition, start, min(start + size, item.end)))
    return blocks


def _winners(
    ports: AuditPorts, ranges: Sequence[OffsetRange], is_read: Callable[[], bool]
) -> dict[Place, RowsByTime]:
    """The winner per key among these records, or among the first that made rows in time."""
    winners: dict[Place, RowsByTime] = {}
    for stretch in ports.stretches(ranges):
        for place, group in stretch.groups.items():
            mine = winners.setdefault(place, {})
            for ms, rivals in group.items():
                best = winner_of(rows_in(rivals))
                mine[ms] = winner_of((best, mine.get(ms, best)))
        if winners and is_read():
            break
    return winners
