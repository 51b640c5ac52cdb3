"""The contracts of the table of readings and of the devices of a day, on real Cassandra."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date

import pytest

from iot_pipeline.clients.devices_by_day import CassandraDeviceDays
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY, day_number
from iot_pipeline.stages.ports.readings import SensorData
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.contracts import settle
from iot_pipeline_tests.stages.contracts_readings import (
    ARRIVED_MS,
    DeviceDaysContract,
    SensorDataContract,
)

pytestmark = pytest.mark.services


@dataclass
class RealRowsWorld:
    pipeline: Pipeline
    device_id: str = field(default_factory=lambda: f"paged_{uuid.uuid4().hex[:8]}")

    @property
    def rows(self) -> SensorData:
        return self.pipeline.connections.rows

    @property
    def days(self) -> CassandraDeviceDays:
        return self.pipeline.connections.days

    def write(self, temperatures: Mapping[int, float], arrived_ms: int = ARRIVED_MS) -> None:
        store = self.pipeline.connections.store
        for day in {ms // MS_PER_DAY for ms in temperatures}:
            rows: RowsByTime = {
                ms: (arrived_ms * 1000, 0, 0, temperature, 40.0)
                for ms, temperature in temperatures.items()
                if ms // MS_PER_DAY == day
            }
            settle(store, store.send_rows(RowSlice.of({(self.device_id, day): rows})))
            settle(store, store.send_devices(day, {self.device_id: arrived_ms}))

    def note(self, names: Collection[str], day: date) -> None:
        store, ordered = self.pipeline.connections.store, sorted(names)
        for at in range(0, len(ordered), 300):
            part = dict.fromkeys(ordered[at : at + 300], ARRIVED_MS)
            settle(store, store.send_devices(day_number(day), part))


class TestCassandraSensorData(SensorDataContract):
    @pytest.fixture
    def rows_world(self, pipeline: Pipeline) -> RealRowsWorld:
        return RealRowsWorld(pipeline)


class TestCassandraDeviceDays(DeviceDaysContract):
    @pytest.fixture
    def rows_world(self, pipeline: Pipeline) -> RealRowsWorld:
        return RealRowsWorld(pipeline)
