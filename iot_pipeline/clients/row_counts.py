"""Count rows of `sensor_data` in Cassandra, one (device_id, day) partition at a time."""

from datetime import date
from typing import Any

from iot_pipeline.clients.cassandra import Asked, CassandraClient

_DEVICES = "SELECT device_id FROM {ks}.devices_by_day WHERE day = ?"
_COUNT = "SELECT COUNT(*) AS rows FROM {ks}.sensor_data WHERE device_id = ? AND day = ?"


class PendingCount(Asked):
    """A count on its way; `rows` is its answer once it is `done` without an `error`."""

    @property
    def rows(self) -> int:
        return int(self._answer.rows[0].rows)


class CassandraRowCounts:
    """Which devices have rows on a day, and how many; never a scan of the table."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def devices(self, day: date) -> list[str]:
        """Those that devices_by_day lists."""
        cql = _DEVICES.format(ks=self._client.keyspace)
        rows = self._client.execute(cql, (day,), doing=f"listing the devices of {day}")
        return [row.device_id for row in rows]

    def send_count(self, device_id: str, day: date) -> PendingCount:
        """Start counting one Cassandra partition; the server counts, one number travels."""
        cql = _COUNT.format(ks=self._client.keyspace)

        def make() -> Any:
            return self._client.prepare(cql).bind((device_id, day))

        doing = f"counting the rows of {device_id} of {day}"
        return PendingCount(self._client.start(make, doing))

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)
