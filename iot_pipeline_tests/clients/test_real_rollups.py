"""The rollup store's contract on Cassandra, and the ledgers as it reads them."""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest

from iot_pipeline.clients.rollup_store import CassandraRollupStore
from iot_pipeline.stages.rollups.rebuild import read_day_facts, read_rollups, rebuild_day
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.rollup_contract import RollupStoreContract

pytestmark = pytest.mark.services

DAY = date(2024, 12, 29)


@dataclass
class RealRollupWorld:
    store: CassandraRollupStore
    topic: str
    device: str


@pytest.fixture
def rollup_world(pipeline: Pipeline) -> RealRollupWorld:
    store = pipeline.connections.rollups
    return RealRollupWorld(store, pipeline.topic, f"u{uuid.uuid4().hex[:8]}")


class TestCassandraRollupStore(RollupStoreContract):
    pass


class TestLedgers:
    @pytest.fixture
    def keyspace(self) -> str:
        """Of this test's own: a rebuild takes every row of the day."""
        return f"iot_test_{uuid.uuid4().hex[:10]}"

    def test_facts_records_and_rollups_come_from_what_was_ingested(
        self, pipeline: Pipeline, rollup_world: RealRollupWorld
    ) -> None:
        topic, store = pipeline.topic, rollup_world.store
        ports = pipeline.connections.rollup_ports
        assert read_day_facts(ports, topic, datetime.now(UTC)) == {}
        began = datetime.now(UTC).timestamp() * 1000
        produce(pipeline.brokers, topic, fleet("f", 3, 600), partition=0)
        produce(pipeline.brokers, topic, fleet("g", 3, 300), partition=1)
        pipeline.drain()
        facts = read_day_facts(ports, topic, datetime.now(UTC))[DAY]
        assert facts.stored == 900
        assert facts.oldest_ms is not None
        assert began - 5_000 <= facts.oldest_ms <= datetime.now(UTC).timestamp() * 1000

        # Pages smaller than a device's day, so that they must meet exactly.
        done = rebuild_day(ports, topic, DAY, "run", retry_seconds=30, page_rows=64)
        assert (done.readings, done.devices, done.devices_done) == (900, 6, 6)
        assert store.read_records(topic)[DAY].seen == facts.seen
        for name, count in (("f_0", 200), ("g_2", 100)):
            (day,) = read_rollups(store, name, DAY, DAY, hourly=False, retry_seconds=30).values()
            assert day.count == count
            hours = read_rollups(
                store, name, date(2024, 11, 30), DAY, hourly=True, retry_seconds=30
            )
            assert sum(hour.count for hour in hours.values()) == count
            assert list(hours) == sorted(hours, reverse=True)

    def test_the_command_line_makes_rollups_and_shows_them(self, pipeline: Pipeline) -> None:
        produce(pipeline.brokers, pipeline.topic, fleet("f", 2, 400), partition=0)
        pipeline.drain()
        assert "no rollups of f_0" in pipeline.iot("rollups", "f_0", "--day", str(DAY))
        made = pipeline.iot("rollup", "--since", "2024-12-28", "--until", "2024-12-30", "--json")
        assert [(day["day"], day["readings"]) for day in made["days"]] == [
            ("2024-12-28", 0),
            ("2024-12-29", 400),
        ]
        shown = pipeline.iot(
            "rollups", "f_0", "--since", "2024-12-01", "--until", "2025-01-01", "--json"
        )
        (day,) = shown["rollups"]
        assert (day["day"], day["count"]) == ("2024-12-29", 200)
        assert day["temperature"]["min"] == 20.0
        assert day["humidity"] == {
            "count": 200,
            "min": 40.0,
            "mean": 40.0,
            "max": 40.0,
            "first": 40.0,
            "last": 40.0,
            "stddev": 0.0,
        }
        hourly = pipeline.iot("rollups", "f_0", "--hourly", "--day", str(DAY), "--json")
        assert [hour["hour"] for hour in hourly["rollups"]] == ["2024-12-29T04:00Z"]
        assert "f_0" in pipeline.iot("rollups", "f_0", "--day", str(DAY))
        for wrong in (["rollup"], ["rollup", "--until", "2025-01-01"], ["rollup", "--day", "x"]):
            pipeline.iot(*wrong, exit_code=2)
