"""Records become a micro-batch: every offset accounted for, one winner of each key."""

from collections import Counter
from datetime import date
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.micro_batch import MicroBatchBuilder
from iot_pipeline.core.reading.declared_times import (
    timestamp_ms,
)
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.messages import Reading, ReadingRules, Reason
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.retention import Retention, RetentionByCode
from iot_pipeline.core.reading.write_times import write_time_us
from iot_pipeline.core.times import MS_PER_DAY, day_of
from iot_pipeline_tests.core.ingest.micro_batches import (
    PRODUCED_MS,
    T0,
    add,
    bad_record,
    build,
    ends_of,
    expected_winners,
    interleave,
    key_of,
    logs,
    record,
    rows_of,
    starts_of,
)


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
