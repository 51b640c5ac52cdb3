"""Rows of readings in `sensor_data` and `devices_by_day`, by the driver's own statements."""

import time
from collections.abc import Callable, Mapping, Sequence

from iot_pipeline.clients.cassandra import CassandraClient, PendingAnswer, unlogged_batch
from iot_pipeline.core.reading.write_times import RowsByTime, arrived_ms, first_us

# The driver binds a day as the wire has it: days since 1970, moved up by 2^31.
DAY_ZERO = 1 << 31
DEVICE_TTL_EXTRA_SECONDS = 2 * 86_400
# Cassandra refuses a TTL of more than 20 years of 365 days, which is our longest retention.
_MAX_TTL_SECONDS = 20 * 365 * 86_400

_INSERT_ROW = (
    "INSERT INTO {keyspace}.sensor_data (device_id, day, timestamp, temperature, humidity) "
    "VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_INSERT_DEVICE = (
    "INSERT INTO {keyspace}.devices_by_day (day, device_id) VALUES (?, ?) USING TIMESTAMP ?"
)


class CassandraReadingStore:
    """Writes with the driver's own statements: prepared, in unlogged batches.

    Args:
        client: the session.
        retention_days: how long a row lives after its record arrived in Kafka; 0: for ever.
        wall_clock: seconds since 1970. A TTL is computed when a row is sent, from the record's
            Kafka timestamp: a replay never prolongs life.
    """

    def __init__(
        self,
        client: CassandraClient,
        retention_days: float = 0.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._retention_ms = int(retention_days * 86_400_000)
        self._wall_clock = wall_clock
        ttl = " AND TTL ?" if self._retention_ms else ""
        self._insert_row = _INSERT_ROW.format(keyspace=client.keyspace) + ttl
        self._insert_device = _INSERT_DEVICE.format(keyspace=client.keyspace) + ttl

    def send_rows(self, device_id: str, day_number: int, rows: RowsByTime) -> PendingAnswer:
        """Start writing rows of one Cassandra partition, all of them in one batch."""
        return self.send_merged([(device_id, day_number, rows)])

    def send_merged(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> PendingAnswer:
        """Start writing rows of a few Cassandra partitions in one batch."""

        def make() -> object:
            statement = self._client.prepare(self._insert_row)
            batch = unlogged_batch()
            for device_id, day_number, rows in groups:
                place = (device_id, day_number + DAY_ZERO)
                for ms, (write_time, _, _, temperature, humidity) in rows.items():
                    values = (*place, ms, temperature, humidity, write_time)
                    batch.add(statement, values + self._ttl(arrived_ms(write_time)))
            return batch

        return self._client.start(make, self._doing(groups))

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> PendingAnswer:
        """Start noting that these devices have rows on this day; device_id -> produced_ms."""

        def make() -> object:
            statement = self._client.prepare(self._insert_device)
            batch = unlogged_batch()
            for device_id, produced_ms in devices.items():
                values = (day_number + DAY_ZERO, device_id, first_us(produced_ms))
                batch.add(statement, values + self._ttl(produced_ms, DEVICE_TTL_EXTRA_SECONDS))
            return batch

        return self._client.start(make, self._doing_devices(devices))

    def _doing(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> str:
        where = f"{self._client.keyspace}.sensor_data"
        if len(groups) > 1:
            return f"writing rows of {len(groups)} devices to {where}"
        return f"writing {len(groups[0][2])} rows of {groups[0][0]} to {where}"

    def _doing_devices(self, devices: Mapping[str, int]) -> str:
        return f"writing {len(devices)} devices to {self._client.keyspace}.devices_by_day"

    def _ttl(self, produced_ms: int, extra_seconds: int = 0) -> tuple[int, ...]:
        return (self._ttl_seconds(produced_ms, extra_seconds),) if self._retention_ms else ()

    def _ttl_seconds(self, produced_ms: int, extra_seconds: int = 0) -> int:
        age_ms = self._wall_clock() * 1000 - produced_ms
        # A TTL of 0 would mean for ever; a record on the edge lives one second more.
        seconds = max(1, int((self._retention_ms - age_ms) / 1000)) + extra_seconds
        return min(seconds, _MAX_TTL_SECONDS)

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)
