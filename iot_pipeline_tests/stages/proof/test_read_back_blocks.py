from random import Random

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.proof.trace import choose_blocks

partitions = st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 100_000)), max_size=6)


def ranges_of(items):
    return [OffsetRange(p, start, start + span) for p, (start, span) in enumerate(items)]


@given(partitions, st.integers(1, 20_000), st.integers(0, 99))
def test_blocks_lie_apart_inside_their_ranges_and_are_few_enough(items, most, seed):
    ranges = ranges_of(items)
    blocks = choose_blocks(ranges, most, Random(seed))
    offsets = sum(item.span for item in blocks)
    # A range has at least one offset read of each of its three parts.
    assert offsets <= max(most, 3 * len(ranges))
    ends = {}
    for block in blocks:
        own = ranges[block.partition]
        assert own.start <= block.start < block.end <= own.end
        assert block.start >= ends.get(block.partition, 0)
        ends[block.partition] = block.end
    assert {block.partition for block in blocks} == {item.partition for item in ranges}


@given(partitions, st.integers(0, 99))
def test_small_runs_are_read_whole_and_the_same_seed_chooses_the_same_blocks(items, seed):
    ranges = ranges_of(items)
    span = sum(item.span for item in ranges)
    assert choose_blocks(ranges, span, Random(seed)) == ranges
    chosen = [choose_blocks(ranges, 1_000, Random(seed)) for _ in range(2)]
    assert chosen[0] == chosen[1]
