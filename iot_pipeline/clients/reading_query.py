"""Questions about stored readings, by (device_id, day): never a scan of `sensor_data`."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

import msgspec

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_errors import DRIVER_ERRORS, translate
from iot_pipeline.core.times import Window, in_utc

_DAYS = "SELECT DISTINCT day FROM {ks}.devices_by_day"
_DAYS_OF_DEVICE = "SELECT day FROM {ks}.devices_by_day WHERE day IN ({marks}) AND device_id = ?"
_ROWS = (
    "SELECT timestamp, temperature, humidity FROM {ks}.sensor_data WHERE device_id = ? AND day = ?"
)
_DAYS_AT_ONCE = 100


class StoredReading(msgspec.Struct, frozen=True):
    """One row of `sensor_data`, `timestamp` aware UTC at the millisecond it is stored with."""

    device_id: str
    timestamp: datetime
    temperature: float | None
    humidity: float | None


class CassandraReadingQuery:
    """Reads rows of one device, newest first.

    Raises:
        CassandraUnavailableError: no answer.
        SchemaMismatchError: no such table.
    """

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def days(self, device_id: str, window: Window | None = None) -> Iterator[date]:
        """UTC days on which the device has rows, newest first, found as they are asked for.

        devices_by_day has one partition per day, so its keys are a short list, and a hundred of
        them are one question: a device that was silent for a year is found in four.
        """
        keyspace = self._client.keyspace
        doing = f"looking for the days of {device_id}"
        rows = self._client.execute(_DAYS.format(ks=keyspace), doing=doing)
        known = [row.day.date() for row in rows]
        chosen = sorted(known, reverse=True) if window is None else window.days_within(known)
        for at in range(0, len(chosen), _DAYS_AT_ONCE):
            chunk = chosen[at : at + _DAYS_AT_ONCE]
            marks = ", ".join("?" * len(chunk))
            cql = _DAYS_OF_DEVICE.format(ks=keyspace, marks=marks)
            found = self._client.execute(cql, (*chunk, device_id), doing=doing)
            yield from sorted((row.day.date() for row in found), reverse=True)

    def newest(
        self, device_id: str, limit: int, window: Window | None = None
    ) -> list[StoredReading]:
        """At most `limit` readings, newest first: of the window, or of the newest day with any."""
        readings: list[StoredReading] = []
        for day in self.days(device_id, window):
            readings += self._of_day(device_id, day, limit - len(readings), window)
            if len(readings) >= limit or (window is None and readings):
                break
        return readings

    def _of_day(
        self, device_id: str, day: date, limit: int, window: Window | None
    ) -> list[StoredReading]:
        cql, values = _ROWS.format(ks=self._client.keyspace), [device_id, day]
        if window is not None and window.since.date() == day:
            cql, values = cql + " AND timestamp >= ?", [*values, window.since]
        if window is not None and window.until.date() == day:
            cql, values = cql + " AND timestamp < ?", [*values, window.until]
        rows = self._client.execute(
            cql + " LIMIT ?", (*values, limit), doing=f"reading {device_id} of {day}"
        )
        return [
            StoredReading(
                device_id, row.timestamp.replace(tzinfo=UTC), row.temperature, row.humidity
            )
            for row in rows
        ]


class Answer(msgspec.Struct, frozen=True):
    """Rows of a SELECT as plain values: numbers, text, lists, and maps by text.

    `is_cut` when there were more than asked for.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool


def run_select(client: CassandraClient, cql: str, limit: int) -> Answer:
    """Run a SELECT, tables named without a keyspace being the pipeline's; at most `limit` rows.

    Raises:
        PermanentError: Cassandra does not take the statement.
        CassandraUnavailableError: no answer.
    """
    doing = "running the SELECT"
    try:
        if client.keyspace in client.session.cluster.metadata.keyspaces:
            client.session.set_keyspace(client.keyspace)
        result = client.session.execute(cql)
        columns = tuple(result.column_names or ())
        # Page by page: a SELECT of the whole table must not become memory.
        rows = [tuple(map(plain, row)) for row in islice(result, limit + 1)]
    except DRIVER_ERRORS as exc:
        raise translate(exc, doing) from exc
    return Answer(columns, rows[:limit], len(rows) > limit)


def plain(value: Any) -> Any:
    """A driver's value as JSON can carry it: instants in ISO 8601 UTC, bytes in hex."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return in_utc(value.replace(tzinfo=UTC), "milliseconds")
    if isinstance(value, (bytes, bytearray)):
        return "0x" + value.hex()
    if hasattr(value, "items"):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        return [plain(item) for item in value]
    return str(value)
