"""Calls that fail: number k, in any of the ways that a call can, and what meets them."""

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from iot_pipeline.core.ledger.chain import (
    Commit,
    Counts,
    LedgerEntry,
    LedgerState,
)
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.ledger.losses import Recovery
from iot_pipeline.core.ledger.sums import EntryPlace
from iot_pipeline.core.reading.chunks import RecordChunk, chunk_records
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration
from iot_pipeline.core.reading.lag import Held, OpenTransaction
from iot_pipeline.core.reading.messages import DeadLetter, Record
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, TopicInfo, Watermarks
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.errors import (
    CassandraUnavailableError,
    KafkaUnavailableError,
    PermanentError,
    PipelineError,
)
from iot_pipeline.stages.ports.log import RecordSource
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.fakes import (
    FAR_ABOVE,
    FakeDeadLetters,
    FakeDeclarations,
    FakeLog,
    FakePending,
    FakeStore,
)

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

    @property
    def stopped(self) -> Mapping[int, PipelineError]:
        return self.inner.stopped

    def leave(self, partition: int) -> None:
        self.inner.leave(partition)

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

    def watermarks(
        self,
        topic: str,
        *,
        only: Collection[int] | None = None,
        silent: dict[int, PipelineError] | None = None,
    ) -> list[Watermarks]:
        return _call(
            self.faults,
            "log.watermarks",
            lambda: self.inner.watermarks(topic, only=only, silent=silent),
            "kafka",
        )

    def in_dispute(self, topic: str, partitions: Iterable[int]) -> dict[int, PipelineError]:
        return _call(
            self.faults, "log.in_dispute", lambda: self.inner.in_dispute(topic, partitions), "kafka"
        )

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

    def held_back(self, topic: str, last_stable: Mapping[int, int]) -> dict[int, Held]:
        return self.inner.held_back(topic, last_stable)

    def open_transactions(self, topic: str, partitions: Sequence[int]) -> list[OpenTransaction]:
        return self.inner.open_transactions(topic, partitions)

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        return _call(
            self.faults, "log.find_skipped", lambda: self.inner.find_skipped(topic, holes), "kafka"
        )


@dataclass(slots=True)
class FailingStore:
    inner: FakeStore
    faults: Faults

    def send_rows(self, rows: RowSlice) -> FakePending:
        return self.faults.send(
            "store.send_rows",
            lambda: self.inner.send_rows(rows),
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

    def first_contact(self, topic: str, checkpoints: Sequence[Checkpoint]) -> None:
        _call(
            self.faults, "ledger.first_contact",
            lambda: self.inner.first_contact(topic, checkpoints), "cassandra",
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
        declared: DeclaredReplay | None = None,
    ) -> None:
        _call(
            self.faults, "ledger.record_replay",
            lambda: self.inner.record_replay(topic, started_at, run_id, ranges, counts, declared),
            "cassandra",
        )  # fmt: skip

    def send_rebase(
        self, old: Checkpoint, new: Checkpoint, entries: Sequence[LedgerEntry]
    ) -> FakePending:
        return self.faults.send(
            "ledger.send_rebase",
            lambda: self.inner.send_rebase(old, new, entries),
            CassandraUnavailableError,
        )

    def send_recovery(self, recovery: Recovery) -> FakePending:
        return self.faults.send(
            "ledger.send_recovery",
            lambda: self.inner.send_recovery(recovery),
            CassandraUnavailableError,
        )

    def read_at(
        self, topic: str, partition: int, places: Collection[EntryPlace]
    ) -> list[LedgerEntry]:
        return _call(
            self.faults, "ledger.read_at",
            lambda: self.inner.read_at(topic, partition, places), "cassandra",
        )  # fmt: skip


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


@dataclass(slots=True)
class FailingDeclarations:
    inner: FakeDeclarations
    faults: Faults

    def keep_declaration(self, declaration: Declaration) -> None:
        _call(
            self.faults, "declarations.keep_declaration",
            lambda: self.inner.keep_declaration(declaration), "cassandra",
        )  # fmt: skip

    def read_declarations(self) -> list[KeptDeclaration]:
        return self.inner.read_declarations()
