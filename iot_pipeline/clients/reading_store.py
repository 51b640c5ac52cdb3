"""Rows of readings and the devices of a day, written by the driver's own statements."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from cassandra.query import UNSET_VALUE

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_answers import DAY_ZERO, PendingAnswer
from iot_pipeline.clients.devices_by_day import DEVICES_BY_DAY
from iot_pipeline.clients.sensor_data import SENSOR_DATA, bound_row, columns_of
from iot_pipeline.clients.table import Table
from iot_pipeline.core.reading.columns import Ints
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.retention import FOR_EVER, Retention, RetentionByCode
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import arrived_ms, first_us

# Twice as long as a note may be old when a row is written, `row_writer.DEVICE_REFRESH_MS`.
DEVICE_TTL_EXTRA_SECONDS = 12 * 3600
# Cassandra refuses a TTL of more than 20 years of 365 days, which is our longest retention.
_MAX_TTL_SECONDS = 20 * 365 * 86_400

_INSERT_DEVICE = (
    f"INSERT INTO {DEVICES_BY_DAY} (day, bucket, device_id) VALUES (?, ?, ?) USING TIMESTAMP ?"
)


class CassandraReadingStore(Table):
    """Writes with the driver's own statements: prepared, in unlogged batches.

    Args:
        quantities: of the values of a row, in their order.
        retention: how long a row lives after its record arrived in Kafka.
        wall_clock: seconds since 1970. A TTL is computed when a row is sent, from the record's
            Kafka timestamp: a replay never prolongs life.
    """

    def __init__(
        self,
        client: CassandraClient,
        quantities: Sequence[Quantity],
        retention: Retention = FOR_EVER,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(client)
        self._quantities = quantities
        self._retention, self._by_code = retention, RetentionByCode(retention)
        self._wall_clock = wall_clock
        ttl = " AND TTL ?" if retention.may_end else ""
        columns = columns_of(quantities)
        insert_row = (
            f"INSERT INTO {SENSOR_DATA} ({', '.join(columns)}) "
            f"VALUES ({', '.join('?' * len(columns))}) USING TIMESTAMP ?"
        )
        self._insert_row = self._cql(insert_row) + ttl
        self._insert_device = self._cql(_INSERT_DEVICE) + ttl

    def send_rows(self, rows: RowSlice) -> PendingAnswer[Any]:
        def make() -> object:
            statement = self._client.prepare(self._insert_row)
            batch = self._client.unlogged_batch()
            for (device_id, day_number), of_place in rows.items():
                for ms, (write_time, _, _, *quantities) in of_place.items():
                    # Not null, which would delete what another message told.
                    cells = (UNSET_VALUE if one is None else one for one in quantities)
                    row = bound_row(device_id, day_number, ms, write_time, cells)
                    ttl = self._ttl(device_id, arrived_ms(write_time))
                    batch.add(statement, row + ttl)
            return batch

        return self._client.start(make, self._doing(rows))

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> PendingAnswer[Any]:
        def make() -> object:
            statement = self._client.prepare(self._insert_device)
            batch = self._client.unlogged_batch()
            for device_id, produced_ms in devices.items():
                place = (day_number + DAY_ZERO, bucket_of(device_id), device_id)
                values = (*place, first_us(produced_ms))
                ttl = self._ttl(device_id, produced_ms, DEVICE_TTL_EXTRA_SECONDS)
                batch.add(statement, values + ttl)
            return batch

        return self._client.start(make, self._doing_devices(devices))

    def _doing(self, rows: RowSlice) -> str:
        where = self._cql(SENSOR_DATA)
        if rows.parts > 1:
            return f"writing rows of {rows.parts} devices to {where}"
        return f"writing {len(rows)} rows of {rows.device_id} to {where}"

    def _doing_devices(self, devices: Mapping[str, int]) -> str:
        return f"writing {len(devices)} devices to {self._cql(DEVICES_BY_DAY)}"

    def _ttl(self, device_id: str, produced_ms: int, extra_seconds: int = 0) -> tuple[int, ...]:
        if not self._retention.may_end:
            return ()
        lives_ms = np.array([self._retention.milliseconds_of(device_id)])
        seconds = self._ttl_seconds(np.array([produced_ms]), lives_ms, extra_seconds)
        return (int(seconds[0]),)

    def _ttl_of_rows(self, produced_ms: Ints, groups: RowGroups) -> Ints:
        """Of the rows of some groups, in their order."""
        if not self._retention.groups:
            lives_ms = np.int64(self._retention.milliseconds_of(""))
            return self._ttl_seconds(produced_ms, lives_ms)
        by_code = self._by_code.milliseconds(groups.columns.codes)
        return self._ttl_seconds(produced_ms, np.repeat(by_code[groups.codes], groups.counts))

    def _ttl_seconds(
        self, produced_ms: Ints, lives_ms: Ints | np.int64, extra_seconds: int = 0
    ) -> Ints:
        """Seconds to live; 0 is for ever, to Cassandra too, whatever the table's default is."""
        age_ms = self._wall_clock() * 1000 - produced_ms
        # A record on the edge lives one second more.
        left = np.maximum(((lives_ms - age_ms) / 1000).astype(np.int64), 1)
        seconds: Ints = np.minimum(left + extra_seconds, _MAX_TTL_SECONDS)
        return seconds if np.all(lives_ms) else np.where(lives_ms > 0, seconds, 0)
