"""The table of readings: asked by (device_id, day), never scanned; its name stands here alone.

Writing is `reading_store` and, packed, `packed_batch`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_answers import DAY_ZERO, PendingAnswer, ms_of
from iot_pipeline.clients.table import Table
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.quantities import Quantity, are_in_parts, first_number
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
_OF_PLACE = f"FROM {SENSOR_DATA} WHERE device_id = ? AND day = ?"
_BETWEEN = "AND timestamp >= ? AND timestamp <= ?"
# Counted and averaged where they are: one row per piece travels. The length of a piece stands in
# the text: Cassandra takes no marker there, and few lengths are used.
_PIECE = "floor(timestamp, {seconds}s)"
_COUNTS = (
    f"SELECT {_PIECE}, COUNT(*), MIN(timestamp) {_OF_PLACE} {_BETWEEN} "
    f"GROUP BY device_id, day, {_PIECE}"
)
_PLACES = f"SELECT DISTINCT device_id, day FROM {SENSOR_DATA}"
_DELETE = (
    f"DELETE FROM {SENSOR_DATA} USING TIMESTAMP ? "
    "WHERE device_id = ? AND day = ? AND timestamp >= ? AND timestamp < ?"
)
_SLOW_SECONDS = 60.0


def columns_of(quantities: Sequence[Quantity]) -> tuple[str, ...]:
    """The columns of a row, in the order in which it is bound."""
    return ("device_id", "day", "timestamp", *(quantity.name for quantity in quantities))


def bound_row(
    device_id: str, day_number: int, ms: int, write_time_us: int, cells: Iterable[Any]
) -> tuple[Any, ...]:
    """A row as the driver binds it: the cells of `columns_of`, then its write time.

    `packed_rows` has the same as bytes.
    """
    return (device_id, day_number + DAY_ZERO, ms, *cells, write_time_us)


class CassandraSensorData(Table):
    """A `SensorData`: each question is one statement, however large.

    Args:
        quantities: a number at least; rows have their cells, in this order.
    """

    def __init__(self, client: CassandraClient, quantities: Sequence[Quantity]) -> None:
        super().__init__(client)
        names = [quantity.name for quantity in quantities]
        # Milliseconds as a number: a datetime of each would cost more than all the rest.
        plain = f"toUnixTimestamp(timestamp), {', '.join(names)}"
        stored = f"{plain}, {', '.join(f'WRITETIME({name})' for name in names)}"
        self._range = f"SELECT {stored} {_OF_PLACE} {_BETWEEN} LIMIT ?"
        self._times = f"SELECT {stored} {_OF_PLACE} AND timestamp IN ?"
        self._oldest = f"SELECT {plain} {_OF_PLACE} {_BETWEEN} ORDER BY timestamp ASC LIMIT ?"
        self._newest = f"SELECT {plain} {_OF_PLACE} {_BETWEEN} LIMIT ?"
        # Added up where they are: rows that are as they should be need not travel a second time.
        sums = ", ".join(f"SUM(WRITETIME({name}))" for name in names)
        self._sums = f"SELECT COUNT(*), {sums} {_OF_PLACE} {_BETWEEN}"
        counted = [f"COUNT({name})" for name in names] if are_in_parts(quantities) else ["COUNT(*)"]
        self._count = f"SELECT {', '.join(counted)} {_OF_PLACE} {_BETWEEN}"
        shown = first_number(quantities)
        # A mean of whole numbers is a whole number in CQL.
        mean = shown.name if shown.type == "double" else f"CAST({shown.name} AS double)"
        self._means = (
            f"SELECT toUnixTimestamp({_PIECE}), COUNT({shown.name}), AVG({mean}) "
            f"{_OF_PLACE} {_BETWEEN} GROUP BY {_PIECE}"
        )

    def start_range(self, span: Span, limit: int) -> PendingAnswer[list[tuple[int, StoredRow]]]:
        doing = self._doing("reading", span.device_id)
        return self._start(self._range, (*_bound(span), limit), doing, _stored_rows)

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> PendingAnswer[list[tuple[int, StoredRow]]]:
        values = (device_id, day_number + DAY_ZERO, list(times_ms))
        return self._start(self._times, values, self._doing("reading", device_id), _stored_rows)

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> PendingAnswer[Sequence[PlainRow]]:
        cql = self._newest if newest_first else self._oldest
        doing = self._doing("reading", span.device_id)
        return self._start(cql, (*_bound(span), limit), doing, _as_they_are)

    def start_sums(self, span: Span) -> PendingAnswer[Summed]:
        return self._start(
            self._sums, _bound(span), self._doing("adding up", span.device_id), _sums
        )

    def start_count(self, span: Span) -> PendingAnswer[Counted]:
        doing = self._doing("counting", span.device_id)
        return self._start(self._count, _bound(span), doing, lambda rows: Counted(sum(rows[0])))

    def start_counts(self, span: Span, piece_ms: int) -> PendingAnswer[list[PieceCount]]:
        return self._start(
            _COUNTS.replace("{seconds}", str(piece_ms // 1000)),
            _bound(span),
            self._doing("counting", span.device_id),
            lambda rows: sorted((ms_of(at), count, ms_of(first)) for at, count, first in rows),
        )

    def start_means(self, span: Span, piece_ms: int) -> PendingAnswer[list[PieceMean]]:
        return self._start(
            self._means.replace("{seconds}", str(piece_ms // 1000)),
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
