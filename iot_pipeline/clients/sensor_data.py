"""The table of readings: asked by (device_id, day), never scanned; its name stands here alone.

Writing is `reading_store` and, packed, `packed_batch`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from iot_pipeline.clients.cassandra import DAY_ZERO, PendingAnswer, ms_of
from iot_pipeline.clients.table import Table
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import (
    Counted,
    PieceCount,
    PieceMean,
    Place,
    PlainRow,
    Span,
    Summed,
)
from iot_pipeline.core.times import day_number, day_of

SENSOR_DATA = "{ks}.sensor_data"
VALUES = tuple(quantity.name for quantity in QUANTITIES)
# In the order in which a row is bound; each quantity is one double.
COLUMNS = ("device_id", "day", "timestamp", *VALUES)
_OF_PLACE = f"FROM {SENSOR_DATA} WHERE device_id = ? AND day = ?"
_BETWEEN = "AND timestamp >= ? AND timestamp <= ?"
# Milliseconds as a number: a datetime of each would cost more than all the rest.
_PLAIN = f"toUnixTimestamp(timestamp), {', '.join(VALUES)}"
_STORED = f"{_PLAIN}, {', '.join(f'WRITETIME({name})' for name in VALUES)}"
_RANGE = f"SELECT {_STORED} {_OF_PLACE} {_BETWEEN} LIMIT ?"
_TIMES = f"SELECT {_STORED} {_OF_PLACE} AND timestamp IN ?"
_OLDEST = f"SELECT {_PLAIN} {_OF_PLACE} {_BETWEEN} ORDER BY timestamp ASC LIMIT ?"
_NEWEST = f"SELECT {_PLAIN} {_OF_PLACE} {_BETWEEN} LIMIT ?"
_COUNT = f"SELECT COUNT(*) {_OF_PLACE} {_BETWEEN}"
# Added up where they are: rows that are as they should be need not travel a second time.
_SUMS = (
    f"SELECT COUNT(*), {', '.join(f'SUM(WRITETIME({name}))' for name in VALUES)} "
    f"{_OF_PLACE} {_BETWEEN}"
)
# Counted and averaged where they are: one row per piece travels. The length of a piece stands in
# the text: Cassandra takes no marker there, and few lengths are used.
_PIECE = "floor(timestamp, {seconds}s)"
_COUNTS = (
    f"SELECT {_PIECE}, COUNT(*), MIN(timestamp) {_OF_PLACE} {_BETWEEN} "
    f"GROUP BY device_id, day, {_PIECE}"
)
_MEANS = (
    f"SELECT toUnixTimestamp({_PIECE}), COUNT({VALUES[0]}), AVG({VALUES[0]}) "
    f"{_OF_PLACE} {_BETWEEN} GROUP BY {_PIECE}"
)
_PLACES = f"SELECT DISTINCT device_id, day FROM {SENSOR_DATA}"
_DELETE = (
    f"DELETE FROM {SENSOR_DATA} USING TIMESTAMP ? "
    "WHERE device_id = ? AND day = ? AND timestamp >= ? AND timestamp < ?"
)
_SLOW_SECONDS = 60.0


class CassandraSensorData(Table):
    """A `SensorData`: each question is one statement, however large."""

    def start_range(self, span: Span, limit: int) -> PendingAnswer[list[tuple[int, StoredRow]]]:
        doing = self._doing("reading", span.device_id)
        return self._start(_RANGE, (*_bound(span), limit), doing, _stored_rows)

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> PendingAnswer[list[tuple[int, StoredRow]]]:
        values = (device_id, day_number + DAY_ZERO, list(times_ms))
        return self._start(_TIMES, values, self._doing("reading", device_id), _stored_rows)

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> PendingAnswer[Sequence[PlainRow]]:
        cql = _NEWEST if newest_first else _OLDEST
        doing = self._doing("reading", span.device_id)
        return self._start(cql, (*_bound(span), limit), doing, _as_they_are)

    def start_sums(self, span: Span) -> PendingAnswer[Summed]:
        return self._start(_SUMS, _bound(span), self._doing("adding up", span.device_id), _sums)

    def start_count(self, span: Span) -> PendingAnswer[Counted]:
        doing = self._doing("counting", span.device_id)
        return self._start(_COUNT, _bound(span), doing, lambda rows: Counted(rows[0][0]))

    def start_counts(self, span: Span, piece_ms: int) -> PendingAnswer[list[PieceCount]]:
        return self._start(
            _COUNTS.replace("{seconds}", str(piece_ms // 1000)),
            _bound(span),
            self._doing("counting", span.device_id),
            lambda rows: sorted((ms_of(at), count, ms_of(first)) for at, count, first in rows),
        )

    def start_means(self, span: Span, piece_ms: int) -> PendingAnswer[list[PieceMean]]:
        return self._start(
            _MEANS.replace("{seconds}", str(piece_ms // 1000)),
            _bound(span),
            self._doing("averaging", span.device_id),
            sorted,
        )

    def all_places(self) -> Iterator[Place]:
        rows = self._run(_PLACES, doing="listing partitions", timeout_seconds=_SLOW_SECONDS)
        for row in rows:
            yield row.device_id, day_number(row.day.date())

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        day = day_of(day_number)
        name = deletion.device_id
        self._run(
            _DELETE,
            (deletion.deleted_us, name, day, deletion.since_ms, deletion.until_ms),
            doing=f"deleting readings of {name} on {day}",
            timeout_seconds=_SLOW_SECONDS,
        )

    def _doing(self, what: str, device_id: str) -> str:
        return f"{what} rows of {device_id} in {self._cql(SENSOR_DATA)}"


def _bound(span: Span) -> tuple[str, int, int, int]:
    """The values of a statement that is about a span."""
    return span.device_id, span.day_number + DAY_ZERO, span.first_ms, span.last_ms


def _as_they_are(rows: Sequence[Any]) -> Sequence[PlainRow]:
    return rows


def _stored_rows(rows: Sequence[Any]) -> list[tuple[int, StoredRow]]:
    return [(row[0], row[1:]) for row in rows]


def _sums(rows: Sequence[Any]) -> Summed:
    """Cassandra's own sums wrap at 64 bits, as ours do."""
    count, *totals = rows[0]
    return Summed(count, [total % 2**64 for total in totals])
