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
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from uuid import uuid4

import pytest

from iot_pipeline.core.ledger.chain import (
    Applied,
    Commit,
    Counts,
    Fenced,
    Outcome,
    decide_commit,
)
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum
from iot_pipeline.core.reading.decoding import DeadLetter, Reason, Record
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.errors import PermanentError, SchemaMismatchError
from iot_pipeline.stages.ports import (
    DeadLetterSink,
    LedgerStore,
    Pending,
    ReadingStore,
    RecordLogReader,
)
from iot_pipeline_tests.patience import until


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


class LedgerWorld(Protocol):
    ledger: LedgerStore
    topic: str


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

    def test_reading_what_was_deleted_is_an_error_and_not_a_jump(self, log_world):
        for _ in range(5):
            log_world.append(0, b"a")
        log_world.delete_before(0, 3)
        with pytest.raises(PermanentError):
            read_ranges(log_world, [OffsetRange(0, 1, 5)])

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
        settle(store_world.store, store_world.store.send_rows(device, DAY, rows))
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
            settle(store_world.store, store_world.store.send_rows(device, DAY, rows))
        assert store_world.read_rows(device, DAY) == {MS: (1.0, 2.0)}
        assert store_world.read_write_times(device, DAY) == {MS: {WRITTEN}}

    @pytest.mark.parametrize("winner_first", [True, False])
    def test_the_higher_write_time_wins_in_whatever_order_rows_come(
        self, store_world, device, winner_first
    ):
        winner = {MS: (WRITTEN + 1, 2, 0, 1.0, 2.0)}
        loser = {MS: (WRITTEN, 1, 0, 9.0, 9.0)}
        for rows in [winner, loser] if winner_first else [loser, winner]:
            settle(store_world.store, store_world.store.send_rows(device, DAY, rows))
        assert store_world.read_rows(device, DAY) == {MS: (1.0, 2.0)}

    def test_equal_write_times_are_settled_cell_by_cell_which_tears_the_row(
        self, store_world, device
    ):
        # Why conflicting records of one millisecond must meet in one micro-batch.
        for row in ((WRITTEN, 0, 0, 90.0, 1.0), (WRITTEN, 1000, 0, 1.0, 90.0)):
            settle(store_world.store, store_world.store.send_rows(device, DAY, {MS: row}))
        assert store_world.read_rows(device, DAY) == {MS: (90.0, 90.0)}

    def test_300_rows_go_in_one_batch_and_many_batches_at_once(self, store_world, device):
        sent = [
            store_world.store.send_rows(
                device,
                DAY + step,
                {MS + at: (WRITTEN + at, at, 0, float(at % 100), 50.0) for at in range(300)},
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
                store_world.store.send_rows(name, DAY, rows),
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
        sent = store_world.store.send_rows(device, DAY, {MS: (WRITTEN, 1, 0, 1.0, 2.0)})
        settle(store_world.store, sent)
        assert (sent.done, sent.error) == (True, None), "asked again, the answer is the same"

    def test_waiting_for_nothing_ends_in_time(self, store_world):
        began = time.monotonic()
        store_world.store.wait(0.05)
        assert time.monotonic() - began < 5


# The ledger.


def settle_commit(ledger: LedgerStore, commit: Commit, deadline_seconds: float = 30.0) -> bool:
    """Whether the condition held."""
    sent = ledger.send_commit(commit)
    give_up_at = until(deadline_seconds)
    while not sent.done:
        assert time.monotonic() < give_up_at
        ledger.wait(0.1)
    assert sent.error is None
    return sent.applied


COUNTS = Counts(
    stored=4,
    superseded=3,
    rejected=2,
    aged_out=1,
    holes=0,
    stored_by_day={date(2024, 12, 28): 1, date(2024, 12, 29): 3},
    first_record_ms=1_735_444_920_000,
    last_record_ms=1_735_444_920_999,
)


class LedgerStoreContract:
    """`LedgerStore`: the conditional write and what can be read of it."""

    @pytest.fixture
    def commit(self, ledger_world):
        """The first commit of a run over 0:100-110, the checkpoint being there."""
        ledger_world.ledger.first_contact(ledger_world.topic, Checkpoint(0, 100, 0, "uuid"))
        return Commit(
            ledger_world.topic, 0, 0, "uuid", 100, 100, 110, "run-a", uuid4(), COUNTS
        )  # fmt: skip

    def test_a_ledger_that_never_saw_a_topic_has_nothing(self, ledger_world):
        assert ledger_world.ledger.read_checkpoints(ledger_world.topic, [0, 1]) == {}
        assert ledger_world.ledger.read_entries(ledger_world.topic, [0, 1]) == []

    def test_first_contact_is_made_once_and_the_first_stands(self, ledger_world):
        ledger, topic = ledger_world.ledger, ledger_world.topic
        ledger.first_contact(topic, Checkpoint(1, 7, 2, "uuid"))
        ledger.first_contact(topic, Checkpoint(1, 0, 0, "other"))
        assert ledger.read_checkpoints(topic, range(3)) == {1: Checkpoint(1, 7, 2, "uuid")}
        assert ledger.read_entries(topic, [1]) == [], "a checkpoint alone is no entry"
        assert ledger.read_links(topic, [1]) == []
        assert ledger.read_entries(topic, [1], limit=1) == []

    def test_a_commit_moves_the_checkpoint_and_writes_the_runs_row(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        assert ledger_world.ledger.read_checkpoints(commit.topic, [0, 1]) == {
            0: Checkpoint(0, 110, 0, "uuid")
        }
        (entry,) = ledger_world.ledger.read_entries(commit.topic, [0])
        assert (entry.partition, entry.epoch, entry.start_offset, entry.end_offset) == (
            0, 0, 100, 110,
        )  # fmt: skip
        assert (entry.run_id, entry.writer_id) == ("run-a", commit.writer_id)
        assert entry.outcome == "ingested"
        assert entry.counts == COUNTS
        assert entry.updated_at is not None
        assert entry.updated_at.tzinfo is not None

    def test_the_next_commit_of_the_run_extends_its_row(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        longer = replace(commit, expected=110, end=130, counts=COUNTS + COUNTS)
        assert settle_commit(ledger_world.ledger, longer)
        (entry,) = ledger_world.ledger.read_entries(commit.topic, [0])
        assert (entry.start_offset, entry.end_offset) == (100, 130)
        assert entry.counts == COUNTS + COUNTS

    def test_a_day_that_left_the_counts_leaves_the_row(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        fewer = replace(COUNTS, stored_by_day={date(2024, 12, 29): 4})
        assert settle_commit(
            ledger_world.ledger, replace(commit, expected=110, end=111, counts=fewer)
        )
        (entry,) = ledger_world.ledger.read_entries(commit.topic, [0])
        assert entry.counts.stored_by_day == {date(2024, 12, 29): 4}

    @pytest.mark.parametrize(
        "changes", [{"expected": 99}, {"expected": 101}, {"topic_id": "other"}, {"epoch": 1}]
    )
    def test_a_commit_whose_condition_does_not_hold_changes_nothing(
        self, ledger_world, commit, changes
    ):
        assert not settle_commit(ledger_world.ledger, replace(commit, **changes))
        assert ledger_world.ledger.read_checkpoints(commit.topic, [0]) == {
            0: Checkpoint(0, 100, 0, "uuid")
        }
        assert ledger_world.ledger.read_entries(commit.topic, [0]) == []

    def test_without_a_checkpoint_nothing_is_committed(self, ledger_world, commit):
        assert not settle_commit(ledger_world.ledger, replace(commit, partition=1))
        assert ledger_world.ledger.read_checkpoints(commit.topic, [1]) == {}

    def test_a_commit_sent_twice_is_applied_once_and_decided_as_applied(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        assert not settle_commit(ledger_world.ledger, commit)
        state = ledger_world.ledger.read_state(commit)
        assert decide_commit(commit, state) is Applied.YES
        assert len(ledger_world.ledger.read_entries(commit.topic, [0])) == 1

    def test_what_was_never_sent_is_decided_as_to_be_sent_again(self, ledger_world, commit):
        state = ledger_world.ledger.read_state(commit)
        assert state.entry is None
        assert decide_commit(commit, state) is Applied.SEND_AGAIN

    def test_an_overtaken_commit_is_decided_as_fenced_by_the_newest_run(self, ledger_world, commit):
        theirs = replace(commit, writer_id=uuid4(), run_id="run-b")
        assert settle_commit(ledger_world.ledger, theirs)
        newest = replace(theirs, run_start=110, expected=110, end=115, run_id="run-c")
        assert settle_commit(ledger_world.ledger, newest)
        assert not settle_commit(ledger_world.ledger, commit)
        state = ledger_world.ledger.read_state(commit)
        assert decide_commit(commit, state) == Fenced(0, "run-c", 115)

    def test_of_commits_sent_at_once_exactly_one_is_applied(self, ledger_world, commit):
        rivals = [replace(commit, writer_id=uuid4(), run_id=f"run-{n}") for n in range(4)]
        sent = [ledger_world.ledger.send_commit(rival) for rival in rivals]
        for pending in sent:
            while not pending.done:
                ledger_world.ledger.wait(0.1)
        decisions = [
            Applied.YES
            if pending.error is None and pending.applied
            else decide_commit(rival, ledger_world.ledger.read_state(rival))
            for pending, rival in zip(sent, rivals, strict=True)
        ]
        assert decisions.count(Applied.YES) == 1
        assert sum(isinstance(decision, Fenced) for decision in decisions) == 3

    def test_entries_are_newest_first_within_each_partition(self, ledger_world, commit):
        ledger_world.ledger.first_contact(commit.topic, Checkpoint(1, 0, 0, "uuid"))
        for start, end in ((100, 110), (110, 120), (120, 125)):
            assert settle_commit(
                ledger_world.ledger,
                replace(commit, run_start=start, expected=start, end=end),
            )
        other = replace(commit, partition=1, run_start=0, expected=0, end=10)
        assert settle_commit(ledger_world.ledger, other)
        entries = ledger_world.ledger.read_entries(commit.topic, [0, 1])
        by_partition = {
            p: [entry.start_offset for entry in entries if entry.partition == p] for p in (0, 1)
        }
        assert by_partition == {0: [120, 110, 100], 1: [0]}
        assert [e.partition for e in ledger_world.ledger.read_entries(commit.topic, [1])] == [1]

        newest = ledger_world.ledger.read_entries(commit.topic, [0, 1], limit=2)
        assert newest == [entry for entry in entries if entry.start_offset != 100]
        assert ledger_world.ledger.read_entries(commit.topic, [0], limit=1) == newest[:1]

        links = ledger_world.ledger.read_links(commit.topic, [0, 1])
        assert links == [entry.link for entry in entries]

    def test_what_entries_stored_is_summed_by_day_with_replays_from_a_place_on(
        self, ledger_world, commit
    ):
        ledger, topic = ledger_world.ledger, commit.topic
        for start, end in ((100, 110), (110, 120)):
            assert settle_commit(ledger, replace(commit, run_start=start, expected=start, end=end))
        ledger.record_replay(topic, datetime.now(UTC), "run-r", [], COUNTS)
        # More days than one question takes.
        days = [date(2024, 12, 29) - timedelta(days=back) for back in range(45)]

        def total(since=None):
            summed = Counter()
            for part in ledger.stored_by_day(topic, [0, 1], days, since):
                summed.update(part)
            return {day: rows for day, rows in summed.items() if rows}

        of_one = COUNTS.stored_by_day
        assert total() == {day: 3 * rows for day, rows in of_one.items()}
        assert total({0: EntryPlace(0, 110)}) == {day: 2 * rows for day, rows in of_one.items()}
        assert total({0: EntryPlace(0, 111)}) == of_one
        parts = sorted(ledger.ingested_parts(topic), key=lambda part: part.offsets)
        assert [part.offsets for part in parts] == [
            OffsetRange(0, 100, 110),
            OffsetRange(0, 110, 120),
        ]
        assert {part.first_record_ms for part in parts} == {COUNTS.first_record_ms}

    def test_entries_are_found_from_a_place_at_a_place_and_by_their_outcome(
        self, ledger_world, commit
    ):
        ledger, topic = ledger_world.ledger, commit.topic
        outcomes = (Outcome.INGESTED, Outcome.EXPIRED, Outcome.INGESTED)
        for start, outcome in zip((100, 110, 120), outcomes, strict=True):
            commit = replace(
                commit, run_start=start, expected=start, end=start + 10, outcome=outcome
            )
            assert settle_commit(ledger, commit)
        newest, expired, oldest = ledger.read_entries(topic, [0])
        assert ledger.read_entries(topic, [0]) == [newest, expired, oldest]
        assert ledger.read_entries(topic, [0], places={0: EntryPlace(0, 110)}) == [newest, expired]
        newer = {0: EntryPlace(0, 110)}
        assert ledger.read_entries(topic, [0], places=newer, limit=1) == [newest]
        assert ledger.read_at(topic, 0, EntryPlace(0, 110)) == expired
        assert ledger.read_at(topic, 0, EntryPlace(0, 111)) is None
        assert ledger.read_entries(topic, [0, 1], outcome=Outcome.EXPIRED) == [expired]
        newer = {0: EntryPlace(0, 120)}
        assert ledger.read_entries(topic, [0], places=newer, outcome=Outcome.EXPIRED) == []

    def test_a_fold_takes_the_place_of_what_starts_within_it(self, ledger_world, commit):
        ledger, topic = ledger_world.ledger, commit.topic
        for start in (100, 110, 120):
            commit = replace(commit, run_start=start, expected=start, end=start + 10)
            assert settle_commit(ledger, commit)
        newest, _, oldest = ledger.read_entries(topic, [0])
        folded = replace(oldest, end_offset=120, outcome=Outcome.FOLDED, counts=COUNTS + COUNTS)
        ledger.write_fold(folded)
        assert ledger.read_entries(topic, [0]) == [newest, folded]

    def test_a_rebase_begins_an_epoch_and_leaves_a_seam(self, ledger_world, commit):
        ledger, topic = ledger_world.ledger, commit.topic
        assert settle_commit(ledger, commit)
        old, new = Checkpoint(0, 110, 0, "uuid"), Checkpoint(0, 3, 1, "other")
        for at, is_applied in ((replace(old, next_offset=100), False), (old, True), (old, False)):
            sent = ledger.send_rebase(topic, at, new, "run-r", uuid4())
            while not sent.done:
                ledger.wait(0.1)
            assert (sent.error, sent.applied) == (None, is_applied)
        assert ledger.read_checkpoints(topic, [0]) == {0: new}
        seam = ledger.read_entries(topic, [0], limit=1)[0]
        assert (seam.epoch, seam.start_offset, seam.end_offset) == (0, 110, 110)
        assert (seam.outcome, seam.counts) == (Outcome.REBASED, Counts())

    def test_entries_may_be_asked_since_a_time(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        ledger, topic = ledger_world.ledger, commit.topic
        long_ago, never = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        (entry,) = ledger.read_entries(topic, [0], long_ago)
        assert ledger.read_links(topic, [0], long_ago) == [entry.link]
        assert ledger.read_entries(topic, [0], never) == []
        assert ledger.read_links(topic, [0], never) == []

    def test_a_replay_is_recorded_beside_the_ledger(self, ledger_world, commit):
        at = datetime(2024, 12, 30, tzinfo=UTC)
        names = []
        for ranges in ([OffsetRange(0, 1, 5)], [OffsetRange(0, 1, 9)]):
            ledger_world.ledger.record_replay(commit.topic, at, "run-r", ranges, COUNTS)
            (part,) = ledger_world.ledger.replayed_parts(commit.topic)
            assert (part.ranges, part.stored) == (ranges, COUNTS.stored)
            assert part.stored_by_day == COUNTS.stored_by_day
            names.append(part.name)
        assert names[0] != names[1], "it has gone on"
        assert ledger_world.ledger.read_entries(commit.topic, [0]) == []
        assert ledger_world.ledger.read_checkpoints(commit.topic, [0])[0].next_offset == 100


class LedgerSumsContract:
    """`LedgerSums`; `sums_world` is one, and a topic that it never saw."""

    def test_a_kept_sum_comes_back_whole_and_the_last_one_counts(self, sums_world):
        sums, topic = sums_world
        assert sums.read_sums(topic) == {}
        days = {date(2024, 12, 28): 5, date(2024, 12, 29): 2**40}
        older = LedgerSum(0, EntryPlace(1, 20), days, (EntryPlace(0, 3), EntryPlace(1, 7)))
        other = LedgerSum(1, EntryPlace(0, 0), {})
        for kept in (replace(older, stored_by_day={}, expired=()), other, older):
            sums.write_sum(topic, kept)
        assert sums.read_sums(topic) == {0: older, 1: other}
        assert sums.read_sums(topic + "_other") == {}


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
