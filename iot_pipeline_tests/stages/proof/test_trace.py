"""The record behind a row, and a run's rows against its records, on fakes."""

import pytest

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import RowState
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.proof.trace import find_records, read_back_run, trace
from iot_pipeline_tests.stages.outside import Outside
from iot_pipeline_tests.stages.world import T0, World

T0_MS = int(T0 * 1000)
DAY = T0_MS // MS_PER_DAY
ALL = (OffsetRange(0, 0, 5),)


def drained(records: int = 5) -> World:
    world = World()
    for step in range(records):
        world.write(device="d", at=T0 + step, temperature=float(step % 50))
        world.log.tick()
    world.drain()
    return world


def cells(world: World, step: int) -> dict:
    return world.store.cells["d", DAY, T0_MS + step * 1000]


def look(world: World, step: int = 2):
    return trace(Outside(world).ports, "d", T0_MS + step * 1000)


def test_a_row_leads_to_its_record():
    found = look(drained())
    assert found.is_whole
    assert found.made_by is not None
    assert found.made_by[1:] == (2, 0, 2.0, 50.0)


def test_a_row_that_is_not_there_has_no_record():
    found = look(drained(), step=99)
    assert (found.row, found.records, found.made_by) == (None, [], None)


def test_a_torn_row_shows_the_records_of_both_of_its_write_times_and_none_made_it():
    world = drained()
    cells(world, 2)["humidity"] = cells(world, 2)["humidity"][0] + 999, 99.0
    found = look(world)
    assert not found.is_whole
    assert found.made_by is None
    assert [record[1:3] for record in found.records] == [(2, 0)]


def test_a_row_whose_record_kafka_has_deleted_has_none():
    world = drained()
    world.log.delete_before(0, 4)
    found = look(world)
    assert found.row is not None
    assert found.records == []


def test_records_of_many_write_times_are_found_by_one_reading_when_they_are_near():
    world = drained(200)
    outside = Outside(world)
    wanted = {
        (("d", DAY), ms, cells["temperature"][0]) for (_, _, ms), cells in world.store.cells.items()
    }
    found = find_records(outside.ports, wanted)
    assert {len(records) for records in found.values()} == {1}
    assert {records[0][0] for records in found.values()} == {key[2] for key in wanted}
    assert outside.readings == 1
    assert find_records(outside.ports, []) == {}


# Read back.


def compare(world: World, ranges=ALL, deletions=(), **options):
    outside = Outside(world)
    outside.deletions.deletions.extend(deletions)
    return read_back_run(outside.ports, ranges, **options)


def test_rows_as_their_records_made_them_are_equal():
    found = compare(drained())
    assert found.states == {RowState.EQUAL: 5}
    assert (found.left, found.gone, found.named) == (0, 0, [])


@pytest.mark.parametrize(
    ("humidity", "state"),
    [((-1, 99.0), RowState.TORN), (None, RowState.TORN), ((0, 99.0), RowState.TORN)],
)
def test_a_cell_that_is_not_its_records_makes_a_torn_row(humidity, state):
    world = drained()
    if humidity is None:
        del cells(world, 1)["humidity"]
    else:
        written = cells(world, 1)["humidity"][0]
        cells(world, 1)["humidity"] = written + humidity[0], humidity[1]
    found = compare(world)
    assert found.states == {RowState.EQUAL: 4, state: 1}
    assert found.named[0].timestamp_ms == T0_MS + 1000


def test_a_later_record_that_won_is_newer_and_a_row_that_is_gone_is_missing():
    world = drained()
    world.write(device="d", at=T0, temperature=9.0)
    world.drain()
    del world.store.cells["d", DAY, T0_MS + 4000]
    assert compare(world).states == {RowState.EQUAL: 3, RowState.NEWER: 1, RowState.MISSING: 1}


def test_a_row_of_another_record_with_the_same_write_time_counts_as_equal():
    world = World(partitions=17)
    world.write(0, device="d", at=T0, temperature=1.0)
    world.write(16, device="d", at=T0, temperature=2.0)
    world.drain()
    assert compare(world, [OffsetRange(16, 0, 1)]).states == {RowState.EQUAL: 1}
    world.store.cells["d", DAY, T0_MS]["temperature"] = (cells(world, 0)["temperature"][0], 3.0)
    assert compare(world, [OffsetRange(0, 0, 1)]).states == {RowState.TORN: 1}


def test_what_was_deleted_or_has_aged_is_not_looked_for_and_is_counted():
    world = drained()
    for step in (0, 1):
        del world.store.cells["d", DAY, T0_MS + step * 1000]
    deletions = [Deletion("d", T0_MS, T0_MS + 1000, 2**62, "wrong")]
    second_ms = world.log.at(0, 1)[1].produced_ms
    found = compare(world, deletions=deletions, aged_before_ms={"d": second_ms + 1}.__getitem__)
    assert found.states == {RowState.EQUAL: 3}
    assert found.gone == 2


def test_of_many_keys_a_sample_is_compared_and_the_same_seed_compares_the_same():
    world = drained(300)
    ranges = [OffsetRange(0, 0, 300)]
    assert compare(world, ranges, max_keys=30, seed=7).rows == 30
    del world.store.cells["d", DAY, T0_MS + 150_000]
    chosen = [compare(world, ranges, max_keys=30, seed=7).states for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert compare(world, ranges, max_keys=300).states[RowState.MISSING] == 1


def test_however_late_it_is_some_rows_are_compared_and_the_others_are_said_to_be_left():
    world = World()
    for step in range(20):
        world.write(device=f"d{step}", at=T0)
    world.drain()
    found = compare(world, [OffsetRange(0, 0, 20)], is_over=lambda: True)
    assert found.rows > 0
    times = iter(range(100))
    found = compare(world, [OffsetRange(0, 0, 20)], is_over=lambda: next(times) > 22)
    assert 0 < found.rows < 20
    assert found.rows + found.left == 20
