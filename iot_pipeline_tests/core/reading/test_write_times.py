"""A write time names its record, and says who wins."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.write_times import (
    Row,
    arrived_ms,
    first_us,
    rank,
    winner_of,
    write_time_us,
    write_times_of_partition,
    write_times_us,
)

MS = 1_735_444_918_316
milliseconds = st.integers(0, 2 * MS)
offsets = st.integers(0, 2**62)
partitions = st.integers(0, 5_000)


def test_the_digits_of_a_write_time_are_those_of_the_offset_and_the_partition() -> None:
    assert write_time_us(MS, 0, 0) == MS * 1000
    assert write_time_us(MS, 3, 2) == MS * 1000 + 50
    assert write_time_us(MS, 61, 15) == MS * 1000 + 991
    assert write_time_us(MS, 62, 16) == MS * 1000


@given(milliseconds, offsets, partitions)
def test_a_write_time_lies_in_its_millisecond_below_the_digits_of_no_record(
    ms: int, offset: int, partition: int
) -> None:
    written_us = write_time_us(ms, offset, partition)
    assert arrived_ms(written_us) == ms
    assert first_us(ms) <= written_us < ms * 1000 + 992


@given(
    st.sets(st.integers(0, 200)) | st.integers(0, 200).map(lambda count: set(range(count))),
    offsets,
    partitions,
)
def test_the_ways_to_ask_for_many_at_once_say_the_same(
    places: set[int], first: int, partition: int
) -> None:
    records = [first + place for place in sorted(places)]
    stamps = [MS + offset % 3 for offset in records]
    one_by_one = [
        write_time_us(ms, offset, partition) for ms, offset in zip(stamps, records, strict=True)
    ]
    columns = np.array(stamps, np.int64), np.array(records, np.int64)
    assert write_times_of_partition(*columns, partition).tolist() == one_by_one
    assert write_times_us(stamps, records, [partition] * len(records)) == one_by_one


@given(offsets, st.integers(1, 61), st.integers(0, 15), st.integers(0, 15))
def test_neighbours_and_up_to_sixteen_partitions_never_tie(
    offset: int, apart: int, one: int, other: int
) -> None:
    assert write_time_us(MS, offset, one) != write_time_us(MS, offset + apart, one)
    if one != other:
        assert write_time_us(MS, offset, one) != write_time_us(MS, offset + apart, other)


rows = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))


@given(st.lists(rows, min_size=1, unique=True), st.randoms(use_true_random=False))
def test_the_winner_is_the_highest_write_time_then_the_first_record(places, random) -> None:
    made: list[Row] = [(*place, 1.0, 2.0) for place in places]
    shuffled = random.sample(made, len(made))
    best = winner_of(shuffled)
    assert best == winner_of(made)
    assert best[0] == max(row[0] for row in made)
    assert best[1:3] == min(row[1:3] for row in made if row[0] == best[0])
    assert all(rank(best) <= rank(row) for row in made)
