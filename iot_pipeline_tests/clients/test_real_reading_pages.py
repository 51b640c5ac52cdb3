"""The contract of reading by pages and slots, on real Cassandra."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from iot_pipeline.clients.reading_pages import CassandraReadingPages
from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.contracts_readings import ReadingPagesContract

pytestmark = pytest.mark.services


@dataclass
class RealPagesWorld:
    pipeline: Pipeline
    device_id: str = field(default_factory=lambda: f"paged_{uuid.uuid4().hex[:8]}")

    @property
    def pages(self) -> CassandraReadingPages:
        return CassandraReadingPages(self.pipeline.connections.cassandra)

    def write(self, temperatures: Mapping[int, float]) -> None:
        store = self.pipeline.connections.store
        for ms, temperature in temperatures.items():
            day = ms // MS_PER_DAY
            pending = [
                store.send_rows(self.device_id, day, {ms: (1_000_000, 0, 0, temperature, 40.0)}),
                store.send_devices(day, {self.device_id: 1_000}),
            ]
            while not all(item.done for item in pending):
                store.wait(0.1)
            assert [item.error for item in pending] == [None, None]


class TestCassandraReadingPages(ReadingPagesContract):
    @pytest.fixture
    def pages_world(self, pipeline: Pipeline) -> RealPagesWorld:
        return RealPagesWorld(pipeline)
