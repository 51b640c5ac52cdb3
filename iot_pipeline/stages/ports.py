"""What the stages need from the outside, as Protocols: a log to read, a store to write.

One contract suite per port runs on the fake and on the real client (iot_pipeline_tests/stages).
Every method may raise TransientError (try again) or PermanentError (tell a person); none retries.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol
from uuid import UUID, uuid4

from iot_pipeline.core.ledger.chain import Commit, Counts, LedgerEntry, LedgerState
from iot_pipeline.core.ledger.losses import Acknowledgement
from iot_pipeline.core.proof.audit import AuditResult, RawRecords
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import Place, StoredRow
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.decoding import DeadLetter, Record
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, TopicInfo, Watermarks
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.errors import PipelineError


class RecordLog(Protocol):
    """The topic as a whole: its identity and its ends."""

    def describe(self, topic: str) -> TopicInfo: ...

    def topic_id(self, topic: str) -> str:
        """The topic's UUID alone, cheap enough to ask after every micro-batch."""

    def watermarks(self, topic: str) -> list[Watermarks]:
        """One per Kafka partition, in order, low and last stable offset as of now."""

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        """Per partition the first offset whose record arrived at or after `moment`."""

    def mirror(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        """Commit offsets to the consumer group, for lag tools only."""


class RecordSource(Protocol):
    """Reads exactly the ranges it was made for, as a read_committed consumer."""

    def poll(self, timeout_seconds: float) -> list[Record]:
        """The next records, each partition's in the order of its offsets; maybe none in time.

        Records of finished ranges never come; a partition's range is finished when everything
        up to its end was given out or does not exist. A poll that raises TransientError has
        taken nothing: the next one goes on where it was.
        """

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        """As `poll`, for who takes many: without an object for each record."""

    @property
    def finished(self) -> frozenset[int]: ...

    @property
    def at_end(self) -> Mapping[int, int]:
        """Partitions whose log had no more records after the last one given out, as of then.

        With the offset at which the log ended: what lies between is holes.
        """

    def close(self) -> None: ...


class RecordLogReader(RecordLog, Protocol):
    """A log that can also be read."""

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> RecordSource: ...

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        """The records at (partition, offset), each a record that exists."""

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        """Committed records inside ranges that were read as holes: always a defect."""


class Pending(Protocol):
    """A write on its way. `error` is set when it is done and was not acknowledged."""

    @property
    def done(self) -> bool: ...

    @property
    def error(self) -> PipelineError | None: ...


class PendingCommit(Pending, Protocol):
    """A conditional write on its way."""

    @property
    def applied(self) -> bool:
        """Whether the condition held; asked when it is done without an error."""


class ReadingStore(Protocol):
    """Rows of readings, idempotent: the same row again changes nothing."""

    def send_rows(self, device_id: str, day_number: int, rows: RowsByTime) -> Pending:
        """Start writing rows of one Cassandra partition, all of them in one batch."""

    def send_merged(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> Pending:
        """Start writing (device_id, day_number, rows) of a few Cassandra partitions as one."""

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> Pending:
        """Start noting that these devices have rows on this day; device_id -> produced_ms."""

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""


class PendingRows(Pending, Protocol):
    """Rows on their way."""

    @property
    def found(self) -> list[tuple[int, StoredRow]]:
        """(timestamp_ms, row), asked when it is done without an error."""


class RowReader(Protocol):
    """Rows of readings, as they are stored, with the write time of each cell."""

    def start_range(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, limit: int
    ) -> PendingRows:
        """Start reading rows of one Cassandra partition from first_ms to last_ms, both inclusive.

        At most `limit` of them, the newest first; `limit` is at most MAX_ROWS_PER_READ.
        """

    def start_times(self, device_id: str, day_number: int, times_ms: Sequence[int]) -> PendingRows:
        """Start reading the rows that have exactly these timestamps, at most MAX_TIMES_PER_READ."""

    def wait(self, timeout_seconds: float) -> None: ...


class PendingSums(Pending, Protocol):
    """Sums over one Cassandra partition on their way."""

    @property
    def found(self) -> tuple[int, int, int]:
        """Rows, and the sums of the write times of their two cells, each modulo 2**64."""


class AuditRows(RowReader, Protocol):
    """Rows one by one, or added up where they are."""

    def start_sums(self, device_id: str, day_number: int) -> PendingSums:
        """Start adding up the rows of one partition; one answer, however many they are."""


# One page each: the second page of an answer would be a second wait.
MAX_ROWS_PER_READ = 5_000
MAX_TIMES_PER_READ = 100


class LedgerStore(Protocol):
    """The checkpoint and the ledger. Reads of the checkpoint are serial."""

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        """Those that exist, by partition."""

    def first_contact(self, topic: str, checkpoint: Checkpoint) -> None:
        """Set a checkpoint where there is none; somebody else's stands."""

    def send_commit(self, commit: Commit) -> PendingCommit: ...

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        """What the ledger says now, read serially, to decide a commit of unknown outcome.

        Three questions; each may take `timeout_seconds`, or as long as any other.
        """

    def read_entries(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[LedgerEntry]:
        """The ledger, newest epoch and offset first within each partition."""

    def record_replay(
        self,
        topic: str,
        started_at: datetime,
        run_id: str,
        ranges: Sequence[OffsetRange],
        counts: Counts,
    ) -> None:
        """Remember a replay; again with the same started_at and run_id as it goes on.

        `counts.stored_by_day` holds only rows that no ledger has counted yet: what was ingested
        is counted by its run, and writing it again makes no row more.
        """

    def wait(self, timeout_seconds: float) -> None: ...


class LedgerEnds(Protocol):
    """The newest entries of the ledger alone."""

    def read_newest(
        self, topic: str, partitions: Sequence[int], limit: int = 1
    ) -> list[LedgerEntry]: ...


class Acknowledgements(Protocol):
    """Which losses a person has seen."""

    def acknowledged_losses(self, topic: str) -> Mapping[str, Acknowledgement]: ...


class Count(Pending, Protocol):
    """Rows of one Cassandra partition, being counted."""

    @property
    def rows(self) -> int: ...


class RowCounts(Protocol):
    """Counts rows, one Cassandra partition at a time."""

    def devices(self, day: date) -> list[str]: ...
    def send_count(self, device_id: str, day: date) -> Count: ...
    def wait(self, timeout_seconds: float) -> None: ...


class AuditLog(Protocol):
    """The audit's own reading of topics."""

    def read(self, topic: str, ranges: Sequence[OffsetRange]) -> Iterator[RawRecords]: ...

    def letter_places(
        self, dead_letter_topic: str, ranges: Sequence[OffsetRange], topic: str, topic_id: str
    ) -> Iterator[tuple[int, int]]: ...


class AuditStore(Protocol):
    """Which rows there may be, what was deleted on purpose, what audits proved."""

    def devices_of(self, day_number: int) -> list[str]: ...
    def all_places(self) -> Iterator[Place]: ...
    def read_deletions(self) -> list[Deletion]: ...
    def record_audit(
        self,
        topic: str,
        topic_id: str,
        audit_id: str,
        started_at: datetime,
        result: AuditResult,
    ) -> None: ...


class DeadLetterSink(Protocol):
    """Where records go that could not be readings."""

    def deliver(self, topic: str, topic_id: str, letters: Sequence[DeadLetter]) -> None:
        """Return when all are acknowledged; the source's coordinates travel in headers."""


@dataclass(frozen=True, slots=True)
class Run:
    """Who drains: a Dagster run id or `cli-<uuid>`, and a uuid that no other process has."""

    run_id: str
    writer_id: UUID = field(default_factory=uuid4)
