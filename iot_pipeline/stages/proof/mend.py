"""Write a torn row again, whole: remembered first, written second, so that it is explained.

Two records with one key and one write time can leave a row that has a cell of each. No write with
that time can undo it. The row of the record that wins is written with the write time that belongs
to no record of its millisecond, so every row of a later one still wins over it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.proof.mended import MendedRow
from iot_pipeline.core.proof.read_back import RowState, StoredRow, judge_row, write_times_in
from iot_pipeline.core.reading.write_times import (
    Row,
    aged_before_ms,
    arrived_ms,
    mended_us,
    record_of,
    winner_of,
)
from iot_pipeline.core.times import MS_PER_DAY, day_of, in_utc, moment_of
from iot_pipeline.errors import PermanentError
from iot_pipeline.stages.ingest.row_writer import RowWriter
from iot_pipeline.stages.ports import ReadingStore, Run
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
    doing = f"mending {device_id} at {in_utc(moment_of(timestamp_ms), 'milliseconds')}"
    before = fetch_row(ports.rows, place, timestamp_ms, settings.retry_seconds)
    newest_us = max((us for us in write_times_in(before or ()) if us is not None), default=None)
    if before is None or newest_us is None:
        raise PermanentError(f"{doing}: there is no such row. `iot audit` says what became of it")
    arrived = arrived_ms(newest_us)
    rivals = records_of_key(ports, place, timestamp_ms, {arrived})
    known = ports.read_mended()
    for row in (known.row_of(device_id, timestamp_ms, rival) for rival in rivals):
        if judge_row(row, before) is RowState.EQUAL:
            return Mend(before, before, row)
    now = wall_clock()
    if not rivals or newest_us > mended_us(arrived):
        raise PermanentError(
            f"{doing}: Kafka has no record with the row's write time {newest_us} µs: Kafka deleted "
            "it, or another program wrote the row. `iot trace` shows the row"
        )
    winner = winner_of(rivals)
    if ports.read_deletions().covers(device_id, timestamp_ms, winner[0]):
        raise PermanentError(f"{doing}: `iot delete` removed its reading")
    if arrived < aged_before_ms(settings.retention_days, now):
        raise PermanentError(f"{doing}: its reading has outlived the retention of rows")
    mended = (mended_us(arrived), *winner[1:])
    partition, offset = record_of(winner)

    def remember() -> None:
        at = datetime.fromtimestamp(now, UTC)
        row = MendedRow(device_id, timestamp_ms, partition, offset, mended[0])
        ports.mends.record_mend(row, at, mended_by)
        # No row more, but the rollups of its day are to be made again.
        touched = Counts(stored_by_day={day_of(place[1]): 0})
        ports.ledger.record_replay(settings.topic, at, run.run_id, [], touched)

    retry_transient(remember, give_up_after_seconds=settings.retry_seconds)
    RowWriter(store, 1, settings.retry_seconds).write({place: {timestamp_ms: mended}})
    after = fetch_row(ports.rows, place, timestamp_ms, settings.retry_seconds)
    if after is None or judge_row(mended, after) is not RowState.EQUAL:
        raise PermanentError(
            f"{doing}: the row did not take, {after} is there: it was deleted with plain CQL, or "
            "another program writes here"
        )
    return Mend(before, after, mended)
