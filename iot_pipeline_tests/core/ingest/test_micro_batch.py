from collections import Counter, defaultdict
from datetime import date
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.micro_batch import MicroBatchBuilder
from iot_pipeline.core.ingest.open_milliseconds import OpenMilliseconds
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.declared_times import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    timestamp_ms,
    timestamps_ms,
)
from iot_pipeline.core.reading.decoding import ReadingDecoder, encode_reading
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.messages import Reading, ReadingRules, Reason, Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.retention import Retention, RetentionByCode
from iot_pipeline.core.reading.write_times import record_of, write_time_us
from iot_pipeline.core.times import MS_PER_DAY, day_of

T0 = 1_735_444_918.0  # 2024-12-29
PRODUCED_MS = 1_735_444_920_000


def record(
    partition: int,
    offset: int,
    produced_ms: int = PRODUCED_MS,
    *,
    device: str = "d",
    at: float = T0,
    temperature: float = 20.0,
    value: bytes | None = None,
) -> Record:
    if value is None:
        value = encode_reading(Reading(device, at, temperature, 50.0))
    return Record(partition, offset, produced_ms, device.encode(), value)


def bad_record(partition: int, offset: int, produced_ms: int = PRODUCED_MS) -> Record:
    return record(partition, offset, produced_ms, value=b"not json")


def add(builder, records):
    for chunk in chunk_records(records):
        builder.add(chunk)


def pass_closed(waiting, poll):
    (chunk,) = chunk_records(poll)
    return [item for closed in waiting.pass_closed(chunk) for item in closed]


def release(waiting, partition):
    return [item for chunk in waiting.release(partition) for item in chunk]


def build(starts, ends, records, **options):
    builder = MicroBatchBuilder(dict(starts), ReadingDecoder(ReadingRules()), **options)
    add(builder, records)
    return builder.build(dict(ends))


@st.composite
def logs(draw, partitions: int = 3, length: int = 40):
    """Logs with holes, bad records, ids of no device, few keys and milliseconds: all collide."""
    log = {}
    for partition in range(draw(st.integers(1, partitions))):
        start = draw(st.integers(0, 5000))
        produced_ms = PRODUCED_MS + draw(st.integers(0, 3))
        records = []
        end = start + draw(st.integers(1, length))
        for offset in range(start, end):
            produced_ms += draw(st.sampled_from([0, 0, 0, 1, 7]))
            kind = draw(st.integers(0, 9))
            if kind == 0:
                continue  # a hole
            if kind == 1:
                records.append(bad_record(partition, offset, produced_ms))
                continue
            records.append(
                record(
                    partition,
                    offset,
                    produced_ms,
                    # Of the third only the id is wrong, and that is found last.
                    device="" if kind == 2 else draw(st.sampled_from(["a", "b"])),
                    at=T0 + draw(st.sampled_from([0.0, 0.001, 86_400.0])),
                    temperature=float(draw(st.integers(-5, 5))),
                )
            )
        log[partition] = (start, end, records)
    return log


def starts_of(log):
    return {partition: start for partition, (start, _, _) in log.items()}


def ends_of(log):
    return {partition: end for partition, (_, end, _) in log.items()}


def interleave(log, order):
    """All records, each partition's in order; `order` picks whose turn it is."""
    waiting = {partition: list(records) for partition, (_, _, records) in log.items() if records}
    result = []
    while waiting:
        partition = order.choice(sorted(waiting))
        result.append(waiting[partition].pop(0))
        if not waiting[partition]:
            del waiting[partition]
    return result


def key_of(item: Record):
    reading = ReadingDecoder(ReadingRules()).decode(item.value)
    if not isinstance(reading, Reading):
        return None
    return reading.device_id, timestamp_ms(reading.timestamp)


def expected_winners(records):
    """The oracle, as the sentence: the highest write time wins, of equal ones the first record."""
    rivals = defaultdict(list)
    for item in records:
        if key_of(item) is not None:
            rivals[key_of(item)].append(item)
    return {
        key: max(
            items,
            key=lambda r: (
                r.produced_ms * 1000 + r.offset % 62 * 16 + r.partition % 16,
                -r.offset,
                -r.partition,
            ),
        )
        for key, items in rivals.items()
    }


def rows_of(batch):
    return {
        (device, ms): record_of(row)
        for (device, _), group in batch.groups.items()
        for ms, row in group.items()
    }


@given(logs(), st.randoms(use_true_random=False), st.none() | st.integers(0, 100))
def test_every_offset_of_a_micro_batch_is_accounted_for_exactly_once(log, order, aged):
    expired_before_ms = None if aged is None else PRODUCED_MS + aged
    records = interleave(log, order)
    batch = build(starts_of(log), ends_of(log), records, expired_before_ms=expired_before_ms)
    assert batch.starts == starts_of(log)
    assert batch.ends == ends_of(log)
    for partition, (start, end, own) in log.items():
        counts = batch.counts[partition]
        assert counts.accounted == end - start
        assert counts.holes == end - start - len(own)
        assert counts.rejected == sum(key_of(item) is None for item in own)
        assert counts.aged_out == sum(
            key_of(item) is not None
            and expired_before_ms is not None
            and item.produced_ms < expired_before_ms
            for item in own
        )
        assert counts.stored == sum(place[0] == partition for place in rows_of(batch).values())
        assert sum(counts.stored_by_day.values()) == counts.stored
        assert counts.first_record_ms == (own[0].produced_ms if own else None)
        assert counts.last_record_ms == (own[-1].produced_ms if own else None)
    missing = {
        (partition, offset) for partition, (start, end, _) in log.items()
        for offset in range(start, end)
    } - {(item.partition, item.offset) for item in records}  # fmt: skip
    assert {
        (hole.partition, offset) for hole in batch.holes for offset in range(hole.start, hole.end)
    } == missing
    assert {letter.record.offset for letter in batch.dead_letters} == {
        item.offset for item in records if key_of(item) is None
    }
    assert batch.rows == sum(counts.stored for counts in batch.counts.values())
    assert batch.span == sum(counts.accounted for counts in batch.counts.values())


@given(logs(), st.randoms(use_true_random=False), st.randoms(use_true_random=False))
def test_the_winner_is_the_same_however_partitions_interleave(log, order, other_order):
    records = interleave(log, order)
    batch = build(starts_of(log), ends_of(log), records)
    assert rows_of(batch) == {
        key: (item.partition, item.offset) for key, item in expected_winners(records).items()
    }
    assert build(starts_of(log), ends_of(log), interleave(log, other_order)).counts == batch.counts


@given(logs(), st.randoms(use_true_random=False))
def test_a_row_is_whole_and_carries_the_write_time_of_its_record(log, order):
    records = interleave(log, order)
    batch = build(starts_of(log), ends_of(log), records)
    by_place = {(item.partition, item.offset): item for item in records}
    for (device, day_number), group in batch.groups.items():
        for ms, (write_time, offset, partition, temperature, humidity) in group.items():
            item = by_place[partition, offset]
            reading = ReadingDecoder(ReadingRules()).decode(item.value)
            assert isinstance(reading, Reading)
            assert (reading.device_id, reading.temperature, reading.humidity) == (
                device,
                temperature,
                humidity,
            )
            assert write_time == write_time_us(item.produced_ms, offset, partition)
            assert ms == timestamp_ms(reading.timestamp)
            assert day_number == ms // MS_PER_DAY


@given(logs(), st.randoms(use_true_random=False), st.integers(1, 10))
def test_micro_batches_one_after_another_add_up_to_the_whole(log, order, size):
    records = interleave(log, order)
    parts = [records[at : at + size] for at in range(0, len(records), size)] or [[]]
    decoder = ReadingDecoder(ReadingRules())
    at = starts_of(log)
    counted = Counter()
    for number, part in enumerate(parts, 1):
        builder = MicroBatchBuilder(dict(at), decoder)
        add(builder, part)
        reached = at | {item.partition: item.offset + 1 for item in part}
        batch = builder.build(ends_of(log) if number == len(parts) else reached)
        for partition, counts in batch.counts.items():
            counted[partition] += counts.accounted
        at |= batch.ends
    assert at == ends_of(log)
    assert counted == {partition: end - start for partition, (start, end, _) in log.items()}


def test_of_equal_write_times_the_first_record_wins_in_every_order():
    rivals = [
        record(0, 7, temperature=1.0),
        record(0, 69, temperature=2.0),
        record(16, 7, temperature=0.0),
    ]
    for order in (rivals, [rivals[2], *rivals[:2]]):
        batch = build({0: 7, 16: 7}, {0: 70, 16: 8}, order)
        assert rows_of(batch) == {("d", 1735444918000): (0, 7)}
        assert sum(counts.superseded for counts in batch.counts.values()) == 2


def test_dead_letters_are_in_the_order_of_the_log_however_partitions_interleave():
    records = [bad_record(*place) for place in ((2, 5), (0, 7), (1, 0), (0, 8), (2, 6))]
    batch = build({0: 7, 1: 0, 2: 5}, {0: 9, 1: 1, 2: 7}, records)
    places = [(item.record.partition, item.record.offset) for item in batch.dead_letters]
    assert places == [(0, 7), (0, 8), (1, 0), (2, 5), (2, 6)]


def test_a_reading_of_zero_is_a_row():
    batch = build({0: 0}, {0: 1}, [record(0, 0, temperature=0.0)])
    assert batch.counts[0].stored == 1


def test_a_reading_is_grouped_by_its_own_day_not_by_its_arrival():
    late = record(0, 0, at=T0 - 10 * 86_400)
    batch = build({0: 0}, {0: 1}, [late])
    assert batch.counts[0].stored_by_day == {date(2024, 12, 19): 1}
    assert [day_of(day) for (_, day), _ in batch.groups.items()] == [date(2024, 12, 19)]


def test_a_partition_that_did_not_move_is_not_in_the_micro_batch():
    batch = build({0: 5, 1: 9}, {0: 6, 1: 9}, [record(0, 5)])
    assert batch.starts == {0: 5}
    assert batch.ends == {0: 6}
    assert set(batch.counts) == {0}


_lives = st.sampled_from([None, 0, 3 / MS_PER_DAY, 20 / MS_PER_DAY, 1])


@given(logs(), st.randoms(use_true_random=False), _lives, _lives, st.integers(0, 40))
def test_a_record_is_aged_out_by_the_retention_of_its_device(log, order, of_all, of_a, later_ms):
    group = DeviceGroup("a", ("a",), retention_days=of_a)
    retention, now = Retention.of(of_all or 0, [group]), (PRODUCED_MS + later_ms) / 1000
    records = interleave(log, order)
    batch = build(
        starts_of(log),
        ends_of(log),
        records,
        expired_before_ms=retention.some_aged_before_ms(now),
        expired_by_code=partial(RetentionByCode(retention).aged_before_ms, now_seconds=now),
    )
    alive = []
    for partition, (_, _, own) in log.items():
        keys = [(key_of(item), item) for item in own]
        aged = [
            key is not None and item.produced_ms < retention.aged_before_ms(key[0], now)
            for key, item in keys
        ]
        assert batch.counts[partition].aged_out == sum(aged)
        alive += [item for item, is_aged in zip(own, aged, strict=True) if not is_aged]
    winners = expected_winners(alive)
    assert rows_of(batch) == {key: (r.partition, r.offset) for key, r in winners.items()}


def test_a_range_without_any_record_is_all_holes():
    batch = build({0: 5}, {0: 9}, [])
    assert batch.counts[0].holes == 4
    assert batch.holes == [OffsetRange(0, 5, 9)]


def test_an_aged_record_is_not_written_and_does_not_compete():
    old, young = record(0, 0, PRODUCED_MS), record(0, 1, PRODUCED_MS + 10, at=T0 + 1)
    batch = build({0: 0}, {0: 2}, [old, young], expired_before_ms=PRODUCED_MS + 1)
    assert batch.counts[0].aged_out == 1
    assert batch.counts[0].stored == 1
    assert list(rows_of(batch).values()) == [(0, 1)]


def test_large_rejected_messages_are_counted_in_bytes_and_readings_are_not():
    builder = MicroBatchBuilder({0: 0}, ReadingDecoder(ReadingRules()))
    add(builder, [record(0, 0)])
    assert builder.kept_bytes == 0
    add(builder, [record(0, 1, value=b"x" * 1_000_000)])
    assert builder.kept_bytes > 1_000_000


def test_cassandra_partitions_are_devices_times_days_and_no_more_than_rows():
    builder = MicroBatchBuilder({0: 0}, ReadingDecoder(ReadingRules()))
    for offset, (device, days) in enumerate([("a", 0), ("b", 0), ("a", 1), ("a", 1)]):
        add(builder, [record(0, offset, device=device, at=T0 + days * 86_400 + offset)])
    assert builder.partition_keys == 4
    add(builder, [bad_record(0, 4), record(0, 5, device="")])
    assert builder.partition_keys == 4


# Records that were settled before.


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


# Rows that Cassandra refuses.


def test_a_refused_row_is_counted_as_rejected_and_leaves_its_day():
    refused = record(0, 1, at=T0 + 86_400, device="e")
    batch = build({0: 0}, {0: 3}, [record(0, 0), refused, record(0, 2, at=T0 + 1)])
    before = batch.counts[0]
    assert before.stored == 3
    batch.reject(refused, ReadingDecoder(ReadingRules()))
    counts = batch.counts[0]
    assert (counts.stored, counts.rejected, counts.accounted) == (2, 1, 3)
    assert counts.stored_by_day == {date(2024, 12, 29): 2}


def test_refusing_a_row_does_not_count_its_unknown_fields_again():
    decoder = ReadingDecoder(ReadingRules())
    strange = record(0, 0, value=record(0, 0).value[:-1] + b',"more":1}')
    builder = MicroBatchBuilder({0: 0}, decoder)
    add(builder, [strange])
    batch = builder.build({0: 1})
    batch.reject(strange, decoder)
    assert decoder.unknown_fields == 1


def test_a_dead_letter_keeps_the_record_whole_with_its_reason():
    item = bad_record(0, 0)
    (letter,) = build({0: 0}, {0: 1}, [item]).dead_letters
    assert letter.record == item
    assert letter.reason is Reason.NOT_JSON


# Open milliseconds.


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


@given(
    st.lists(
        st.floats(EARLIEST_SECONDS, LATEST_SECONDS)
        # Half microseconds, which are rounded to the even one.
        | st.integers(2_000_000_000_000_000, 8_000_000_000_000_000).map(lambda n: (n + 0.5) / 2e6)
    )
)
def test_many_timestamps_at_once_are_what_each_is(seconds):
    assert timestamps_ms(np.array(seconds, np.float64)).tolist() == [
        timestamp_ms(s) for s in seconds
    ]
