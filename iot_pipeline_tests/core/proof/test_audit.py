"""The audit's reading of raw messages: many at once, and what each partition skipped."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.row_sums import RowSums
from iot_pipeline.core.proof.seen import Seen
from iot_pipeline.core.proof.stretches import RawRecords, Stretch, rows_in
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules, Rejection
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline_tests.load import reading_json

RULES = ReadingRules()
SECONDS = 1_735_444_918.25
# A few devices and seconds around midnight, so that keys meet; some are no readings.
VALUES = st.one_of(
    st.builds(
        reading_json,
        st.sampled_from(["a", "b", "c\u0000", ""]),
        st.sampled_from([SECONDS, SECONDS + 1, SECONDS + 86_400, 1e12]),
        st.sampled_from([0.0, 20.5, 150.0, 150.1]),
        st.sampled_from([0.0, 100.0, -0.1]),
    ),
    st.builds(reading_json, st.just("a"), st.floats(SECONDS, SECONDS + 9)),
    st.sampled_from([None, b"", b"{", b"\xff", b"x" * 70_000, b'{"device_id":"a"}']),
    st.just(reading_json("a", SECONDS)[:-1] + b',"battery":1}'),
)


def records_of(values: list[bytes | None], partitions: int = 2) -> RawRecords:
    """Offsets 0, 1, ... of each partition in turn, a millisecond for every three of them."""
    places = range(len(values))
    return RawRecords(
        [at % partitions for at in places],
        [at // partitions for at in places],
        [1_800_000_000_000 + at // 3 for at in places],
        values,
    )


@given(st.lists(VALUES, max_size=30), st.integers(1, 10))
def test_many_messages_at_once_are_what_they_are_one_by_one(values, size):
    decoder = ReadingDecoder(RULES)
    stretch = Stretch(LogReader(RULES))
    whole = records_of(values)
    for at in range(0, len(values), size):
        stretch.add(whole.where(at <= place < at + size for place in range(len(values))))
    expected, rejected = {}, []
    for partition, offset, produced_ms, value in zip(
        whole.partitions, whole.offsets, whole.produced_ms, values, strict=True
    ):
        reading = decoder.decode(value)
        if isinstance(reading, Rejection):
            rejected.append((partition, offset))
            continue
        ms = timestamp_ms(reading.timestamp)
        rows = expected.setdefault((reading.device_id, ms // MS_PER_DAY), {}).setdefault(ms, [])
        written_us = produced_ms * 1000 + offset % 62 * 16 + partition % 16
        rows.append((written_us, offset, partition, reading.temperature, reading.humidity))
    found = {
        place: {ms: list(rows_in(rows)) for ms, rows in group.items()}
        for place, group in stretch.groups.items()
    }
    assert found == expected
    assert stretch.rejected == rejected
    assert stretch.records == len(values)


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_messages_are_plain_together_only_when_each_is_a_reading(values):
    one_by_one = [ReadingDecoder(RULES).decode(value) for value in values]
    together = LogReader(RULES).read_all(values)
    if together is not None:
        assert together == one_by_one
    elif not any(isinstance(found, Rejection) for found in one_by_one):
        assert any(value is not None and b"battery" in value for value in values)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=40),
    st.integers(1, 9),
)
def test_offsets_that_were_jumped_are_named_whichever_partition_and_poll(steps, size):
    reached = dict.fromkeys(range(3), 5)
    offsets, jumped = [], []
    for partition, step in steps:
        if step > 1:
            start = reached[partition]
            jumped.append(OffsetRange(partition, start, start + step - 1))
        reached[partition] += step
        offsets.append((partition, reached[partition] - 1))
    seen = Seen(dict.fromkeys(range(3), 5))
    for at in range(0, len(offsets), size):
        part = offsets[at : at + size]
        times = [100 + at + number for number in range(len(part))]
        seen.take(RawRecords([p for p, _ in part], [o for _, o in part], times, [b""] * len(part)))
    assert seen.expected == reached

    def by_place(item: OffsetRange) -> tuple[int, int]:
        return item.partition, item.start

    assert sorted(seen.jumped, key=by_place) == sorted(jumped, key=by_place)
    for partition, found in groupby(
        sorted((p, 100 + at) for at, (p, _) in enumerate(offsets)), key=lambda item: item[0]
    ):
        times = [ms for _, ms in found]
        assert (seen.first_ms[partition], seen.last_ms[partition]) == (times[0], times[-1])


def test_sums_tell_a_row_more_from_a_row_less_and_wrap_as_cassandras_do():
    mine, theirs = RowSums(2), RowSums(2)
    place, other = ("a", 20_000), ("b", 20_000)
    huge = 2**63 + 5
    mine.add(place, 3, huge, huge)
    mine.add(place, 1, huge, huge)
    theirs.add(place, 4, 2 * huge % 2**64, 2 * huge % 2**64)
    assert mine.differing(theirs) == set()
    theirs.add(other, 1, 7, 7)
    assert mine.differing(theirs) == {RowSums.bucket_of(other)}
    mine.add(other, 1, 7, 8)
    assert mine.differing(theirs) == {RowSums.bucket_of(other)}, "each cell has a sum of its own"
    assert mine.differing(theirs, [RowSums.bucket_of(place)]) == set()
