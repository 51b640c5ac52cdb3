"""One device, one millisecond, conflicting readings: one whole row, in every order."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline_tests.stages.fakes import FakeStore
from iot_pipeline_tests.stages.world import CONFIG, T0, World


def test_conflicting_readings_with_equal_write_times_make_one_whole_row():
    # Offsets 0 and 1000 in one broker millisecond have one write time: in Cassandra, and in the
    # fake, the larger temperature of the one would meet the larger humidity of the other.
    world = World()
    world.log.poll_records = 100
    world.write(at=T0, temperature=90.0, humidity=1.0)
    for step in range(999):
        world.write(device="filler", at=T0 + step)
    world.write(at=T0, temperature=1.0, humidity=90.0)
    world.log.tick()
    world.write(at=T0 + 1)
    world.drain(config=replace(CONFIG, micro_batch_records=100))
    world.check_all_is_drained()
    assert world.store.rows()["device_0", int(T0 * 1000)] == (1.0, 90.0)


def test_the_fake_tears_rows_as_cassandra_does():
    store = FakeStore()
    store.send_rows(RowSlice.of({("d", 0): {5: (7, 0, 0, 90.0, 1.0)}}))
    store.send_rows(RowSlice.of({("d", 0): {5: (7, 0, 1000, 1.0, 90.0)}}))
    assert store.rows() == {("d", 5): (90.0, 90.0)}


@st.composite
def conflicts(draw):
    """A topic of few keys and many conflicts; partitions never share a broker millisecond."""
    world = World(partitions=2)
    world.log.poll_records = draw(st.integers(1, 7))
    for partition in draw(st.lists(st.integers(0, 1), min_size=1, max_size=25)):
        world.log.tick()
        for _ in range(draw(st.integers(1, 4))):
            world.write(
                partition,
                device=draw(st.sampled_from(["d", "e"])),
                at=T0 + draw(st.sampled_from([0.0, 0.001])),
                temperature=float(draw(st.integers(-9, 9))),
                humidity=float(draw(st.integers(0, 9))),
            )
    return world


@given(conflicts(), st.integers(1, 9), st.data())
def test_conflicting_readings_make_the_same_whole_rows_in_every_order_of_draining(
    world, size, data
):
    config = replace(CONFIG, micro_batch_records=size)
    plan = world.plan()
    whole = World(partitions=2, log=world.log)
    whole.drain(whole.plan(), config=replace(CONFIG, micro_batch_records=1000))
    whole.check_all_is_drained()
    # The two partitions one after the other, in either order, each in micro-batches.
    for p in data.draw(st.permutations([0, 1])):
        world.drain(world.plan(partitions=[p]), config=config)
    world.check_all_is_drained()
    assert world.store.cells == whole.store.cells
    # And again, from a ledger that knows nothing: the same cells with the same write times.
    again = World(partitions=2, log=world.log, store=world.store)
    again.drain(again.plan(), config=config)
    assert world.store.cells == whole.store.cells
    assert plan.ingest


@given(conflicts(), st.integers(1, 9), st.lists(st.integers(1, 20), max_size=6))
def test_conflicting_readings_across_runs_make_whole_rows(world, size, budgets):
    # Budgets cut anywhere, also inside a millisecond: the write times differ all the same, as
    # fewer than a thousand records share one.
    for budget in budgets:
        world.drain(
            world.plan(max_records=budget), config=replace(CONFIG, micro_batch_records=size)
        )
        world.check()
    world.drain(config=replace(CONFIG, micro_batch_records=size))
    world.check_all_is_drained()
