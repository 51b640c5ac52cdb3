"""Rows of `sensor_data` with their write times, many small questions at once."""

from collections.abc import Sequence

from iot_pipeline.clients.cassandra import (
    DAY_ZERO,
    PLAIN_TUPLES,
    Asked,
    CassandraClient,
    PendingAnswer,
)
from iot_pipeline.core.proof.read_back import StoredRow

# Milliseconds as a number: a datetime of each would cost more than all the rest.
_ROWS = (
    "SELECT to_unix_timestamp(timestamp), temperature, humidity, WRITETIME(temperature), "
    "WRITETIME(humidity) FROM {ks}.sensor_data WHERE device_id = ? AND day = ?"
)
_RANGE = _ROWS + " AND timestamp >= ? AND timestamp <= ? LIMIT ?"
_TIMES = _ROWS + " AND timestamp IN ?"
# Added up where they are: rows that are as they should be need not travel a second time.
_SUMS = (
    "SELECT COUNT(*), SUM(WRITETIME(temperature)), SUM(WRITETIME(humidity)) "
    "FROM {ks}.sensor_data WHERE device_id = ? AND day = ?"
)


class FoundSums(Asked):
    """Sums on their way: a `PendingSums`. Cassandra's own sums wrap at 64 bits, as ours do."""

    @property
    def found(self) -> tuple[int, int, int]:
        rows, first_us, second_us = self._answer.rows[0]
        return rows, first_us % 2**64, second_us % 2**64


class FoundRows(Asked):
    """Rows on their way: a `PendingRows`."""

    @property
    def found(self) -> list[tuple[int, StoredRow]]:
        return [(row[0], row[1:]) for row in self._answer.rows]

    @property
    def answered_at(self) -> float:
        """Seconds since 1970 when the answer came; asked when it is done without an error."""
        assert self._answer.answered_at is not None
        return self._answer.answered_at


class CassandraRowReader:
    """An `AuditRows` over the client's session."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client
        self._range = _RANGE.format(ks=client.keyspace)
        self._times = _TIMES.format(ks=client.keyspace)
        self._sums = _SUMS.format(ks=client.keyspace)

    def start_range(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, limit: int
    ) -> FoundRows:
        """Start reading rows of one partition from first_ms to last_ms, at most `limit`."""
        values = (device_id, day_number + DAY_ZERO, first_ms, last_ms, limit)
        return self._start(self._range, values, device_id)

    def start_times(self, device_id: str, day_number: int, times_ms: Sequence[int]) -> FoundRows:
        """Start reading the rows that have exactly these timestamps."""
        values = (device_id, day_number + DAY_ZERO, list(times_ms))
        return self._start(self._times, values, device_id)

    def start_sums(self, device_id: str, day_number: int) -> FoundSums:
        """Start adding up the rows of one partition."""
        return FoundSums(self._send(self._sums, (device_id, day_number + DAY_ZERO), device_id))

    def _start(self, cql: str, values: tuple[object, ...], device_id: str) -> FoundRows:
        return FoundRows(self._send(cql, values, device_id))

    def _send(self, cql: str, values: tuple[object, ...], device_id: str) -> PendingAnswer:
        return self._client.start(
            lambda: self._client.prepare(cql).bind(values),
            f"reading rows of {device_id} from {self._client.keyspace}.sensor_data",
            PLAIN_TUPLES,
        )

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)
