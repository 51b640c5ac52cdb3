import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.plan import plan_offsets, split_at_checkpoint
from iot_pipeline.core.reading.offsets import (
    OffsetRange,
    PartitionState,
    join_ranges,
)
from iot_pipeline.errors import (
    OffsetsExpiredError,
    PlanError,
    TopicChangedError,
)
from iot_pipeline_tests.core.reading.ranges import offsets_in, ranges_of_offsets


def state(partition: int, low: int, checkpoint: int | None, last_stable: int) -> PartitionState:
    return PartitionState("iot_data", partition, low, last_stable, checkpoint)


@st.composite
def healthy_states(draw):
    """Partitions with low <= checkpoint <= last stable, small enough to enumerate offsets."""
    states = []
    for partition in range(draw(st.integers(1, 8))):
        low = draw(st.integers(0, 1000))
        checkpoint = low + draw(st.integers(0, 50))
        states.append(state(partition, low, checkpoint, checkpoint + draw(st.integers(0, 200))))
    return states


budgets = st.integers(1, 2000)


@given(healthy_states())
def test_a_plan_without_a_budget_is_all_that_lags(states):
    ranges = plan_offsets(states)
    assert ranges == sorted(ranges)
    assert {item.partition: (item.start, item.end) for item in ranges} == {
        s.partition: (s.checkpoint, s.last_stable) for s in states if s.lag
    }


@given(healthy_states(), budgets)
def test_plans_one_after_another_tile_the_log_without_hole_or_overlap(states, budget):
    reached = {s.partition: s.checkpoint for s in states}
    while ranges := plan_offsets(
        [state(s.partition, s.low, reached[s.partition], s.last_stable) for s in states],
        budget,
    ):
        for item in ranges:
            assert item.start == reached[item.partition]
            reached[item.partition] = item.end
    assert reached == {s.partition: s.last_stable for s in states}


@given(healthy_states(), budgets)
def test_a_plan_stays_in_its_budget_and_uses_all_of_it(states, budget):
    ranges = plan_offsets(states, budget)
    assert all(item.span > 0 for item in ranges)
    assert sum(item.span for item in ranges) == min(budget, sum(s.lag for s in states))


@given(healthy_states(), budgets)
def test_a_plan_serves_lagging_partitions_evenly(states, budget):
    given_to = {item.partition: item.span for item in plan_offsets(states, budget)}
    most = max(given_to.values(), default=0)
    for s in states:
        got = given_to.get(s.partition, 0)
        # Who got less than another either needed no more, or an offset did not divide.
        assert got == s.lag or got >= most - 1


def test_a_remainder_goes_to_somebody_even_when_it_is_smaller_than_the_partitions():
    states = [state(p, 0, 0, 10) for p in range(3)]
    assert [item.span for item in plan_offsets(states, 1)] == [1]
    assert [item.span for item in plan_offsets(states, 5)] == [1, 2, 2]


def test_records_deleted_unread_stop_the_plan():
    with pytest.raises(OffsetsExpiredError) as raised:
        plan_offsets([state(1, 0, 0, 5), state(0, 120, 100, 200)])
    words = str(raised.value)
    assert "iot_data[0]: checkpoint 100 is below the low watermark 120, up to 20 records" in words
    assert "iot_data[1]" not in words
    assert "retention.ms" in words


def test_records_expired_from_an_empty_log_stop_the_plan_too():
    with pytest.raises(OffsetsExpiredError):
        plan_offsets([state(0, 200, 100, 200)])


def test_a_truncated_log_stops_the_plan():
    with pytest.raises(TopicChangedError, match="checkpoint 100 is above the end of the log 99"):
        plan_offsets([state(0, 0, 100, 99)])


def test_a_partition_without_a_checkpoint_cannot_be_planned():
    with pytest.raises(PlanError, match=r"iot_data\[2\]"):
        plan_offsets([state(2, 0, None, 10)])


@given(ranges_of_offsets, st.integers(0, 90), st.integers(0, 90))
def test_ranges_split_at_the_checkpoint_lose_nothing_and_skip_nothing(ranges, one, other):
    states = [state(p, 0, (one + p) % 90, 90) for p in range(4)]
    checkpoints = {s.partition: s.checkpoint for s in states}
    skips = any(item.start > checkpoints[item.partition] for item in join_ranges(ranges))
    if skips:
        with pytest.raises(PlanError, match="would skip"):
            split_at_checkpoint("iot_data", ranges, states)
        return
    replay, ingest = split_at_checkpoint("iot_data", ranges, states)
    assert sorted(offsets_in(replay) + offsets_in(ingest)) == sorted(set(offsets_in(ranges)))
    assert all(item.end <= checkpoints[item.partition] for item in replay)
    assert all(item.start == checkpoints[item.partition] for item in ingest)
    assert len({item.partition for item in ingest}) == len(ingest)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (OffsetRange(5, 0, 1), "no partition 5"),
        (OffsetRange(0, 10, 101), "the log ends at 100"),
        (OffsetRange(0, 4, 20), "Kafka has deleted 4 to 4; what is left starts at 5"),
        (OffsetRange(0, 1, 3), "Kafka has deleted 1 to 2"),
        (OffsetRange(0, 51, 60), "starting at 51 would skip 1 offset. Drain 0:50-60 instead"),
    ],
)
def test_ranges_that_cannot_be_drained_are_refused_in_words(wanted, words):
    with pytest.raises(PlanError) as raised:
        split_at_checkpoint("iot_data", [wanted], [state(0, 5, 50, 100)])
    assert words in str(raised.value)


def test_without_a_checkpoint_a_range_starts_at_the_low_watermark():
    assert split_at_checkpoint("t", [OffsetRange(0, 5, 9)], [state(0, 5, None, 10)]) == (
        [],
        [OffsetRange(0, 5, 9)],
    )


def test_ranges_asked_for_that_expired_unread_are_a_loss_and_not_a_wrong_question():
    states = [PartitionState("t", 0, 150, 200, 100)]
    for end in (120, 150, 180):
        with pytest.raises(OffsetsExpiredError, match="100 to 149"):
            split_at_checkpoint("t", [OffsetRange(0, 100, end)], states)
    with pytest.raises(PlanError, match="Kafka has deleted 10 to 19"):
        split_at_checkpoint("t", [OffsetRange(0, 10, 20)], states)
