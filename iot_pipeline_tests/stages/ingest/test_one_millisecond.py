"""Conflicting readings of one broker millisecond: the same whole row, in whatever order it comes.

Of one key in one millisecond, in up to sixteen Kafka partitions, with equal write times among them;
drained in pieces that end anywhere, killed anywhere, replayed, and dead letters replayed.
"""

from contextlib import suppress
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ingest.config import DrainConfig
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.replay import plan_replay, replay
from iot_pipeline_tests.core.reading.limits import limited_seed
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.faults import Crash, Faults, How
from iot_pipeline_tests.stages.world import CONFIG, T0, World

PARTITIONS = 16
# Record 62 of a partition has the write time of record 0 there.
APART = 62


@st.composite
def twins(draw):
    """A topic whose records share a key and, nearly all, a millisecond."""
    world = World(partitions=PARTITIONS)
    world.log.poll_records = draw(st.sampled_from([1, 3, 1000]))
    for number in range(draw(st.integers(2, 14))):
        partition = draw(st.sampled_from([0, 0, 1, 15]))
        # Larger values in the one cell go with smaller ones in the other: torn rows show.
        world.write(partition, "d", T0, float(draw(st.integers(0, 9))), float(number))
        for _ in range(draw(st.sampled_from([0, APART - 1, APART - 1]))):
            world.log.append_hole(partition)
        world.log.tick(draw(st.sampled_from([0, 0, 0, 0, 1])))
    return world


@st.composite
def steps(draw):
    kind = draw(st.sampled_from(["cut", "cap", "crash", "replay"]))
    return kind, draw(st.integers(0, 300)), draw(st.sampled_from([0, 1, 15]))


def winner_of(world: World):
    """The rule as a sentence: the highest write time; of equal ones the first record."""
    records = [
        (record.produced_ms, record.offset % 62 * 16 + record.partition, -record.offset, record)
        for record in world.log.records()
    ]
    return max(records, key=lambda item: item[:3])[3]


def check(world: World) -> None:
    winner = winner_of(world)
    (row,) = world.store.rows().values()
    (written,) = world.store.write_times().values()
    assert b'"temperature":%a,"humidity":%a' % row in winner.value, "it is the winner, and whole"
    digits = winner.offset % 62 * 16 + winner.partition
    assert written == {winner.produced_ms * 1000 + digits}


def take_step(world: World, kind: str, number: int, partition: int) -> None:
    checkpoints = world.ledger.read_checkpoints("iot_data", [partition])
    at = checkpoints[partition].next_offset if checkpoints else 0
    end = world.log.end(partition)
    if kind == "cap":
        world.drain(world.plan(max_records=1 + number))
    elif kind == "crash":
        how = (How.CRASH_BEFORE, How.CRASH_AFTER)[number % 2]
        until = min(end, at + 1 + number % 130)
        chosen = [OffsetRange(partition, at, until)] if until > at and number % 3 else []
        with suppress(Crash):
            world.drain(world.plan(offsets=chosen), Faults(number // 6, how))
    elif kind == "cut" and at < end:
        cut = OffsetRange(partition, at, min(end, at + 1 + number))
        world.drain(world.plan(offsets=[cut]))
    elif kind == "replay" and at:
        start = number % at
        replay_range(world, OffsetRange(partition, start, min(at, start + 1 + number % 130)))


def replay_range(world: World, item: OffsetRange, config: DrainConfig = CONFIG) -> None:
    chosen = plan_replay(world.log, world.ledger, "iot_data", [item])
    replay(chosen.plan, world.ports(), world.proof(), Run("replay", writer_id(99)), config)


@given(twins(), st.lists(steps(), max_size=6))
def test_whatever_is_drained_killed_and_replayed_one_whole_row_remains(world, order):
    for kind, number, partition in order:
        take_step(world, kind, number, partition)
    world.drain()
    check(world)
    for partition in range(PARTITIONS):
        if world.log.end(partition):
            replay_range(world, OffsetRange(partition, 0, world.log.end(partition)))
    check(world)
    world.check_all_is_drained()


def test_a_range_that_ended_between_two_records_of_one_write_time_keeps_the_first():
    for cut, how in product((1, APART), (None, How.CRASH_BEFORE, How.CRASH_AFTER)):
        world = World()
        world.write(0, "d", T0, 90.0, 1.0)
        for _ in range(APART - 1):
            world.log.append_hole(0)
        world.write(0, "d", T0, 1.0, 90.0)
        plan = world.plan(offsets=[OffsetRange(0, 0, cut)])
        # Cut off after the row was written, before the checkpoint moved: drained again, longer.
        with suppress(Crash):
            world.drain(plan, Faults(1, how, only="ledger.send_commit") if how else None)
        assert world.store.rows() == {("d", int(T0 * 1000)): (90.0, 1.0)}
        world.drain()
        assert world.store.rows() == {("d", int(T0 * 1000)): (90.0, 1.0)}
        world.check_all_is_drained()


def test_what_was_never_ingested_does_not_compete():
    # First contact starts inside a millisecond: the record before it made no row.
    world = World()
    world.write(0, "d", T0, 1.0, 1.0)
    for _ in range(APART - 1):
        world.log.append_hole(0)
    world.plan(start_at="latest")
    world.write(0, "d", T0, 2.0, 2.0)
    progress = world.drain(world.plan())
    assert progress.total.stored == 1
    assert list(world.store.rows().values()) == [(2.0, 2.0)]


def test_a_replay_by_other_rules_leaves_the_row_that_has_the_write_time():
    # The first record was no reading then and is one now; the other has made its row.
    world = World()
    world.write(0, "d", T0, 120.0, 50.0)
    for _ in range(APART - 1):
        world.log.append_hole(0)
    world.write(0, "d", T0, 20.0, 60.0)
    strict = DrainConfig(
        rules=ReadingRules(limited_seed(temperature={"greatest": 100.0})),
        micro_batch_records=4,
        retry_seconds=60.0,
    )
    world.drain(config=strict)
    for start, end in ((0, 1), (0, 63), (62, 63)):
        replay_range(world, OffsetRange(0, start, end))
        assert list(world.store.rows().values()) == [(20.0, 60.0)]
