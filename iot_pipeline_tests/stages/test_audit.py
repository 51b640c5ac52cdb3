"""Every fate of an offset, and rows without a record, on fakes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from iot_pipeline.core.audit import Fate
from iot_pipeline.core.deletions import Deletion
from iot_pipeline.core.offsets import OffsetRange
from iot_pipeline.core.read_back import Place
from iot_pipeline.core.readings import MS_PER_DAY
from iot_pipeline.stages.audit import audit, choose_ranges
from iot_pipeline.stages.audit_ports import AuditConfig, AuditPorts
from iot_pipeline_tests.stages.fake_rows import FakeRowReader
from iot_pipeline_tests.stages.fakes import Kind
from iot_pipeline_tests.stages.world import T0, World, a_busy_world

DLQ = "iot_data.dlq"
T0_MS = int(T0 * 1000)
DAY = T0_MS // MS_PER_DAY


@dataclass
class Outside:
    """Kafka and Cassandra as an audit reads them, over a `World`."""

    world: World
    audits: list[tuple[object, ...]] = field(default_factory=list)

    def read(self, topic: str, ranges: Sequence[OffsetRange]) -> Iterator[list[object]]:
        for item in ranges:
            for at in range(item.start, item.end):
                kind, record = self.world.log.at(item.partition, at)
                if kind is Kind.RECORD and at >= self.world.log.low[item.partition]:
                    yield [(item.partition, at, record.produced_ms, record.value)]

    def letter_places(self, dlq, ranges, topic, topic_id):
        return iter(self.world.letters.by_place())

    def watermarks(self, topic: str):
        return [] if topic == DLQ else self.world.log.watermarks(topic)

    def __getattr__(self, name: str):
        return getattr(self.world.log, name)

    def devices_of(self, day_number: int) -> list[str]:
        return sorted(self.world.store.devices[day_number])

    def all_places(self) -> Iterator[Place]:
        yield from sorted({(device, day) for device, day, _ in self.world.store.cells})

    def read_deletions(self) -> list[Deletion]:
        return []

    def record_audit(self, *kept: object) -> None:
        self.audits.append(kept)


def run(world: World, **options):
    outside = Outside(world)
    ports = AuditPorts(outside, world.ledger, outside, FakeRowReader(world.store), outside)
    ranges = choose_ranges(outside, world.ledger, "iot_data")
    result = audit("iot_data", ranges, ports, AuditConfig(DLQ, retry_seconds=0.2), "a", **options)
    judged = sum(count for fate, count in result.fates.items() if fate is not Fate.STRAY)
    assert judged == result.offsets, "each offset has one fate"
    assert len(outside.audits) == 1
    return result


def fates(world: World, **options) -> dict[Fate, int]:
    return {fate: n for fate, n in run(world, **options).fates.items() if n}


def drained() -> World:
    world = World()
    for step in range(5):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.drain()
    assert fates(world) == {Fate.STORED: 5}
    return world


def test_what_a_drain_accounted_for_is_proved():
    world = a_busy_world()
    world.drain()
    found = fates(world)
    assert set(found) <= {Fate.STORED, Fate.SUPERSEDED, Fate.REJECTED, Fate.HOLES}
    assert found[Fate.STORED] == len(world.store.cells)
    assert found[Fate.REJECTED] == len(world.letters.by_place())


def test_what_lags_is_in_flight_and_what_kafka_deleted_is_not_proved():
    world = drained()
    world.write(device="d", at=T0 + 9)
    assert fates(world) == {Fate.STORED: 5, Fate.IN_FLIGHT: 1}
    world.log.delete_before(0, 2)
    assert fates(world) == {Fate.UNVERIFIABLE: 2, Fate.STORED: 3, Fate.IN_FLIGHT: 1}


def test_a_row_that_is_gone_is_lost():
    world = drained()
    del world.store.cells["d", DAY, T0_MS + 2000]
    assert fates(world) == {Fate.STORED: 4, Fate.LOST: 1}


def test_a_rejected_record_without_a_letter_is_lost():
    world = drained()
    world.write_bad()
    world.drain()
    assert fates(world) == {Fate.STORED: 5, Fate.REJECTED: 1}
    world.letters.delivered.clear()
    assert fates(world) == {Fate.STORED: 5, Fate.LOST: 1}


def test_a_cell_that_no_record_has_is_torn():
    world = drained()
    cells = world.store.cells["d", DAY, T0_MS + 1000]
    cells["humidity"] = (cells["humidity"][0], 99.0)
    assert fates(world)[Fate.TORN] == 1


@pytest.mark.parametrize("every_place", [False, True])
def test_a_row_of_somebody_else_is_stray_where_it_is_looked_for(every_place):
    world = drained()
    written = world.store.cells["d", DAY, T0_MS + 1000]["humidity"][0]
    row = {"temperature": (written + 1, 1.0), "humidity": (written + 1, 1.0)}
    world.store.cells["x", DAY, T0_MS + 500] = row
    assert fates(world, every_place=every_place).get(Fate.STRAY, 0) == int(every_place)
    world.store.devices[DAY]["x"] = 1
    (finding,) = run(world, every_place=every_place).findings
    assert (finding.fate, finding.device_id) == (Fate.STRAY, "x")
