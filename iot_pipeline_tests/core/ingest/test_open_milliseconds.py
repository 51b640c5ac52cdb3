"""Records of a millisecond meet: those that were held, and those that an earlier run settled."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.micro_batch import MicroBatchBuilder
from iot_pipeline.core.ingest.open_milliseconds import OpenMilliseconds
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline_tests.core.ingest.micro_batches import (
    PRODUCED_MS,
    T0,
    add,
    build,
    ends_of,
    expected_winners,
    interleave,
    key_of,
    logs,
    record,
    rows_of,
)


def pass_closed(waiting, poll):
    (chunk,) = chunk_records(poll)
    return [item for closed in waiting.pass_closed(chunk) for item in closed]


def release(waiting, partition):
    return [item for chunk in waiting.release(partition) for item in chunk]


@given(logs(), st.randoms(use_true_random=False), st.data())
def test_records_from_before_the_start_compete_and_are_not_counted(log, order, data):
    starts = {p: data.draw(st.integers(start, end)) for p, (start, end, _) in log.items()}
    records = interleave(log, order)
    builder = MicroBatchBuilder(dict(starts), ReadingDecoder(ReadingRules()))
    for chunk in chunk_records([r for r in records if r.offset < starts[r.partition]]):
        builder.compete(chunk)
    own = [r for r in records if r.offset >= starts[r.partition]]
    add(builder, own)
    batch = builder.build(ends_of(log))
    winners = expected_winners(records)
    assert rows_of(batch) == {
        key: (item.partition, item.offset) for key, item in winners.items() if item in own
    }
    for partition, counts in batch.counts.items():
        mine = [r for r in own if r.partition == partition]
        assert counts.accounted == log[partition][1] - starts[partition]
        assert counts.rejected == sum(key_of(r) is None for r in mine)
        assert counts.stored == sum(place[0] == partition for place in rows_of(batch).values())
        assert sum(counts.stored_by_day.values()) == counts.stored
        losers = [r for r in mine if key_of(r) is not None and winners[key_of(r)] is not r]
        repeats = [r for r in losers if r.value == winners[key_of(r)].value]
        assert counts.repeated == len(repeats), "equal to the row, whatever it lost to first"
        assert counts.superseded == len(losers) - len(repeats)
    assert all(letter.record in own for letter in batch.dead_letters)


@st.composite
def arrivals(draw):
    """Polls of one to three partitions, broker milliseconds never going back."""
    ms = defaultdict(lambda: PRODUCED_MS)
    offset = Counter()
    polls = []
    for _ in range(draw(st.integers(1, 15))):
        partition = draw(st.integers(0, 2))
        poll = []
        for _ in range(draw(st.integers(1, 6))):
            ms[partition] += draw(st.sampled_from([0, 0, 1, 5]))
            offset[partition] += draw(st.sampled_from([1, 1, 3]))
            poll.append(record(partition, offset[partition], ms[partition]))
        polls.append(poll)
    return polls


@given(arrivals())
def test_records_are_held_until_their_millisecond_is_closed_and_none_is_lost_or_reordered(polls):
    waiting = OpenMilliseconds()
    passed, arrived = defaultdict(list), defaultdict(list)
    for poll in polls:
        partition = poll[0].partition
        arrived[partition] += poll
        out = pass_closed(waiting, poll)
        passed[partition] += out
        newest = poll[-1].produced_ms
        # What is given out is closed: a later record of the partition was seen.
        assert all(item.produced_ms < newest for item in out)
        # What is held is exactly the newest millisecond, whole.
        held = arrived[partition][len(passed[partition]) :]
        assert held
        assert {item.produced_ms for item in held} == {newest}
        assert waiting.held(partition) == len(held)
        assert waiting.next_offsets()[partition] == held[0].offset
    assert waiting.total == sum(waiting.held(partition) for partition in arrived)
    assert waiting.total_bytes == sum(
        item.size_bytes for p in arrived for item in arrived[p][len(passed[p]) :]
    )
    for partition in arrived:
        assert passed[partition] + release(waiting, partition) == arrived[partition]
    assert waiting.total == 0
    assert waiting.total_bytes == 0
    assert waiting.next_offsets() == {}


def test_a_clock_that_steps_back_loses_and_reorders_nothing():
    waiting = OpenMilliseconds()
    polls = [
        [record(0, 0, 5), record(0, 1, 5)],
        [record(0, 2, 4)],
        [record(0, 3, 5), record(0, 4, 3), record(0, 5, 5)],
    ]
    out = [item.offset for poll in polls for item in pass_closed(waiting, poll)]
    assert out + [item.offset for item in release(waiting, 0)] == [0, 1, 2, 3, 4, 5]


def test_releasing_what_is_not_held_gives_nothing():
    assert OpenMilliseconds().release(3) == []


@given(arrivals(), st.sets(st.integers(0, 14)))
def test_what_was_released_competes_with_the_rest_of_its_millisecond_and_with_no_other(polls, cuts):
    waiting = OpenMilliseconds()
    released = defaultdict(list)

    def check(part):
        rivals = [item for rival in waiting.rivals_of(part) for item in rival]
        begins_in = part.produced_ms[0]
        assert rivals == [r for r in released[part.partition] if r.produced_ms == begins_in]

    for number, poll in enumerate(polls):
        (chunk,) = chunk_records(poll)
        for part in waiting.pass_closed(chunk):
            check(part)
        if number in cuts:
            for part in waiting.release(chunk.partition):
                check(part)
                waiting.settle(part)
                released[part.partition] += list(part)


def test_what_an_earlier_run_settled_competes_until_its_millisecond_is_over():
    settled = chunk_records([record(0, 4, 7), record(0, 5, 7), record(1, 0, 9)])
    waiting = OpenMilliseconds(settled)
    same, later = chunk_records([record(0, 6, 7)]) + chunk_records([record(0, 7, 8)])
    assert waiting.rivals_of(same) == settled[:1]
    assert waiting.rivals_of(later) == []
    assert waiting.rivals_of(same) == []


def test_what_was_released_is_forgotten_when_it_is_too_much():
    waiting = OpenMilliseconds()
    assert not waiting.forget(0, 0)
    pass_closed(waiting, [record(0, 0, 7)])
    (released,) = waiting.release(0)
    waiting.settle(released)
    assert not waiting.forget(0, released.size_bytes)
    assert waiting.forget(0, released.size_bytes - 1)
    assert waiting.rivals_of(released) == []


@pytest.mark.parametrize("offset", [0, 5])
def test_the_micro_batch_ends_before_what_is_held_and_the_next_begins_there(offset):
    waiting = OpenMilliseconds()
    first = pass_closed(waiting, [record(0, offset, 1), record(0, offset + 2, 2, at=T0 + 1)])
    batch = build({0: offset}, waiting.next_offsets(), first)
    assert batch.ends == {0: offset + 2}
    assert batch.counts[0].holes == 1
    rest = build(batch.ends, {0: offset + 3}, release(waiting, 0))
    assert rest.counts[0].holes == 0
    assert rest.counts[0].stored == 1
