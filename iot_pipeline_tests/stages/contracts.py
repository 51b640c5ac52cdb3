"""One contract suite per port, for the fake and for the real client alike.

A subclass named Test... gives the fixture that the suite asks for, and runs it:

| suite | fixture | what the fixture gives |
|---|---|---|
| `RecordLogContract` | `log_world` | a `LogWorld`: a fresh topic of 2 partitions, LogAppendTime |
| `ReadingStoreContract` | `store_world` | a `StoreWorld`: tables, maybe of other devices too |
| `LedgerStoreContract` | `ledger_world` | a `LedgerWorld`: a topic name that the ledger never saw |
| `DeadLetterSinkContract` | `letters_world` | a `LettersWorld`: a fresh dead-letter topic |
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from uuid import uuid4

import pytest

from iot_pipeline.core.ledger.chain import (
    Counts,
)
from iot_pipeline.core.reading.messages import DeadLetter, Reason, Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import Row
from iot_pipeline.errors import OffsetsExpiredError, SchemaMismatchError
from iot_pipeline.stages.ports.answers import Pending
from iot_pipeline.stages.ports.log import DeadLetterSink, RecordLogReader
from iot_pipeline.stages.ports.readings import ReadingStore
from iot_pipeline_tests.patience import until


def rows_of(device_id: str, day_number: int, rows: Mapping[int, Row]) -> RowSlice:
    """Rows of one Cassandra partition as a store takes them."""
    return RowSlice.of({(device_id, day_number): dict(rows)})


class Waiting(Protocol):
    """Whatever has sent something."""

    def wait(self, timeout_seconds: float) -> None: ...


class LogWorld(Protocol):
    """A topic of two partitions, and what people do to it; every write is acknowledged."""

    log: RecordLogReader
    topic: str

    def append(
        self,
        partition: int,
        value: bytes | None,
        message_key: bytes | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
    ) -> int: ...  # its offset

    def append_aborted(self, partition: int, value: bytes) -> None:
        """A transaction with one record that is aborted: two offsets without a record."""

    def delete_before(self, partition: int, offset: int) -> None: ...

    def recreate(self) -> None:
        """Delete the topic and make it again, empty, with the same name and partitions."""


class StoreWorld(Protocol):
    store: ReadingStore

    def read_rows(self, device_id: str, day_number: int) -> dict[int, tuple[float, float]]:
        """timestamp_ms -> (temperature, humidity)."""

    def read_write_times(self, device_id: str, day_number: int) -> dict[int, set[int]]:
        """timestamp_ms -> the write times of its cells, in microseconds."""

    def read_devices(self, day_number: int) -> set[str]: ...


class LettersWorld(Protocol):
    sink: DeadLetterSink
    topic: str

    def read(self) -> list[DeadLetter]:
        """All that was delivered, in any order, made again from what is in the dead-letter topic.

        Of the record: partition, offset, produced_ms, message_key, value and its own headers.
        """


# The log.


def read_ranges(
    world: LogWorld, ranges: Sequence[OffsetRange], deadline_seconds: float = 30.0
) -> list[Record]:
    """Poll until every range is finished."""
    wanted = {item.partition for item in ranges}
    records: list[Record] = []
    give_up_at = until(deadline_seconds)
    source = world.log.open_ranges(world.topic, ranges)
    try:
        while wanted - source.finished:
            assert time.monotonic() < give_up_at, f"not finished, {len(records)} records so far"
            assert not source.stopped
            before = source.finished
            records += source.poll(0.1)
            assert before <= source.finished, "what is finished stays so"
        assert source.poll(0.01) == [], "nothing comes after the end"
    finally:
        source.close()
    return records


def places(records: Sequence[Record]) -> list[tuple[int, int]]:
    return [(record.partition, record.offset) for record in records]


class RecordLogContract:
    """`RecordLogReader`, and the `RecordSource` that it opens."""

    def test_a_topic_says_its_uuid_its_partitions_and_its_configuration(self, log_world):
        info = log_world.log.describe(log_world.topic)
        assert info.name == log_world.topic
        assert info.partitions == 2
        assert info.topic_id
        assert info.config["message.timestamp.type"] == "LogAppendTime"
        assert log_world.log.describe(log_world.topic) == info

    def test_a_topic_that_does_not_exist_is_permanent_and_is_not_made(self, log_world):
        for _ in range(2):
            with pytest.raises(SchemaMismatchError):
                log_world.log.describe(log_world.topic + "_nowhere")

    def test_a_recreated_topic_has_another_uuid(self, log_world):
        before = log_world.log.describe(log_world.topic).topic_id
        log_world.recreate()
        assert log_world.log.describe(log_world.topic).topic_id != before

    def test_watermarks_are_one_per_partition_in_order(self, log_world):
        for _ in range(3):
            log_world.append(1, b"x")
        marks = log_world.log.watermarks(log_world.topic)
        assert [(m.partition, m.low, m.last_stable) for m in marks] == [(0, 0, 0), (1, 0, 3)]
        log_world.delete_before(1, 2)
        assert log_world.log.watermarks(log_world.topic)[1].low == 2

    def test_an_aborted_transaction_moves_the_last_stable_offset(self, log_world):
        log_world.append_aborted(0, b"never")
        assert log_world.log.watermarks(log_world.topic)[0].last_stable == 2

    def test_records_come_whole_and_in_order_with_the_brokers_time(self, log_world):
        before_ms = time.time() * 1000
        log_world.append(0, b"value", b"key", [("h", b"1"), ("i", None)])
        log_world.append(0, None, b"key")
        log_world.append(0, b"", None)
        first, tombstone, empty = read_ranges(log_world, [OffsetRange(0, 0, 3)])
        assert (first.partition, first.offset) == (0, 0)
        assert (first.message_key, first.value) == (b"key", b"value")
        assert first.headers == [("h", b"1"), ("i", None)]
        assert (tombstone.message_key, tombstone.value) == (b"key", None)
        assert (empty.message_key, empty.value) == (None, b"")
        assert not empty.headers
        assert first.produced_ms <= tombstone.produced_ms <= empty.produced_ms
        assert isinstance(first.produced_ms, int)
        self.check_broker_time(first, before_ms)

    def check_broker_time(self, record: Record, before_ms: float) -> None:
        """LogAppendTime; the broker of these tests is on this machine."""
        assert abs(record.produced_ms - before_ms) < 60_000

    def test_exactly_the_ranges_are_read_of_every_partition(self, log_world):
        for _ in range(10):
            log_world.append(0, b"a")
            log_world.append(1, b"b")
        records = read_ranges(log_world, [OffsetRange(0, 2, 5), OffsetRange(1, 9, 10)])
        assert sorted(places(records)) == [(0, 2), (0, 3), (0, 4), (1, 9)]
        for p in range(2):
            own = [r.offset for r in records if r.partition == p]
            assert own == sorted(own)

    def test_a_range_that_ends_in_holes_finishes(self, log_world):
        log_world.append(0, b"a")
        log_world.append_aborted(0, b"never")
        log_world.append(0, b"b")
        assert places(read_ranges(log_world, [OffsetRange(0, 0, 3)])) == [(0, 0)]
        assert places(read_ranges(log_world, [OffsetRange(0, 1, 3)])) == []
        assert places(read_ranges(log_world, [OffsetRange(0, 0, 4)])) == [(0, 0), (0, 3)]

    def test_a_source_may_be_closed_twice_and_early(self, log_world):
        log_world.append(0, b"a")
        source = log_world.log.open_ranges(log_world.topic, [OffsetRange(0, 0, 1)])
        source.close()
        source.close()

    def test_reading_what_was_deleted_stops_that_partition_and_no_other(self, log_world):
        for _ in range(5):
            log_world.append(0, b"a")
        log_world.append(1, b"b")
        log_world.delete_before(0, 3)
        wanted = [OffsetRange(0, 1, 5), OffsetRange(1, 0, 1)]
        source = log_world.log.open_ranges(log_world.topic, wanted)
        records: list[Record] = []
        give_up_at = until(30.0)
        try:
            while not (source.stopped and source.finished):
                assert time.monotonic() < give_up_at
                records += source.poll(0.1)
            assert places(records) == [(1, 0)], "what is left of partition 0 would be a jump"
            assert source.finished == {1}
            assert list(source.stopped) == [0]
            assert isinstance(source.stopped[0], OffsetsExpiredError)
        finally:
            source.close()

    def test_records_at_offsets_are_found(self, log_world):
        for number in range(6):
            log_world.append(number % 2, b"%d" % number, b"k")
        records = log_world.log.read_offsets(log_world.topic, [(0, 2), (1, 0)])
        assert sorted((r.partition, r.offset, r.value) for r in records) == [
            (0, 2, b"4"),
            (1, 0, b"1"),
        ]
        assert log_world.log.read_offsets(log_world.topic, []) == []

    def test_holes_of_aborted_transactions_are_holes(self, log_world):
        log_world.append_aborted(0, b"never")
        log_world.append(0, b"a")
        assert log_world.log.find_skipped(log_world.topic, [OffsetRange(0, 0, 2)]) == []

    def test_a_committed_record_in_a_hole_is_found(self, log_world):
        log_world.append_aborted(0, b"never")
        log_world.append(0, b"a")
        log_world.append(1, b"b")
        found = log_world.log.find_skipped(
            log_world.topic, [OffsetRange(0, 0, 3), OffsetRange(1, 0, 1)]
        )
        assert sorted(found) == [(0, 2), (1, 0)]

    def test_a_time_is_an_offset_per_partition(self, log_world):
        log_world.append(0, b"a")
        (first,) = read_ranges(log_world, [OffsetRange(0, 0, 1)])
        arrived = datetime.fromtimestamp(first.produced_ms / 1000, UTC)
        at = log_world.log.offsets_at
        assert at(log_world.topic, arrived) == {0: 0, 1: 0}
        assert at(log_world.topic, arrived - timedelta(days=1)) == {0: 0, 1: 0}
        assert at(log_world.topic, arrived + timedelta(days=1)) == {0: 1, 1: 0}, "the end"

    def test_offsets_are_mirrored_without_complaint_also_twice_and_backwards(self, log_world):
        log_world.append(0, b"a")
        for next_offsets in ({0: 1}, {0: 1}, {0: 0, 1: 0}, {}):
            log_world.log.mirror(log_world.topic, next_offsets)


# The store.


def settle(store: Waiting, *sent: Pending, deadline_seconds: float = 30.0) -> None:
    give_up_at = until(deadline_seconds)
    for pending in sent:
        while not pending.done:
            assert time.monotonic() < give_up_at
            store.wait(0.1)
        assert pending.error is None


DAY = 20_086  # 2024-12-29
MS = DAY * 86_400_000 + 14_518_316
WRITTEN = 1_735_444_920_000_123


class ReadingStoreContract:
    """`ReadingStore`: rows by Cassandra's rules."""

    @pytest.fixture
    def device(self):
        return f"device_{uuid4().hex}"

    def test_rows_are_kept_with_their_values_and_write_times(self, store_world, device):
        rows = {
            MS: (WRITTEN, 123, 0, 26.51, 40.78),
            MS + 1: (WRITTEN + 1, 124, 0, 0.0, 0.0),
            MS + 2: (WRITTEN + 2, 1, 125, -0.0, 100.0),
        }
        settle(store_world.store, store_world.store.send_rows(rows_of(device, DAY, rows)))
        assert store_world.read_rows(device, DAY) == {
            MS: (26.51, 40.78),
            MS + 1: (0.0, 0.0),
            MS + 2: (-0.0, 100.0),
        }
        assert store_world.read_write_times(device, DAY) == {
            MS: {WRITTEN},
            MS + 1: {WRITTEN + 1},
            MS + 2: {WRITTEN + 2},
        }

    def test_the_same_rows_again_change_nothing(self, store_world, device):
        rows = {MS: (WRITTEN, 1, 0, 1.0, 2.0)}
        for _ in range(3):
            settle(store_world.store, store_world.store.send_rows(rows_of(device, DAY, rows)))
        assert store_world.read_rows(device, DAY) == {MS: (1.0, 2.0)}
        assert store_world.read_write_times(device, DAY) == {MS: {WRITTEN}}

    @pytest.mark.parametrize("winner_first", [True, False])
    def test_the_higher_write_time_wins_in_whatever_order_rows_come(
        self, store_world, device, winner_first
    ):
        winner = {MS: (WRITTEN + 1, 2, 0, 1.0, 2.0)}
        loser = {MS: (WRITTEN, 1, 0, 9.0, 9.0)}
        for rows in [winner, loser] if winner_first else [loser, winner]:
            settle(store_world.store, store_world.store.send_rows(rows_of(device, DAY, rows)))
        assert store_world.read_rows(device, DAY) == {MS: (1.0, 2.0)}

    def test_equal_write_times_are_settled_cell_by_cell_which_tears_the_row(
        self, store_world, device
    ):
        # Why conflicting records of one millisecond must meet in one micro-batch.
        for row in ((WRITTEN, 0, 0, 90.0, 1.0), (WRITTEN, 1000, 0, 1.0, 90.0)):
            settle(
                store_world.store,
                store_world.store.send_rows(rows_of(device, DAY, {MS: row})),
            )
        assert store_world.read_rows(device, DAY) == {MS: (90.0, 90.0)}

    def test_300_rows_go_in_one_batch_and_many_batches_at_once(self, store_world, device):
        sent = [
            store_world.store.send_rows(
                RowSlice.of(
                    {
                        (device, DAY + step): {
                            MS + at: (WRITTEN + at, at, 0, float(at % 100), 50.0)
                            for at in range(300)
                        }
                    }
                )
            )
            for step in range(8)
        ]
        settle(store_world.store, *sent)
        for step in range(8):
            assert len(store_world.read_rows(device, DAY + step)) == 300

    def test_the_longest_device_id_and_any_character_are_kept(self, store_world, device):
        for name in (device + "é" * 100, f"{device} '\";--", device + "😀"):
            rows = {MS: (WRITTEN, 1, 0, 1.0, 2.0)}
            settle(
                store_world.store,
                store_world.store.send_rows(rows_of(name, DAY, rows)),
                store_world.store.send_devices(DAY, {name: WRITTEN // 1000}),
            )
            assert store_world.read_rows(name, DAY) == {MS: (1.0, 2.0)}
            assert name in store_world.read_devices(DAY)

    def test_devices_of_a_day_are_noted_again_and_again(self, store_world, device):
        names = {f"{device}_{number}": WRITTEN // 1000 + number for number in range(300)}
        for _ in range(2):
            settle(store_world.store, store_world.store.send_devices(DAY, names))
        assert set(names) <= store_world.read_devices(DAY)
        assert not set(names) & store_world.read_devices(DAY + 1)

    def test_an_error_of_a_pending_write_is_none_until_it_failed(self, store_world, device):
        sent = store_world.store.send_rows(
            RowSlice.of({(device, DAY): {MS: (WRITTEN, 1, 0, 1.0, 2.0)}})
        )
        settle(store_world.store, sent)
        assert (sent.done, sent.error) == (True, None), "asked again, the answer is the same"

    def test_waiting_for_nothing_ends_in_time(self, store_world):
        began = time.monotonic()
        store_world.store.wait(0.05)
        assert time.monotonic() - began < 5


COUNTS = Counts(
    stored=4,
    superseded=3,
    rejected=2,
    aged_out=1,
    holes=0,
    stored_by_day={date(2024, 12, 28): 1, date(2024, 12, 29): 3},
    cells_by_day={date(2024, 12, 28): 2, date(2024, 12, 29): 5},
    first_record_ms=1_735_444_920_000,
    last_record_ms=1_735_444_920_999,
)


# The dead letters.


class DeadLetterSinkContract:
    """`DeadLetterSink`: what is delivered is there, unchanged, when `deliver` returns."""

    @pytest.mark.parametrize(
        ("key", "value", "headers"),
        [
            (b"k", b"not json", None),
            (None, None, None),
            (b"", b"", None),
            (b"\xff\x00", bytes(range(256)), [("h", b"\xff"), ("h", b"twice"), ("i", None)]),
        ],
    )
    def test_a_record_arrives_unchanged_with_its_reason(self, letters_world, key, value, headers):
        record = Record(3, 42, 1_735_444_920_000, key, value, headers)
        letter = DeadLetter(record, Reason.NOT_JSON, "JSON is malformed: ünd söweiter")
        letters_world.sink.deliver(letters_world.topic, "uuid", [letter])
        (arrived,) = letters_world.read()
        assert (arrived.reason, arrived.message) == (letter.reason, letter.message)
        assert (arrived.record.partition, arrived.record.offset) == (3, 42)
        assert arrived.record.produced_ms == 1_735_444_920_000
        assert (arrived.record.message_key, arrived.record.value) == (key, value)
        assert (arrived.record.headers or []) == (headers or [])

    def test_the_largest_record_of_a_topic_fits_with_its_headers(self, letters_world):
        # max.message.bytes is 1,048,588 by default, and that is a whole record batch.
        value = b"x" * 1_048_000
        letter = DeadLetter(Record(0, 1, 2, b"k", value), Reason.TOO_LARGE, "too large")
        letters_world.sink.deliver(letters_world.topic, "uuid", [letter])
        assert [letter.record.value for letter in letters_world.read()] == [value]

    def test_many_are_all_there_when_delivery_returns(self, letters_world):
        letters = [
            DeadLetter(Record(0, offset, 2, None, b"%d" % offset), Reason.WRONG_TYPE, "m")
            for offset in range(2000)
        ]
        letters_world.sink.deliver(letters_world.topic, "uuid", letters)
        assert {letter.record.offset for letter in letters_world.read()} == set(range(2000))

    def test_delivering_nothing_is_nothing_and_again_is_a_duplicate_with_the_same_coordinates(
        self, letters_world
    ):
        letter = DeadLetter(Record(0, 1, 2, None, b"x"), Reason.NO_VALUE, "m")
        letters_world.sink.deliver(letters_world.topic, "uuid", [])
        for _ in range(2):
            letters_world.sink.deliver(letters_world.topic, "uuid", [letter])
        arrived = letters_world.read()
        assert {(item.record.partition, item.record.offset) for item in arrived} == {(0, 1)}
