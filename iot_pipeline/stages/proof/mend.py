"""Write a torn row again, whole: remembered first, written second, so that it is explained.

Two records with one key and one write time can leave a row that has a cell of each. No write with
that time can undo it. The row of the record that wins is written with the write time that belongs
to no record of its millisecond, so every row of a later one still wins over it. Where readings may
be told in parts, each record of that millisecond that wins a cell is written so, with these cells.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.proof.mended import MendedRow
from iot_pipeline.core.proof.read_back import (
    RowState,
    StoredRow,
    are_ties_explained,
    cells_of_its_own,
    judge_of,
    judge_part,
    judge_row,
    newest_us,
    write_times_in,
)
from iot_pipeline.core.reading.quantities import are_in_parts
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import (
    Row,
    arrived_ms,
    mended_us,
    winner_of,
)
from iot_pipeline.core.times import MS_PER_DAY, day_of, in_utc, moment_of
from iot_pipeline.errors import PermanentError
from iot_pipeline.stages.ingest.row_writer import RowWriter
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.ports.readings import ReadingStore
from iot_pipeline.stages.proof.as_ingested import as_ingested
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import fetch_row
from iot_pipeline.stages.proof.trace import records_of_key
from iot_pipeline.stages.requests import retry_transient


@dataclass(frozen=True, slots=True)
class Mend:
    """What was done about a row: `before` and `after` are equal when it was whole.

    `winner` is the record's row as it is in the table now.
    """

    before: StoredRow
    after: StoredRow
    winner: Row

    @property
    def is_mended(self) -> bool:
        return self.before != self.after


def mend(
    ports: AuditPorts,
    store: ReadingStore,
    run: Run,
    device_id: str,
    timestamp_ms: int,
    mended_by: str,
    wall_clock: Callable[[], float] = time.time,
) -> Mend:
    """Write the row of a key whole, where it is torn.

    Idempotent: a crash between remembering and writing leaves the row torn; the same command again
    mends it, and so does a replay of its record.

    Raises:
        PermanentError: there is no such row, no record tells what it should be, its reading was
            deleted or has outlived its retention: nothing was changed. Or the row did not take.
        TransientError: Kafka or Cassandra stayed away.
    """
    settings, place = ports.settings, (device_id, timestamp_ms // MS_PER_DAY)
    ports = as_ingested(ports)
    if ports.ingested is not None and ports.history is not None:
        store = ports.history.store_of(ports.quantities)
    work = _Mending(ports, store, run, place, timestamp_ms, mended_by, wall_clock())
    before = fetch_row(ports.rows, place, timestamp_ms, settings.retry_seconds)
    latest_us = newest_us(before) if before is not None else 0
    if before is None or not latest_us:
        raise PermanentError(f"{work}: there is no such row. `iot audit` says what became of it")
    if are_in_parts(ports.quantities):
        return work.mend_parts(before)
    arrived = arrived_ms(latest_us)
    rivals = records_of_key(ports, place, timestamp_ms, {arrived})
    known = ports.read_mended()
    for row in (known.row_of(device_id, timestamp_ms, rival) for rival in rivals):
        if judge_row(row, before) is RowState.EQUAL:
            return Mend(before, before, row)
    if not rivals or latest_us > mended_us(arrived):
        raise PermanentError(
            f"{work}: Kafka has no record with the row's write time {latest_us} µs: Kafka deleted "
            "it, or another program wrote the row. `iot trace` shows the row"
        )
    winner = winner_of(rivals)
    mended = (mended_us(arrived), *winner[1:])
    return Mend(before, work.write([winner], [mended]), mended)


@dataclass(frozen=True, slots=True)
class _Mending:
    ports: AuditPorts
    store: ReadingStore
    run: Run
    place: Place
    timestamp_ms: int
    mended_by: str
    now: float

    def __str__(self) -> str:
        return f"mending {self.place[0]} at {in_utc(moment_of(self.timestamp_ms), 'milliseconds')}"

    def mend_parts(self, before: StoredRow) -> Mend:
        """`mend` by cell: those that arrived in a millisecond with a torn one are written again."""
        ports, place, timestamp_ms = self.ports, self.place, self.timestamp_ms
        known = ports.read_mended()
        arrived = {arrived_ms(us) for us in write_times_in(before) if us is not None}
        rivals = records_of_key(ports, place, timestamp_ms, arrived)
        rows = [known.row_of(place[0], timestamp_ms, row) for row in rivals]
        torn = {
            arrived_ms(row[0])
            for row in rows
            if judge_part(row, before) is RowState.TIED
            and not are_ties_explained(row, before, rows)
        }
        if not torn:
            makers = [row for row in rows if cells_of_its_own(row, before)]
            if makers:
                return Mend(before, before, winner_of(makers))
            raise PermanentError(
                f"{self}: Kafka has no record with one of the row's write times: Kafka deleted "
                "them, or another program wrote the row. `iot trace` shows the row"
            )
        cells: defaultdict[Row, list[int]] = defaultdict(list)
        for number, us in enumerate(write_times_in(before)):
            if us is None or arrived_ms(us) not in torn:
                continue
            rivals_here = [row for row in rivals if arrived_ms(row[0]) == arrived_ms(us)]
            if told := [row for row in rivals_here if row[3 + number] is not None]:
                cells[winner_of(told)].append(number)
        mended: list[Row] = []
        for winner, numbers in cells.items():
            values = (value if at in numbers else None for at, value in enumerate(winner[3:]))
            mended.append((mended_us(arrived_ms(winner[0])), winner[1], winner[2], *values))
        return Mend(before, self.write(list(cells), mended), mended[0])

    def write(self, winners: Sequence[Row], mended: Sequence[Row]) -> StoredRow:
        """Remember whose records they are, then write them; what is there afterwards."""
        ports, place, timestamp_ms = self.ports, self.place, self.timestamp_ms
        settings, deletions = ports.settings, ports.read_deletions()
        for winner in winners:
            if deletions.covers(place[0], timestamp_ms, winner[0]):
                raise PermanentError(f"{self}: `iot delete` removed its reading")
            if arrived_ms(winner[0]) < settings.retention.aged_before_ms(place[0], self.now):
                raise PermanentError(f"{self}: its reading has outlived the retention of rows")

        def remember() -> None:
            at = datetime.fromtimestamp(self.now, UTC)
            for written_us, offset, partition, *_ in mended:
                row = MendedRow(place[0], timestamp_ms, partition, offset, written_us)
                ports.mends.record_mend(row, at, self.mended_by)
            # No row more, but the rollups of its day are to be made again.
            touched = Counts(stored_by_day={day_of(place[1]): 0})
            ports.ledger.record_replay(settings.topic, at, self.run.run_id, [], touched)

        retry_transient(remember, give_up_after_seconds=settings.retry_seconds)
        writer, judge = (
            RowWriter(self.store, 1, settings.retry_seconds),
            judge_of(ports.quantities),
        )
        for row in mended:
            writer.write({place: {timestamp_ms: row}})
        after = fetch_row(ports.rows, place, timestamp_ms, settings.retry_seconds)
        if after is None or any(judge(row, after) is not RowState.EQUAL for row in mended):
            raise PermanentError(
                f"{self}: the row did not take, {after} is there: it was deleted with plain CQL, "
                "or another program writes here"
            )
        return after
