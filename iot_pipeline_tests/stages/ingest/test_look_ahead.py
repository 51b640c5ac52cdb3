"""What a drain would do is said, and nothing is written for it."""

import json
from dataclasses import replace

from iot_pipeline.core.reading.declaration import SEED, DeviceSource, TimeSource
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.unknown_fields import MOST_NAMES, UnknownFields
from iot_pipeline.stages.ingest.look_ahead import Ahead, look_ahead
from iot_pipeline.stages.ports.log import NoSchemas
from iot_pipeline_tests.stages.world import T0, World


def _look(world: World, first_records: int = 1_000) -> Ahead:
    plan = world.plan(is_dry=True)
    return look_ahead(plan, world.log, NoSchemas(), ReadingRules(), 1.0, first_records)


def test_a_plan_of_a_topic_that_was_never_met_writes_no_checkpoint() -> None:
    world = World(2)
    world.write(0)
    world.write(1)
    plan = world.plan(is_dry=True)
    assert plan.ingest == [OffsetRange(0, 0, 1), OffsetRange(1, 0, 1)]
    assert world.ledger.read_checkpoints(world.log.topic, [0, 1]) == {}
    assert world.plan(is_dry=True, start_at="latest").ingest == []
    # And it is what a run then does.
    assert world.plan().ingest == plan.ingest


def test_the_first_records_of_each_partition_are_judged_and_nothing_is_written() -> None:
    world = World(2)
    for at in range(5):
        world.write(0, at=T0 + at)
    world.write_bad(0)
    world.write_bad(1)
    ahead = _look(world, first_records=6)
    first, second = ahead.partitions
    assert (first.found.records, first.found.rejected) == (6, 1)
    assert (second.found.records, second.found.rejected) == (1, 1)
    assert (ahead.records, ahead.rejected) == (7, 2)
    said = ahead.sentences()
    assert any(s.startswith("not_json: 1 record of partition 0, such as 0:5") for s in said)
    assert not world.journal
    short = _look(world, first_records=2)
    assert [item.found.records for item in short.partitions] == [2, 1]
    assert short.partitions[0].range == OffsetRange(0, 0, 6)


def test_only_what_a_run_would_drain_is_looked_at() -> None:
    world = World(1)
    for at in range(4):
        world.write(0, at=T0 + at)
    world.drain()
    assert _look(world).partitions == []
    world.write_bad(0)
    (item,) = _look(world).partitions
    assert (item.range, item.found.records) == (OffsetRange(0, 4, 5), 1)


def _record(offset: int, told: object) -> Record:
    return Record(0, offset, 0, None, json.dumps(told).encode(), None)


def test_fields_that_are_not_declared_are_named_with_the_first_message_that_has_them() -> None:
    nested = replace(
        SEED,
        device=DeviceSource((("meta", "id"),)),
        time=TimeSource((("ts",),)),
    )
    fields = UnknownFields(nested)
    known = {"meta": {"id": "d"}, "ts": 1, "temperature": 1.0, "humidity": 2.0}
    fields.add(_record(7, known))
    assert fields.seen == {}
    fields.add(_record(8, known | {"battery": {"volt": 3.1}, "meta": {"id": "d", "fw": "1.2"}}))
    fields.add(_record(9, known | {"battery": None}))
    fields.add(Record(0, 10, 0, None, b"no json", None))
    fields.add(Record(0, 11, 0, None, None, None))
    fields.add(_record(12, [1, 2]))
    seen = {name: (one.records, one.offset) for name, one in fields.seen.items()}
    assert seen == {"battery": (2, 8), "meta.fw": (1, 8)}


def test_names_that_devices_make_up_take_no_memory() -> None:
    fields = UnknownFields(SEED)
    for at in range(MOST_NAMES + 50):
        fields.add(_record(at, {f"field_{at}": 1}))
    assert len(fields.seen) == MOST_NAMES
    assert fields.unnamed == 50
