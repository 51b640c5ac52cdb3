"""Rows of readings and the devices of a day, written by the driver's own statements."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iot_pipeline.clients.cassandra import DAY_ZERO, CassandraClient, PendingAnswer
from iot_pipeline.clients.devices_by_day import DEVICES_BY_DAY
from iot_pipeline.clients.sensor_data import COLUMNS, SENSOR_DATA
from iot_pipeline.clients.table import Table
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import RowsByTime, arrived_ms, first_us

# Twice as long as a note may be old when a row is written, `row_writer.DEVICE_REFRESH_MS`.
DEVICE_TTL_EXTRA_SECONDS = 12 * 3600
# Cassandra refuses a TTL of more than 20 years of 365 days, which is our longest retention.
_MAX_TTL_SECONDS = 20 * 365 * 86_400

_INSERT_ROW = (
    f"INSERT INTO {SENSOR_DATA} ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join('?' * len(COLUMNS))}) USING TIMESTAMP ?"
)
_INSERT_DEVICE = (
    f"INSERT INTO {DEVICES_BY_DAY} (day, bucket, device_id) VALUES (?, ?, ?) USING TIMESTAMP ?"
)


class CassandraReadingStore(Table):
    """Writes with the driver's own statements: prepared, in unlogged batches.

    Args:
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
        super().__init__(client)
        self._retention_ms = int(retention_days * 86_400_000)
        self._wall_clock = wall_clock
        ttl = " AND TTL ?" if self._retention_ms else ""
        self._insert_row = self._cql(_INSERT_ROW) + ttl
        self._insert_device = self._cql(_INSERT_DEVICE) + ttl

    def send_rows(self, device_id: str, day_number: int, rows: RowsByTime) -> PendingAnswer[Any]:
        return self.send_merged([(device_id, day_number, rows)])

    def send_merged(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> PendingAnswer[Any]:
        def make() -> object:
            statement = self._client.prepare(self._insert_row)
            batch = self._client.unlogged_batch()
            for device_id, day_number, rows in groups:
                place = (device_id, day_number + DAY_ZERO)
                for ms, (write_time, _, _, *quantities) in rows.items():
                    values = (*place, ms, *quantities, write_time)
                    batch.add(statement, values + self._ttl(arrived_ms(write_time)))
            return batch

        return self._client.start(make, self._doing(groups))

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> PendingAnswer[Any]:
        def make() -> object:
            statement = self._client.prepare(self._insert_device)
            batch = self._client.unlogged_batch()
            for device_id, produced_ms in devices.items():
                place = (day_number + DAY_ZERO, bucket_of(device_id), device_id)
                values = (*place, first_us(produced_ms))
                batch.add(statement, values + self._ttl(produced_ms, DEVICE_TTL_EXTRA_SECONDS))
            return batch

        return self._client.start(make, self._doing_devices(devices))

    def _doing(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> str:
        where = self._cql(SENSOR_DATA)
        if len(groups) > 1:
            return f"writing rows of {len(groups)} devices to {where}"
        return f"writing {len(groups[0][2])} rows of {groups[0][0]} to {where}"

    def _doing_devices(self, devices: Mapping[str, int]) -> str:
        return f"writing {len(devices)} devices to {self._cql(DEVICES_BY_DAY)}"

    def _ttl(self, produced_ms: int, extra_seconds: int = 0) -> tuple[int, ...]:
        return (self._ttl_seconds(produced_ms, extra_seconds),) if self._retention_ms else ()

    def _ttl_seconds(self, produced_ms: int, extra_seconds: int = 0) -> int:
        age_ms = self._wall_clock() * 1000 - produced_ms
        # A TTL of 0 would mean for ever; a record on the edge lives one second more.
        seconds = max(1, int((self._retention_ms - age_ms) / 1000)) + extra_seconds
        return min(seconds, _MAX_TTL_SECONDS)
