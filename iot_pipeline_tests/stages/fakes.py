"""Kafka and Cassandra in memory, by the rules that matter here; and doubles that fail on call k.

The fakes keep what the real ones keep: a log with holes, aborted records and two watermarks; cells
that are settled one by one by write time; a conditional write. `contracts.py` holds each of them
against the same suite as the real client.
"""

import enum
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from iot_pipeline.core.ledger.chain import (
    ChainLink,
    Commit,
    Counts,
    LedgerEntry,
    LedgerState,
    Outcome,
)
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum, place_of
from iot_pipeline.core.reading.chunks import RecordChunk, chunk_records
from iot_pipeline.core.reading.decoding import DeadLetter, Record
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, TopicInfo, Watermarks
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.rollups.days import IngestedPart, ReplayedPart
from iot_pipeline.errors import (
    CassandraUnavailableError,
    KafkaUnavailableError,
    OffsetsExpiredError,
    PermanentError,
    PipelineError,
    RowsRefusedError,
    SchemaMismatchError,
)
from iot_pipeline.stages.ports import RecordSource

T = TypeVar("T")
NOW_MS = 1_735_444_920_000  # 2024-12-29T04:02:00Z
FAR_ABOVE = 2**62


class Kind(enum.Enum):
    """What lies at an offset."""

    RECORD = "record"
    ABORTED = "aborted"
    NOTHING = "nothing"  # compacted, or a transaction marker


@dataclass(slots=True)
class FakeLog:
    """One topic: LogAppendTime by a clock that only `tick` moves, so milliseconds are shared.

    A source made before `recreate` reads on in the new topic without an error, as Kafka's does.
    """

    topic: str = "iot_data"
    partitions: int = 1
    config: dict[str, str] = field(
        default_factory=lambda: {"message.timestamp.type": "LogAppendTime"}
    )
    now_ms: int = NOW_MS
    poll_records: int = 3
    uuid: str = field(default_factory=lambda: uuid4().hex)
    mirrored: dict[int, int] = field(default_factory=dict)
    skip: set[tuple[int, int]] = field(default_factory=set)  # a consumer's defect: not given out
    open_sources: int = 0
    low: Counter[int] = field(default_factory=Counter)
    open_transaction_at: dict[int, int] = field(default_factory=dict)
    _log: defaultdict[int, list[tuple[Kind, Record]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def tick(self, ms: int = 1) -> None:
        self.now_ms += ms

    def append(
        self,
        partition: int,
        value: bytes | None,
        message_key: bytes | None = None,
        kind: Kind = Kind.RECORD,
        headers: list[tuple[str, bytes | None]] | None = None,
    ) -> Record:
        offset = len(self._log[partition])
        record = Record(partition, offset, self.now_ms, message_key, value, headers)
        self._log[partition].append((kind, record))
        return record

    def append_hole(self, partition: int) -> None:
        self.append(partition, None, kind=Kind.NOTHING)

    def append_aborted(self, partition: int, value: bytes) -> None:
        self.append(partition, value, kind=Kind.ABORTED)
        self.append_hole(partition)

    def delete_before(self, partition: int, offset: int) -> None:
        self.low[partition] = offset

    def recreate(self) -> None:
        self.uuid = uuid4().hex
        self._log.clear()
        self.low.clear()
        self.open_transaction_at.clear()

    def records(self) -> list[Record]:
        """All that a read_committed consumer may ever see, whatever was deleted since."""
        return [
            record
            for partition in range(self.partitions)
            for kind, record in self._log[partition]
            if kind is Kind.RECORD and record.offset < self.end(partition)
        ]

    def end(self, partition: int) -> int:
        end = len(self._log[partition])
        return min(end, self.open_transaction_at.get(partition, end))

    def at(self, partition: int, offset: int) -> tuple[Kind, Record]:
        return self._log[partition][offset]

    def _check_name(self, topic: str) -> None:
        if topic != self.topic:
            raise SchemaMismatchError(f"describing {topic}: there is no such topic")

    # The port.

    def describe(self, topic: str) -> TopicInfo:
        self._check_name(topic)
        return TopicInfo(topic, self.uuid, self.partitions, self.config)

    def topic_id(self, topic: str) -> str:
        self._check_name(topic)
        return self.uuid

    def watermarks(self, topic: str) -> list[Watermarks]:
        self._check_name(topic)
        return [Watermarks(p, self.low[p], self.end(p)) for p in range(self.partitions)]

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        ms = int(moment.timestamp() * 1000)
        return {
            p: next(
                (
                    record.offset
                    for kind, record in self._log[p][self.low[p] :]
                    if kind is not Kind.NOTHING and record.produced_ms >= ms
                ),
                self.end(p),
            )
            for p in range(self.partitions)
        }

    def mirror(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        self.mirrored.update(next_offsets)

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> "FakeSource":
        self.open_sources += 1
        return FakeSource(self, list(ranges), {item.partition: item.start for item in ranges})

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        return [
            self._log[p][offset][1]
            for p, offset in offsets
            if self.low[p] <= offset < len(self._log[p]) and self._log[p][offset][0] is Kind.RECORD
        ]

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        return [
            (hole.partition, offset)
            for hole in holes
            for offset in range(hole.start, hole.end)
            if offset >= self.low[hole.partition]
            and self._log[hole.partition][offset][0] is Kind.RECORD
        ]


@dataclass(slots=True)
class FakeSource:
    """Reads ranges in turn, `poll_records` at a time, never past an end."""

    log: FakeLog
    ranges: list[OffsetRange]
    positions: dict[int, int]
    closed: bool = False

    def poll(self, timeout_seconds: float) -> list[Record]:
        assert not self.closed, "polled after it was closed"
        records: list[Record] = []
        for item in self.ranges:
            p = item.partition
            while self.positions[p] < item.end and len(records) < self.log.poll_records:
                at = self.positions[p]
                if at < self.log.low[p] or at > self.log.end(p):
                    raise OffsetsExpiredError(f"reading {self.log.topic}[{p}]: {at} is gone")
                if at == self.log.end(p):
                    break
                kind, record = self.log.at(p, at)
                self.positions[p] += 1
                if kind is Kind.RECORD and (p, at) not in self.log.skip:
                    records.append(record)
        # The next poll begins with another partition: none is starved, and orders differ.
        self.ranges.append(self.ranges.pop(0))
        return records

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        return chunk_records(self.poll(timeout_seconds))

    @property
    def finished(self) -> frozenset[int]:
        return frozenset(
            item.partition for item in self.ranges if self.positions[item.partition] >= item.end
        )

    @property
    def at_end(self) -> Mapping[int, int]:
        return {p: self.log.end(p) for p, at in self.positions.items() if at >= self.log.end(p)}

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.log.open_sources -= 1


@dataclass(slots=True)
class FakePending:
    """Done when it was looked at often enough; then with an answer."""

    applied: bool = True
    error: PipelineError | None = None
    looks: int = 0
    on_done: Callable[[], object] = lambda: None

    @property
    def done(self) -> bool:
        if self.looks > 0:
            self.looks -= 1
            return False
        self.on_done()
        self.on_done = lambda: None
        return True


@dataclass(slots=True)
class FakeAnswer(FakePending, Generic[T]):
    """The same with what was found; `answer` makes one."""

    found: T = None  # type: ignore[assignment]
    answered_at: float = field(default_factory=time.time)


def answer(found: T, error: PipelineError | None = None, looks: int = 0) -> FakeAnswer[T]:
    """What was found, or an error."""
    return FakeAnswer(error is None, error, looks, found=found)


Place = tuple[int, int]
Cell = tuple[int, float]


@dataclass(slots=True)
class FakeStore:
    """Cells by Cassandra's rule: the highest write time wins, of equal ones the larger value.

    Each cell for itself: two rows with one key and one write time make a torn row here too.
    `refuse` says which rows (device_id, timestamp in ms) are refused, with all of their batch;
    `refuse_device` says it of devices_by_day.
    `journal` gets what was sent and acknowledged, in order.
    """

    looks_until_answered: int = 0
    refuse: Callable[[str, int], bool] = lambda _device, _ms: False
    refuse_device: Callable[[str], bool] = lambda _device: False
    journal: list[tuple[str, Any]] = field(default_factory=list)
    cells: dict[tuple[str, int, int], dict[str, Cell]] = field(default_factory=dict)
    devices: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    sent_rows: list[RowsByTime] = field(default_factory=list)
    sent_devices: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def send_rows(self, device_id: str, day_number: int, rows: RowsByTime) -> FakePending:
        return self.send_merged([(device_id, day_number, rows)])

    def send_merged(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> FakePending:
        for _, _, rows in groups:
            self.sent_rows.append(dict(rows))
        if any(self.refuse(device_id, ms) for device_id, _, rows in groups for ms in rows):
            return self._pend([], RowsRefusedError("writing rows: refused"))
        places = []
        for device_id, day_number, rows in groups:
            for ms, (write_time, offset, partition, *values) in rows.items():
                row = self.cells.setdefault((device_id, day_number, ms), {})
                for quantity, value in zip(QUANTITIES, values, strict=True):
                    known = row.get(quantity.name, (-1, 0.0))
                    row[quantity.name] = max(known, (write_time, value))
                places.append((partition, offset))
        return self._pend(places)

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> FakePending:
        self.sent_devices.append((day_number, dict(devices)))
        if any(map(self.refuse_device, devices)):
            return self._pend([], RowsRefusedError("writing devices: refused"))
        self.devices[day_number].update(devices)
        return self._pend([])

    def wait(self, timeout_seconds: float) -> None:
        pass

    def _pend(self, places: list[Place], error: PipelineError | None = None) -> FakePending:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.journal.append(("sent", None))

        def answered() -> None:
            self.in_flight -= 1
            self.journal.append(("acknowledged", set() if error else set(places)))

        return FakePending(error is None, error, looks=self.looks_until_answered, on_done=answered)

    # To look inside.

    def rows(self) -> dict[tuple[str, int], tuple[float, float]]:
        return {
            (device, ms): (row["temperature"][1], row["humidity"][1])
            for (device, _, ms), row in self.cells.items()
        }

    def write_times(self) -> dict[tuple[str, int], set[int]]:
        """One per whole row."""
        return {
            (device, ms): {written for written, _ in row.values()}
            for (device, _, ms), row in self.cells.items()
        }


@dataclass(slots=True)
class FakeLedger:
    """Checkpoints and rows with the ledger's conditional write."""

    journal: list[tuple[str, Any]] = field(default_factory=list)
    checkpoints: dict[tuple[str, int], Checkpoint] = field(default_factory=dict)
    entries: dict[tuple[str, int, int, int], LedgerEntry] = field(default_factory=dict)
    replays: list[tuple[str, datetime, str, list[OffsetRange], Counts]] = field(
        default_factory=list
    )
    looks_until_answered: int = 0
    commits: list[Commit] = field(default_factory=list)
    keyspace: str = "iot_data"
    topic_of_keyspace: str | None = None

    def owner(self) -> str | None:
        return self.topic_of_keyspace

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        return {p: self.checkpoints[topic, p] for p in partitions if (topic, p) in self.checkpoints}

    def first_contact(self, topic: str, checkpoint: Checkpoint) -> None:
        self.checkpoints.setdefault((topic, checkpoint.partition), checkpoint)

    def send_commit(self, commit: Commit) -> FakePending:
        self.commits.append(commit)
        place = (commit.topic, commit.partition)
        expected = Checkpoint(commit.partition, commit.expected, commit.epoch, commit.topic_id)
        applied = self.checkpoints.get(place) == expected
        if applied:
            self.checkpoints[place] = replace(expected, next_offset=commit.end)
            self.entries[*place, commit.epoch, commit.run_start] = LedgerEntry(
                commit.topic,
                commit.partition,
                commit.epoch,
                commit.run_start,
                commit.end,
                commit.outcome,
                commit.run_id,
                commit.writer_id,
                commit.counts,
                datetime.fromtimestamp(NOW_MS / 1000, UTC),
            )
            self.journal.append(("commit", (commit.partition, commit.end)))
        return FakePending(applied, looks=self.looks_until_answered)

    def send_rebase(
        self, topic: str, old: Checkpoint, new: Checkpoint, run_id: str, writer_id: UUID
    ) -> FakePending:
        place = (topic, old.partition)
        applied = self.checkpoints.get(place) == old
        if applied:
            self.checkpoints[place] = new
            self.entries[*place, old.epoch, old.next_offset] = LedgerEntry(
                *place,
                old.epoch,
                old.next_offset,
                old.next_offset,
                Outcome.REBASED,
                run_id,
                writer_id,
                Counts(),
                datetime.fromtimestamp(NOW_MS / 1000, UTC),
            )
        return FakePending(applied, looks=self.looks_until_answered)

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        entries = self.read_entries(commit.topic, [commit.partition])
        return LedgerState(
            self.checkpoints.get((commit.topic, commit.partition)),
            self.entries.get((commit.topic, commit.partition, commit.epoch, commit.run_start)),
            entries[0] if entries else None,
        )

    def read_entries(
        self,
        topic: str,
        partitions: Sequence[int],
        since: datetime | None = None,
        *,
        places: Mapping[int, EntryPlace] | None = None,
        outcome: Outcome | None = None,
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        found: list[LedgerEntry] = []
        for partition in sorted(partitions):
            own = [
                entry
                for entry in self.entries.values()
                if (entry.topic, entry.partition) == (topic, partition)
                and (since is None or entry.updated_at is None or entry.updated_at >= since)
                and (outcome is None or entry.outcome is outcome)
                and (not places or partition not in places or place_of(entry) >= places[partition])
            ]
            found += sorted(own, key=place_of, reverse=True)[:limit]
        return found

    def read_links(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[ChainLink]:
        return [entry.link for entry in self.read_entries(topic, partitions, since)]

    def read_at(self, topic: str, partition: int, place: EntryPlace) -> LedgerEntry | None:
        return self.entries.get((topic, partition, *place))

    def stored_by_day(
        self,
        topic: str,
        partitions: Sequence[int],
        days: Sequence[date],
        since: Mapping[int, EntryPlace] | None = None,
    ) -> Iterator[dict[date, int]]:
        for entry in self.read_entries(topic, partitions, places=since):
            yield {day: entry.counts.stored_by_day.get(day, 0) for day in days}
        for part in self.replayed_parts(topic):
            yield {day: part.stored_by_day.get(day, 0) for day in days}

    def ingested_parts(self, topic: str) -> Iterator[IngestedPart]:
        for entry in self.entries.values():
            if entry.topic == topic:
                yield IngestedPart(
                    OffsetRange(entry.partition, entry.start_offset, entry.end_offset),
                    entry.counts.stored_by_day,
                    entry.counts.first_record_ms,
                )

    def replayed_parts(self, topic: str) -> list[ReplayedPart]:
        newest = {
            (started_at, run_id): (ranges, counts)
            for name, started_at, run_id, ranges, counts in self.replays
            if name == topic
        }
        return [
            ReplayedPart(
                f"replay {place} {ranges} {counts}", ranges, counts.stored, counts.stored_by_day
            )
            for place, (ranges, counts) in newest.items()
        ]

    def write_fold(self, folded: LedgerEntry) -> None:
        place = (folded.topic, folded.partition, folded.epoch)
        for key in [*self.entries]:
            if key[:3] == place and folded.start_offset <= key[3] < folded.end_offset:
                del self.entries[key]
        self.entries[*place, folded.start_offset] = folded

    def record_replay(
        self,
        topic: str,
        started_at: datetime,
        run_id: str,
        ranges: Sequence[OffsetRange],
        counts: Counts,
    ) -> None:
        self.replays.append((topic, started_at, run_id, list(ranges), counts))

    def wait(self, timeout_seconds: float) -> None:
        pass


@dataclass(slots=True)
class FakeLedgerSums:
    """A `LedgerSums`."""

    kept: dict[tuple[str, int], LedgerSum] = field(default_factory=dict)

    def read_sums(self, topic: str) -> dict[int, LedgerSum]:
        return {partition: kept for (name, partition), kept in self.kept.items() if name == topic}

    def write_sum(self, topic: str, kept: LedgerSum) -> None:
        self.kept[topic, kept.partition] = kept


@dataclass(slots=True)
class FakeDeadLetters:
    """What was delivered, duplicates too: readers drop them by the source's coordinates."""

    journal: list[tuple[str, Any]] = field(default_factory=list)
    delivered: list[tuple[str, str, DeadLetter]] = field(default_factory=list)

    def deliver(self, topic: str, topic_id: str, letters: Sequence[DeadLetter]) -> None:
        self.delivered += [(topic, topic_id, letter) for letter in letters]
        places = {(letter.record.partition, letter.record.offset) for letter in letters}
        self.journal.append(("delivered", places))

    def by_place(self) -> dict[Place, DeadLetter]:
        return {
            (letter.record.partition, letter.record.offset): letter
            for _, _, letter in self.delivered
        }


# Doubles that fail.


class Crash(BaseException):
    """kill -9, Ctrl-C, Terminate: whatever ends the process between two calls."""


class How(enum.Enum):
    """What happens to the call that is chosen."""

    NOT_SENT = "raised while it is sent; nothing happened"
    NOT_APPLIED = "answered with an error; nothing happened"
    ANSWER_LOST = "it happened, and the answer is an error"
    PERMANENT = "refused for good; nothing happened"
    CRASH_BEFORE = "the process dies; nothing happened"
    CRASH_AFTER = "the process dies; it happened"
    HOOK = "something else happens first, then the call"


@dataclass(slots=True)
class Faults:
    """Counts every call through every seam, and spoils number `at` (and `times` - 1 more).

    Calls are numbered from 1 in the order they are made; `only` counts those of one seam alone.
    """

    at: int = FAR_ABOVE
    how: How = How.NOT_APPLIED
    times: int = 1
    only: str | None = None
    hook: Callable[[], object] = lambda: None
    calls: list[str] = field(default_factory=list)

    def _is_chosen(self, seam: str) -> bool:
        if self.only is not None and seam != self.only:
            return False
        self.calls.append(seam)
        return self.at <= len(self.calls) < self.at + self.times

    def call(self, seam: str, action: Callable[[], Any], error: type[PipelineError]) -> Any:
        """A call that answers at once."""
        if not self._is_chosen(seam):
            return action()
        self._strike(seam, action)
        # A poll that raises has taken nothing (ports): its records cannot be lost with an answer.
        if self.how is How.ANSWER_LOST and seam != "source.poll":
            action()
        raise self._error(seam, error)

    def send(self, seam: str, action: Callable[[], FakePending], error: type[PipelineError]) -> Any:
        """A call whose answer comes later."""
        if not self._is_chosen(seam):
            return action()
        if self.how is How.HOOK:
            self.hook()
            return action()
        self._strike(seam, action)
        if self.how is How.NOT_SENT:
            raise self._error(seam, error)
        pending = FakePending(applied=False, error=self._error(seam, error))
        if self.how is How.ANSWER_LOST:
            inner = action()
            pending.on_done = inner.on_done
        return pending

    def _strike(self, seam: str, action: Callable[[], Any]) -> None:
        if self.how is How.CRASH_AFTER:
            action()
        if self.how in (How.CRASH_BEFORE, How.CRASH_AFTER):
            raise Crash(f"at call {len(self.calls)}, {seam}")

    def _error(self, seam: str, error: type[PipelineError]) -> PipelineError:
        kind = PermanentError if self.how is How.PERMANENT else error
        return kind(f"{seam}: call {len(self.calls)} was made to fail")


@dataclass(slots=True)
class FailingSource:
    inner: RecordSource
    faults: Faults

    def poll(self, timeout_seconds: float) -> list[Record]:
        return _call(self.faults, "source.poll", lambda: self.inner.poll(timeout_seconds), "kafka")

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        return chunk_records(self.poll(timeout_seconds))

    @property
    def finished(self) -> frozenset[int]:
        return self.inner.finished

    @property
    def at_end(self) -> Mapping[int, int]:
        return self.inner.at_end

    def close(self) -> None:
        self.inner.close()


@dataclass(slots=True)
class FailingLog:
    inner: FakeLog
    faults: Faults

    def describe(self, topic: str) -> TopicInfo:
        return _call(self.faults, "log.describe", lambda: self.inner.describe(topic), "kafka")

    def topic_id(self, topic: str) -> str:
        return _call(self.faults, "log.topic_id", lambda: self.inner.topic_id(topic), "kafka")

    def watermarks(self, topic: str) -> list[Watermarks]:
        return _call(self.faults, "log.watermarks", lambda: self.inner.watermarks(topic), "kafka")

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        return _call(
            self.faults, "log.offsets_at", lambda: self.inner.offsets_at(topic, moment), "kafka"
        )

    def mirror(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        _call(self.faults, "log.mirror", lambda: self.inner.mirror(topic, next_offsets), "kafka")

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> FailingSource:
        source = _call(
            self.faults, "log.open_ranges", lambda: self.inner.open_ranges(topic, ranges), "kafka"
        )
        return FailingSource(source, self.faults)

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        return _call(
            self.faults, "log.read_offsets", lambda: self.inner.read_offsets(topic, offsets),
            "kafka",
        )  # fmt: skip

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        return _call(
            self.faults, "log.find_skipped", lambda: self.inner.find_skipped(topic, holes), "kafka"
        )


@dataclass(slots=True)
class FailingStore:
    inner: FakeStore
    faults: Faults

    def send_rows(self, device_id: str, day_number: int, rows: RowsByTime) -> FakePending:
        return self.faults.send(
            "store.send_rows",
            lambda: self.inner.send_rows(device_id, day_number, rows),
            CassandraUnavailableError,
        )

    def send_merged(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> FakePending:
        return self.faults.send(
            "store.send_merged",
            lambda: self.inner.send_merged(groups),
            CassandraUnavailableError,
        )

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> FakePending:
        return self.faults.send(
            "store.send_devices",
            lambda: self.inner.send_devices(day_number, devices),
            CassandraUnavailableError,
        )

    def wait(self, timeout_seconds: float) -> None:
        self.inner.wait(timeout_seconds)


class FailingLedger(FakeLedger):
    """What `inner` keeps is kept there still; the calls that change something may fail."""

    def __init__(self, inner: FakeLedger, faults: Faults) -> None:
        super().__init__(**{item.name: getattr(inner, item.name) for item in fields(inner)})
        self.inner, self.faults = inner, faults

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        return _call(
            self.faults, "ledger.read_checkpoints",
            lambda: self.inner.read_checkpoints(topic, partitions), "cassandra",
        )  # fmt: skip

    def first_contact(self, topic: str, checkpoint: Checkpoint) -> None:
        _call(
            self.faults, "ledger.first_contact",
            lambda: self.inner.first_contact(topic, checkpoint), "cassandra",
        )  # fmt: skip

    def send_commit(self, commit: Commit) -> FakePending:
        return self.faults.send(
            "ledger.send_commit",
            lambda: self.inner.send_commit(commit),
            CassandraUnavailableError,
        )

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        return _call(
            self.faults, "ledger.read_state",
            lambda: self.inner.read_state(commit, timeout_seconds), "cassandra",
        )  # fmt: skip

    def read_entries(self, *asked: Any, **options: Any) -> list[LedgerEntry]:
        return _call(
            self.faults, "ledger.read_entries",
            lambda: self.inner.read_entries(*asked, **options), "cassandra",
        )  # fmt: skip

    def record_replay(
        self,
        topic: str,
        started_at: datetime,
        run_id: str,
        ranges: Sequence[OffsetRange],
        counts: Counts,
    ) -> None:
        _call(
            self.faults, "ledger.record_replay",
            lambda: self.inner.record_replay(topic, started_at, run_id, ranges, counts),
            "cassandra",
        )  # fmt: skip

    def send_rebase(
        self, topic: str, old: Checkpoint, new: Checkpoint, run_id: str, writer_id: UUID
    ) -> FakePending:
        return self.faults.send(
            "ledger.send_rebase",
            lambda: self.inner.send_rebase(topic, old, new, run_id, writer_id),
            CassandraUnavailableError,
        )


@dataclass(slots=True)
class FailingDeadLetters:
    inner: FakeDeadLetters
    faults: Faults

    def deliver(self, topic: str, topic_id: str, letters: Sequence[DeadLetter]) -> None:
        _call(
            self.faults, "dead_letters.deliver",
            lambda: self.inner.deliver(topic, topic_id, letters), "kafka",
        )  # fmt: skip


def _call(faults: Faults, seam: str, action: Callable[[], Any], server: str) -> Any:
    if faults.how is How.HOOK:
        if faults._is_chosen(seam):
            faults.hook()
        return action()
    error = KafkaUnavailableError if server == "kafka" else CassandraUnavailableError
    return faults.call(seam, action, error)


def writer_id(number: int) -> UUID:
    return UUID(int=number)
