import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import RowState
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import (
    CassandraUnavailableError,
    PipelineError,
    PlanError,
    TopicChangedError,
)
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof import read_back as read_back_stage
from iot_pipeline.stages.proof.replay import plan_replay, ranges_of_run, replay
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.reading import log as log_stage
from iot_pipeline.stages.reading.log import read_millisecond_before
from iot_pipeline_tests.stages.fake_rows import FakeSensorData
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.world import CONFIG, T0, World

FAR = 2**62


def replay_ranges(world, *ranges, rows=None, deletions=(), **options) -> ReplayProgress:
    chosen = plan_replay(world.log, world.ledger, world.log.topic, ranges)
    progress = ReplayProgress(chosen.plan.replay, chosen.gone)
    return replay(
        chosen.plan,
        world.ports(),
        world.proof(rows, deletions),
        Run("replay-1", writer_id(99)),
        CONFIG,
        progress=progress,
        **options,
    )


def a_drained_world(messages=30, per_ms=3, partitions=1, keys=4) -> World:
    world = World(partitions=partitions)
    for number in range(messages):
        if number % per_ms == 0:
            world.log.tick()
        world.write(number % partitions, f"d{number % keys}", T0 + number % 5, float(number))
    world.drain()
    return world


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=40),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_a_replay_of_any_range_makes_identical_cells(messages, one_end, other_end):
    world = World()
    for value, (device, second, moves_on) in enumerate(messages):
        if moves_on:
            world.log.tick()
        world.write(0, f"d{device}", T0 + second, float(value))
    world.drain()
    before = copy.deepcopy(world.store.cells)
    checkpoints = world.ledger.read_checkpoints(world.log.topic, [0])
    start, end = sorted((min(one_end, len(messages)), min(other_end, len(messages))))
    if start == end:
        return
    progress = replay_ranges(world, OffsetRange(0, start, end))
    assert world.store.cells == before
    assert world.ledger.read_checkpoints(world.log.topic, [0]) == checkpoints
    assert progress.counts.accounted == end - start == progress.done_offsets
    # Winners are settled with the neighbours, so what was written is there or lost to later ones.
    assert set(progress.read_back.states) <= {RowState.EQUAL, RowState.NEWER}


def test_a_missing_row_is_restored():
    world = a_drained_world()
    whole = copy.deepcopy(world.store.cells)
    world.store.cells.pop(next(iter(world.store.cells)))
    progress = replay_ranges(world, OffsetRange(0, 0, 30))
    assert world.store.cells == whole
    assert progress.read_back.states[RowState.MISSING] == 0


def test_a_replay_writes_only_its_own_winners_when_a_neighbour_shares_the_millisecond():
    world = World()
    world.write(0, "d", T0, 1.0)
    for _ in range(998):
        world.write(0, "other", T0, 5.0)
    world.log.tick(0)
    world.write(0, "d", T0, 0.5, 99.0)  # the same millisecond: it wins, though its value is smaller
    world.drain()
    world.store.sent_rows.clear()
    progress = replay_ranges(world, OffsetRange(0, 0, 1))
    assert world.store.sent_rows == []
    assert (progress.counts.stored, progress.counts.superseded) == (0, 1)


def test_a_replay_is_recorded_with_its_ranges_and_adds_no_rows_to_the_ledger():
    world = a_drained_world(partitions=2)
    progress = replay_ranges(world, OffsetRange(0, 2, 9), OffsetRange(1, 0, 4))
    assert progress.achieved == [OffsetRange(0, 2, 9), OffsetRange(1, 0, 4)]
    _, _, run_id, ranges, counts = world.ledger.replays[-1]
    assert (run_id, list(ranges)) == ("replay-1", progress.achieved)
    assert counts.accounted == 11
    assert counts.stored_by_day == {}


def test_two_ranges_of_one_partition_are_replayed_one_after_the_other():
    world = a_drained_world()
    progress = replay_ranges(world, OffsetRange(0, 0, 3), OffsetRange(0, 20, 24))
    assert progress.achieved == [OffsetRange(0, 0, 3), OffsetRange(0, 20, 24)]
    assert progress.counts.accounted == 7


def test_rejected_records_are_counted_and_not_sent_again():
    world = World()
    world.write(0, "d", T0, 1.0)
    world.write_bad()
    world.log.append_hole(0)
    world.drain()
    sent = len(world.letters.by_place())
    world.letters.journal.clear()
    progress = replay_ranges(world, OffsetRange(0, 0, 3))
    assert (progress.counts.stored, progress.counts.rejected, progress.counts.holes) == (1, 1, 1)
    assert len(world.letters.by_place()) == sent == 1
    assert not [event for event, _ in world.journal if event == "letters"]


def test_what_kafka_has_deleted_is_named_and_the_rest_is_replayed():
    world = a_drained_world()
    world.log.delete_before(0, 12)
    progress = replay_ranges(world, OffsetRange(0, 5, 20))
    assert progress.gone == [OffsetRange(0, 5, 12)]
    assert progress.achieved == [OffsetRange(0, 12, 20)]


def test_offsets_above_the_checkpoint_are_not_replayed():
    world = a_drained_world()
    world.write(0, "d", T0, 1.0)
    with pytest.raises(PlanError, match=r"offsets from 30 on were not ingested.*iot drain"):
        plan_replay(world.log, world.ledger, world.log.topic, [OffsetRange(0, 20, 31)])


def test_a_recreated_topic_stops_a_replay_before_any_row_is_written():
    world = a_drained_world()
    chosen = plan_replay(world.log, world.ledger, world.log.topic, [OffsetRange(0, 0, 30)])
    world.store.sent_rows.clear()
    world.log.recreate()
    for number in range(30):
        world.write(0, "stranger", T0 + number, 1.0)
    run = Run("replay-1", writer_id(99))
    with pytest.raises(TopicChangedError):
        replay(chosen.plan, world.ports(), world.proof(), run, CONFIG)
    assert world.store.sent_rows == []


def test_readings_that_were_deleted_on_purpose_stay_deleted():
    world = a_drained_world(messages=5, keys=5)
    ms = timestamp_ms(T0 + 3)
    place = next(place for place in world.store.cells if place[2] == ms)
    del world.store.cells[place]
    deleted = [Deletion(place[0], ms, ms + 1, FAR, "wrong sensor")]
    progress = replay_ranges(world, OffsetRange(0, 0, 5), deletions=deleted)
    assert place not in world.store.cells
    assert (progress.deleted, progress.counts.stored, progress.counts.accounted) == (1, 4, 5)


def test_a_row_that_did_not_take_is_named_with_its_reason():
    world = a_drained_world(messages=3, keys=3)
    place = next(iter(world.store.cells))
    for column in world.store.cells[place]:
        world.store.cells[place][column] = (FAR, 1.0)
    progress = replay_ranges(world, OffsetRange(0, 0, 3))
    (finding,) = progress.read_back.named
    assert finding.state is RowState.NEWER
    assert f"{place[0]} at {place[2]} ms" in str(finding)
    assert "later write won" in str(finding)


def test_the_ranges_of_a_run_are_those_in_the_ledger():
    world = a_drained_world(partitions=2)
    entry = world.ledger.read_entries(world.log.topic, [0, 1])[0]
    ranges = ranges_of_run(world.ledger, world.log.topic, [0, 1], entry.run_id)
    assert OffsetRange(entry.partition, entry.start_offset, entry.end_offset) in ranges
    with pytest.raises(PlanError, match="--offsets"):
        ranges_of_run(world.ledger, world.log.topic, [0, 1], "nobody")


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=3),
    st.data(),
)
def test_the_millisecond_before_a_range_is_read_whole_and_no_further(partitions, data):
    world = World(partitions=len(partitions))
    written, ranges, known_from = {}, [], {}
    for partition, steps in enumerate(partitions):
        written[partition] = []
        for step in steps:
            world.log.tick(step)
            written[partition].append(world.write(partition, "d", T0, 1.0))
        start = data.draw(st.integers(0, len(steps)))
        ranges.append(OffsetRange(partition, start, len(steps)))
        known_from[partition] = data.draw(st.integers(0, start))
    expected = [
        record
        for item in ranges
        for record in written[item.partition][known_from[item.partition] : item.start]
        if record.produced_ms == written[item.partition][item.start - 1].produced_ms
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_stage, "_FIRST_LOOK", 2)
        chunks = read_millisecond_before(world.log, world.log.topic, ranges, known_from, 1.0)
    assert [record for chunk in chunks for record in chunk] == expected
    assert world.log.open_sources == 0


def test_what_kafka_deletes_while_it_is_looked_for_is_known_no_more():
    world = World()
    for _ in range(4):
        world.write(0, "d", T0, 1.0)
    opened = world.log.open_ranges

    def open_ranges(topic, ranges):
        source = opened(topic, ranges)
        world.log.delete_before(0, 2)
        return source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(world.log), "open_ranges", lambda self, *a: open_ranges(*a))
        (chunk,) = read_millisecond_before(
            world.log, world.log.topic, [OffsetRange(0, 3, 4)], {0: 0}, 1.0
        )
    assert list(chunk.offsets) == [2]


def test_rows_among_many_others_are_asked_for_one_by_one():
    world = World()
    for second in range(200):
        world.write(0, "d", T0 + second, 1.0)
    world.drain()
    reader = FakeSensorData(world.store)
    ends = [timestamp_ms(T0), timestamp_ms(T0 + 199)]
    place = ("d", ends[0] // 86_400_000)
    ((got, times, found),) = read_back_stage.fetch_rows(reader, [(place, ends)], 1.0)
    assert (got, list(times), sorted(found)) == (place, ends, ends)
    assert (reader.asked["range"], reader.asked["times"]) == (1, 1)


def test_reads_that_fail_together_wait_once(monkeypatch):
    # A server that stood still fails everything on its way; a wait for each would be minutes.
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    world = a_drained_world()
    away: list[PipelineError] = [CassandraUnavailableError("stood still")]
    away *= read_back_stage.READS_IN_FLIGHT
    reader = FakeSensorData(world.store, away)
    wanted = [((f"d{number}", 20_000), [number]) for number in range(200)]
    found = [place for place, _, _ in read_back_stage.fetch_rows(reader, wanted, 0.5)]
    assert sorted(found) == sorted(place for place, _ in wanted)
    assert len(waits) == 1


def test_a_read_that_fails_is_asked_again():
    world = a_drained_world()
    reader = FakeSensorData(world.store, [CassandraUnavailableError("overloaded")] * 3)
    progress = replay_ranges(world, OffsetRange(0, 0, 30), rows=reader)
    assert progress.read_back.not_equal == progress.read_back.states[RowState.NEWER]
