import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.offsets import (
    Checkpoint,
    OffsetRange,
    PartitionState,
    check_checkpoint_id,
    check_moved_forward,
    join_ranges,
    parse_range,
    subtract_ranges,
)
from iot_pipeline.errors import (
    CheckpointWentBackError,
    ConfigurationError,
    TopicChangedError,
)
from iot_pipeline_tests.core.reading.ranges import offsets_in, ranges_of_offsets


def state(partition: int, low: int, checkpoint: int | None, last_stable: int) -> PartitionState:
    return PartitionState("iot_data", partition, low, last_stable, checkpoint)


def test_lag_counts_from_the_low_watermark_where_nothing_was_ingested():
    assert state(0, 10, None, 30).lag == 20
    assert state(0, 10, 25, 30).lag == 5
    assert state(0, 10, 5, 30).lag == 20
    assert state(0, 10, 40, 30).lag == 0


def test_a_recreated_topic_is_refused_by_name_with_what_to_do():
    checkpoint = Checkpoint(1, 77, 0, "old-id")
    check_checkpoint_id("iot_data", checkpoint, "old-id")
    with pytest.raises(TopicChangedError, match=r"iot rebase --topic-id new-id"):
        check_checkpoint_id("iot_data", checkpoint, "new-id")


def test_a_checkpoint_that_went_back_or_away_is_refused():
    check_moved_forward("iot_data", 0, 10, 10)
    check_moved_forward("iot_data", 0, 11, 10)
    with pytest.raises(CheckpointWentBackError, match="at 9, expected 10"):
        check_moved_forward("iot_data", 0, 9, 10)
    with pytest.raises(CheckpointWentBackError, match="gone, expected 10"):
        check_moved_forward("iot_data", 0, None, 10)


@given(st.integers(0, 99), st.integers(0, 10**15), st.integers(1, 10**6))
def test_a_range_is_read_as_it_is_written(partition, start, span):
    offset_range = OffsetRange(partition, start, start + span)
    assert parse_range(str(offset_range)) == offset_range
    assert parse_range(f"  {offset_range} ") == offset_range


@pytest.mark.parametrize(
    "text", ["", "0", "0:1", "0:1-", "0:-1-5", "a:1-2", "0:1-2,1:1-2", "0:5-5", "0:5-4", "0: 1-2"]
)
def test_anything_else_is_no_range(text):
    with pytest.raises(ConfigurationError, match="--offsets"):
        parse_range(text)


@given(ranges_of_offsets)
def test_joined_ranges_hold_the_same_offsets_each_once(ranges):
    joined = join_ranges(ranges)
    assert offsets_in(joined) == sorted(set(offsets_in(ranges)))
    assert join_ranges(joined) == joined
    for before, after in itertools.pairwise(joined):
        assert before.partition < after.partition or before.end < after.start


offset_ranges = st.lists(
    st.builds(
        lambda partition, start, span: OffsetRange(partition, start, start + span),
        st.integers(0, 2),
        st.integers(0, 30),
        st.integers(1, 10),
    ),
    max_size=6,
)


@given(offset_ranges, offset_ranges)
def test_subtracting_ranges_leaves_exactly_the_offsets_that_are_in_none(ranges, taken):
    def offsets(items):
        return {(item.partition, at) for item in items for at in range(item.start, item.end)}

    left = subtract_ranges(ranges, taken)
    assert offsets(left) == offsets(ranges) - offsets(taken)
    assert sum(item.span for item in left) == len(offsets(left))
