"""Kafka and Cassandra in memory, by the rules that matter here; and doubles that fail on call k.

The fakes keep what the real ones keep: a log with holes, aborted records and two watermarks; cells
that are settled one by one by write time; a conditional write. `contracts.py` holds each of them
against the same suite as the real client.
"""

import enum
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from iot_pipeline.core.reading.chunks import RecordChunk, chunk_records
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration
from iot_pipeline.core.reading.lag import Held, OpenTransaction
from iot_pipeline.core.reading.messages import DeadLetter, Record
from iot_pipeline.core.reading.offsets import OffsetRange, TopicInfo, Watermarks
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.errors import (
    KafkaUnavailableError,
    OffsetsExpiredError,
    PipelineError,
    RowsRefusedError,
    SchemaMismatchError,
)

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
    replicas: int = 1
    brokers: int = 1
    now_ms: int = NOW_MS
    poll_records: int = 3
    uuid: str = field(default_factory=lambda: uuid4().hex)
    mirrored: dict[int, int] = field(default_factory=dict)
    skip: set[tuple[int, int]] = field(default_factory=set)  # a consumer's defect: not given out
    open_sources: int = 0
    opened: int = 0
    low: Counter[int] = field(default_factory=Counter)
    open_transaction_at: dict[int, int] = field(default_factory=dict)
    # Partitions whose leader does not answer; and those that two brokers say they lead.
    silent: set[int] = field(default_factory=set)
    disputed: set[int] = field(default_factory=set)
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

    def cut(self, partition: int, end: int) -> None:
        """Forget the end of a log, as an unclean election does."""
        del self._log[partition][end:]

    def compact(self, partition: int, offset: int) -> None:
        """Take a record away that a later one of its key replaces."""
        _, record = self._log[partition][offset]
        self._log[partition][offset] = Kind.NOTHING, record

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
        return TopicInfo(topic, self.uuid, self.partitions, self.config, self.replicas)

    def topic_id(self, topic: str) -> str:
        self._check_name(topic)
        return self.uuid

    def watermarks(
        self,
        topic: str,
        *,
        only: Collection[int] | None = None,
        silent: dict[int, PipelineError] | None = None,
    ) -> list[Watermarks]:
        self._check_name(topic)
        asked = [p for p in range(self.partitions) if only is None or p in only]
        errors = {
            p: KafkaUnavailableError(f"{topic}[{p}]: silent") for p in asked if p in self.silent
        }
        if silent is None:
            for error in errors.values():
                raise error
        else:
            silent |= errors
        known = [p for p in asked if p not in errors]
        return [Watermarks(p, self.low[p], self.end(p)) for p in known]

    def in_dispute(self, topic: str, partitions: Iterable[int]) -> dict[int, PipelineError]:
        return {
            p: KafkaUnavailableError(f"{topic}[{p}]: brokers do not agree")
            for p in partitions
            if p in self.disputed
        }

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
        self.opened += 1
        return FakeSource(self, list(ranges), {item.partition: item.start for item in ranges})

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        return [
            self._log[p][offset][1]
            for p, offset in offsets
            if self.low[p] <= offset < len(self._log[p]) and self._log[p][offset][0] is Kind.RECORD
        ]

    def held_back(self, topic: str, last_stable: Mapping[int, int]) -> dict[int, Held]:
        return {
            p: Held(len(self._log[p]), self._log[p][at][1].produced_ms)
            for p, at in last_stable.items()
            if len(self._log[p]) > at
        }

    def open_transactions(self, topic: str, partitions: Sequence[int]) -> list[OpenTransaction]:
        return [
            OpenTransaction(p, at, 1, 0, self._log[p][at][1].produced_ms, None)
            for p, at in self.open_transaction_at.items()
            if p in partitions
        ]

    def count_brokers(self) -> int:
        return self.brokers

    def bytes_per_record(self, topic: str, partition: int, offset: int) -> float | None:
        return 100.0 if self._log[partition][offset:] else None

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
    stopped: dict[int, PipelineError] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)

    def poll(self, timeout_seconds: float) -> list[Record]:
        assert not self.closed, "polled after it was closed"
        records: list[Record] = []
        for item in self.ranges:
            p = item.partition
            if p in self.left:
                continue
            while self.positions[p] < item.end and len(records) < self.log.poll_records:
                at = self.positions[p]
                if at < self.log.low[p] or at > self.log.end(p):
                    gone = f"reading {self.log.topic}[{p}]: {at} is gone"
                    self.stopped[p] = OffsetsExpiredError(gone)
                    self.leave(p)
                    break
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

    def leave(self, partition: int) -> None:
        self.left.add(partition)

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
    # The columns of the rows that are sent.
    names: tuple[str, ...] = tuple(quantity.name for quantity in QUANTITIES)
    sent_rows: list[RowsByTime] = field(default_factory=list)
    sent_devices: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def send_rows(self, rows: RowSlice) -> FakePending:
        groups = rows.items()
        self.sent_rows += [of_place for _, of_place in groups]
        if any(self.refuse(name, ms) for (name, _), of_place in groups for ms in of_place):
            return self._pend([], RowsRefusedError("writing rows: refused"))
        places = []
        for place, of_place in groups:
            for ms, (write_time, offset, partition, *values) in of_place.items():
                row = self.cells.setdefault((*place, ms), {})
                for name, value in zip(self.names, values, strict=True):
                    if value is None:
                        continue
                    row[name] = max(row.get(name, (-1, 0.0)), (write_time, value))
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


@dataclass
class FakeDeclarations:
    """A `Declarations`, the latest first."""

    kept: dict[str, KeptDeclaration] = field(default_factory=dict)

    def keep_declaration(self, declaration: Declaration) -> None:
        one = KeptDeclaration.of(declaration)
        self.kept.setdefault(one.fingerprint, one)

    def read_declarations(self) -> list[KeptDeclaration]:
        return [*self.kept.values()][::-1]


def writer_id(number: int) -> UUID:
    return UUID(int=number)
