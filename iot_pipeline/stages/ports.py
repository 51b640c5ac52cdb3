"""What the stages need from the outside, as Protocols: a log to read, a store to write.

One contract suite per port runs on the fake and on the real client (iot_pipeline_tests/stages).
Every method may raise TransientError (try again) or PermanentError (tell a person); none retries.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID, uuid4

from iot_pipeline.core.checks.schema import Migration
from iot_pipeline.core.checks.topics import TopicPlan
from iot_pipeline.core.fleet.report import LastAudit
from iot_pipeline.core.ingest.run_costs import Place as CostPlace
from iot_pipeline.core.ingest.run_costs import RunCost
from iot_pipeline.core.ingest.stopped import Stop
from iot_pipeline.core.ingest.throttle import SetLimit
from iot_pipeline.core.ingest.traces import BatchTrace
from iot_pipeline.core.ledger.chain import (
    ChainLink,
    Commit,
    Counts,
    LedgerEntry,
    LedgerState,
    Outcome,
)
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.ledger.losses import Acknowledgement, Recovery
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum
from iot_pipeline.core.proof.audit_result import AuditResult
from iot_pipeline.core.proof.audited_days import AuditedDay
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.forgetting import Receipt
from iot_pipeline.core.proof.mended import MendedRow
from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.proof.settling import KeptSettlement
from iot_pipeline.core.proof.stretches import RawRecords
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.formats import Unknown, WriterSchema
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration
from iot_pipeline.core.reading.lag import Held, OpenTransaction
from iot_pipeline.core.reading.messages import DeadLetter, Record
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, TopicInfo, Watermarks
from iot_pipeline.core.reading.spans import (
    Counted,
    PieceCount,
    PieceMean,
    Place,
    PlainRow,
    Span,
    Summed,
)
from iot_pipeline.core.rollups.days import DayRecord, DeletedPart, IngestedPart, ReplayedPart
from iot_pipeline.core.rollups.statistics import Rollup
from iot_pipeline.core.times import Window
from iot_pipeline.errors import PipelineError

if TYPE_CHECKING:
    # Its numpy is a tenth of a second for commands that write no row.
    from iot_pipeline.core.reading.row_groups import RowSlice

T_co = TypeVar("T_co", covariant=True)


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


class SchemaSource(Protocol):
    """The schemas that messages were written by, by the ids that they begin with."""

    def find(self, schema_id: int) -> WriterSchema | Unknown:
        """The schema with an id; Unknown where there is none, or none that can be read."""


class NoSchemas:
    """A `SchemaSource` for formats whose messages name no schema."""

    def find(self, schema_id: int) -> WriterSchema | Unknown:
        return Unknown(f"nothing knows schemas here, and schema {schema_id} was asked for")


class RecordSource(Protocol):
    """Reads exactly the ranges it was made for, as a read_committed consumer."""

    def poll(self, timeout_seconds: float) -> list[Record]:
        """The next records, each partition's in the order of its offsets; maybe none in time.

        Records of finished ranges never come; a partition's range is finished when everything
        up to its end was given out or does not exist. A poll that raises TransientError has
        taken nothing: the next one goes on where it was.

        Trouble of one partition raises nothing: see `stopped`. What was before it comes first.
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

    @property
    def stopped(self) -> Mapping[int, PipelineError]:
        """Partitions that cannot be read on, and why; the others go on."""

    def leave(self, partition: int) -> None:
        """Give out no more of a partition; that of one that was left already changes nothing."""

    def close(self) -> None: ...


class RecordLogReader(RecordLog, Protocol):
    """A log that can also be read."""

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> RecordSource: ...

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        """The records at (partition, offset), each a record that exists."""

    def held_back(self, topic: str, last_stable: Mapping[int, int]) -> dict[int, Held]:
        """By partition, what lies behind the last stable offset; only where something does."""

    def open_transactions(self, topic: str, partitions: Sequence[int]) -> Sequence[OpenTransaction]:
        """Those that hold records of these partitions back, by partition and offset."""

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        """Committed records inside ranges that were read as holes: always a defect."""


class ClusterLog(RecordLogReader, Protocol):
    """A log, and what keeps it."""

    def count_brokers(self) -> int:
        """Those of the cluster that are up."""

    def bytes_per_record(self, topic: str, partition: int, offset: int) -> float | None:
        """What a record takes in the log, by the batch that holds this offset; None: no batch."""


class Pending(Protocol):
    """A write on its way. `error` is set when it is done and was not acknowledged."""

    @property
    def done(self) -> bool: ...

    @property
    def error(self) -> PipelineError | None: ...


class Answer(Pending, Protocol[T_co]):
    """An answer on its way, by the wall clock when it is there; both asked when it is done."""

    @property
    def found(self) -> T_co: ...

    @property
    def answered_at(self) -> float:
        """Seconds since 1970."""


class PendingCommit(Pending, Protocol):
    """A conditional write on its way."""

    @property
    def applied(self) -> bool:
        """Whether the condition held; asked when it is done without an error."""


class ReadingStore(Protocol):
    """Rows of readings, idempotent: the same row again changes nothing."""

    def send_rows(self, rows: "RowSlice") -> Pending:
        """Start writing rows of one Cassandra partition, or of a few, all of them in one batch.

        Slices of one `RowGroups` cost least when they are sent in its order.
        """

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> Pending:
        """Start noting that these devices have rows on this day; device_id -> produced_ms."""

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""


# One page each: the second page of an answer would be a second wait.
MAX_ROWS_PER_READ = 5_000
MAX_TIMES_PER_READ = 100


class SensorData(Protocol):
    """The table of readings: asked by the Cassandra partition, (device_id, day_number).

    A `limit` is at most MAX_ROWS_PER_READ. Cassandra gives up on a statement that meets 100,000
    deleted or expired cells, or that takes too long: `stages.reading.slices` asks so that none
    does, and is what everything else stands on.
    """

    def start_range(self, span: Span, limit: int) -> Answer[Sequence[tuple[int, StoredRow]]]:
        """Start reading (timestamp_ms, row) with the write time of each cell, newest first."""

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> Answer[Sequence[tuple[int, StoredRow]]]:
        """The same of rows with exactly these timestamps, at most MAX_TIMES_PER_READ."""

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> Answer[Sequence[PlainRow]]:
        """Start reading rows without their write times, the oldest first unless it says."""

    def start_sums(self, span: Span) -> Answer[Summed]:
        """Start adding up the newest part of a span; ask on with the rest."""

    def start_count(self, span: Span) -> Answer[Counted]:
        """Start counting the newest part of a span; ask on with the rest.

        Rows; their cells where readings may be told in parts.
        """

    def start_counts(self, span: Span, piece_ms: int) -> Answer[Sequence[PieceCount]]:
        """Start counting by pieces of whole seconds, oldest first; only pieces with any."""

    def start_means(self, span: Span, piece_ms: int) -> Answer[Sequence[PieceMean]]:
        """Start averaging the first quantity by such pieces, oldest first."""

    def all_places(self) -> Iterator[Place]:
        """Every partition, by reading the table's keys: slow, and misses nothing."""

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        """Delete the rows of one day that the deletion covers."""

    def wait(self, timeout_seconds: float) -> None: ...


class DeviceDays(Protocol):
    """Which devices have rows on which UTC days."""

    def days(self) -> list[date]:
        """Those on which any device has, oldest first."""

    def devices(self, day: date) -> list[str]:
        """Those that have rows on that day, by name."""

    def walk(self, day: date, since: str = "") -> Iterator[str]:
        """The same from the name `since` on, found as they are taken: a day may have millions."""

    def count(self, day: date) -> int:
        """How many there are."""

    def days_of(self, device_id: str, window: Window | None = None) -> Iterator[date]:
        """Those of one device that the window touches, newest first, found as they are taken."""


class LedgerStore(Protocol):
    """The checkpoint, the ledger beside it and the ledger of replays.

    Reads of the checkpoint are serial.
    """

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        """Those that exist, by partition."""

    @property
    def keyspace(self) -> str: ...

    def owner(self) -> str | None:
        """The topic that the keyspace was set up for; None: for none."""

    def first_contact(self, topic: str, checkpoints: Sequence[Checkpoint]) -> None:
        """Set checkpoints where there are none, in any order; those that are there stay."""

    def send_commit(self, commit: Commit) -> PendingCommit: ...

    def send_rebase(
        self, old: Checkpoint, new: Checkpoint, entries: Sequence[LedgerEntry]
    ) -> PendingCommit:
        """Start the conditional write that begins a new epoch, and writes these entries with it.

        At least one, all of one Kafka partition: the seam in the old chain, and what the new one
        leaves unread.
        """

    def send_recovery(self, recovery: Recovery) -> PendingCommit:
        """Start the conditional write that puts entries in the place of a loss.

        It is applied only while the loss is in the ledger as `recovery` has it.
        """

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        """What the ledger says now, read serially, to decide a commit of unknown outcome.

        Three questions; each may take `timeout_seconds`, or as long as any other.
        """

    def read_entries(
        self,
        topic: str,
        partitions: Sequence[int],
        since: datetime | None = None,
        *,
        places: Mapping[int, EntryPlace] | None = None,
        outcomes: Collection[Outcome] = (),
        day: date | None = None,
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        """The ledger, newest epoch and offset first within each partition.

        Args:
            since: stop at the first entry last updated before.
            places: by Kafka partition, the entry to end with; older ones are left out.
            outcomes: only those with one of these; empty: all.
            day: only those that stored rows of this UTC day.
            limit: of each partition, however long the ledger is.
        """

    def first_offset(self, topic: str, partition: int, epoch: int) -> int | None:
        """Where the ledger of an epoch begins; None: it has no entry."""

    def read_links(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[ChainLink]:
        """As `read_entries`, for a quarter of the cost: what a walk needs, no more."""

    def read_at(
        self, topic: str, partition: int, places: Collection[EntryPlace]
    ) -> list[LedgerEntry]:
        """Those of the entries that begin just at one of these places, in any order."""

    def stored_by_day(
        self,
        topic: str,
        partitions: Sequence[int],
        days: Sequence[date],
        since: Mapping[int, EntryPlace] | None = None,
        *,
        of_cells: bool = False,
    ) -> Iterator[Mapping[date, int]]:
        """Rows stored on these UTC days by both ledgers: maps that are to be summed.

        `since`: by Kafka partition, the oldest entry that counts. `of_cells`: their cells.
        """

    def ingested_parts(self, topic: str) -> Iterator[IngestedPart]:
        """Every entry, of every incarnation of the topic, read as they are taken."""

    def replayed_parts(self, topic: str) -> Sequence[ReplayedPart]:
        """Every replay; its name is another one when it has gone on."""

    def write_fold(self, folded: LedgerEntry) -> None:
        """Put one entry in the place of all that start within it, at once."""

    def record_replay(
        self,
        topic: str,
        started_at: datetime,
        run_id: str,
        ranges: Sequence[OffsetRange],
        counts: Counts,
        declared: DeclaredReplay | None = None,
    ) -> None:
        """Remember a replay; again with the same started_at and run_id as it goes on.

        `counts.stored_by_day` holds only rows that no ledger has counted yet: what was ingested
        is counted by its run, and writing it again makes no row more. `declared`: it reads by
        another declaration than its ranges were ingested by; None: by that one.
        """

    def declared_replays(self, topic: str) -> Sequence[DeclaredReplay]:
        """Those that read by another declaration, in the order in which they began."""

    def wait(self, timeout_seconds: float) -> None: ...


class LedgerSums(Protocol):
    """What is kept of the ledger's sums, so that its past need not be read again."""

    def read_sums(self, topic: str) -> dict[int, LedgerSum]:
        """The kept ones, by Kafka partition."""

    def write_sum(self, topic: str, kept: LedgerSum) -> None:
        """Keep it in the place of an earlier one."""


class Acknowledgements(Protocol):
    """Which losses a person has seen."""

    def acknowledge_loss(self, topic: str, loss_id: str, reason: str, by: str) -> Acknowledgement:
        """What is kept: the first acknowledgement stays, so it may be an earlier one."""

    def acknowledged_losses(self, topic: str) -> Mapping[str, Acknowledgement]:
        """By loss_id, those that were acknowledged."""


class DeletionLog(Protocol):
    """Readings that were deleted on purpose, remembered for good."""

    def read_deletions(self) -> Sequence[Deletion]: ...

    def start_deletions(self) -> Answer[Sequence[Deletion]]:
        """The same, without waiting."""

    def deleted_parts(self) -> Sequence[DeletedPart]:
        """The same, as the rollups of days take them."""

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: Mapping[date, int]
    ) -> None:
        """Written before the rows go, so that none goes unexplained."""


class Receipts(Protocol):
    """Devices that were forgotten; each is a deletion, too, from the moment it is begun."""

    def read_receipts(self) -> Sequence[Receipt]: ...

    def keep_receipt(self, receipt: Receipt) -> None:
        """In the place of one of the same device and moment."""


class MendLog(Protocol):
    """Torn rows that were written again whole, remembered for good."""

    def read_mended(self) -> Sequence[MendedRow]: ...

    def record_mend(self, mended: MendedRow, mended_at: datetime, mended_by: str) -> None:
        """Written before the row is; again, the same."""


class Audits(Protocol):
    """What audits proved."""

    def record_audit(
        self,
        topic: str,
        topic_id: str,
        audit_id: str,
        started_at: datetime,
        result: AuditResult,
    ) -> None:
        """Keep what it found of every offset."""

    def record_days(self, topic: str, started_at: datetime, days: Iterable[AuditedDay]) -> None:
        """Keep what an audit found of each day that it covered: the newest audit's stays."""

    def read_audited_days(self, topic: str) -> Mapping[date, AuditedDay]:
        """Of each day that an audit has covered whole, what the newest one found."""

    def read_last_audit(self, topic: str) -> LastAudit | None:
        """The newest audit of the topic, None when there was none."""


class Settlements(Protocol):
    """Why days have fewer rows than the ledger stored, as far as it was found out."""

    def read_settlement(self, topic: str, day: date) -> KeptSettlement:
        """An empty one where nothing is kept."""

    def keep_settlement(self, topic: str, day: date, kept: KeptSettlement) -> None:
        """In the place of an earlier one."""


class RunCosts(Protocol):
    """What runs cost, by topic, lane and mode."""

    def read_costs(
        self, topic: str, places: Sequence[CostPlace], most: int
    ) -> Mapping[CostPlace, Sequence[RunCost]]:
        """Of each place the newest ones, newest first; of the last ninety days."""

    def keep_cost(self, topic: str, place: CostPlace, cost: RunCost) -> None:
        """The same run and time again is one."""


class Stops(Protocol):
    """Which Kafka partitions runs had to leave, and why: the newest of each."""

    def read_stops(self, topic: str) -> list[Stop]:
        """In the order of partitions; they may have been drained on since."""

    def keep_stop(self, topic: str, stop: Stop) -> None:
        """In the place of an earlier one."""


class Throttles(Protocol):
    """The limit that was set for all runs of a topic, if one was."""

    def read_limit(self, topic: str) -> SetLimit | None: ...

    def start_read(self, topic: str) -> Answer[SetLimit | None]:
        """The same, without waiting."""

    def keep_limit(self, topic: str, kept: SetLimit | None) -> None:
        """In the place of an earlier one; None: nothing is set."""


class Declarations(Protocol):
    """Each declaration of readings that the ledger names, whole, by its fingerprint."""

    def keep_declaration(self, declaration: Declaration) -> None:
        """Before the ledger names it; of one that is kept the first time stays."""

    def read_declarations(self) -> Sequence[KeptDeclaration]:
        """All of them, the latest first."""


class DeviceTables(Protocol):
    """What there is of one device beside its readings; removing is repeated at will."""

    def count_rollups(self, device_id: str, months: Sequence[date]) -> int: ...

    def count_states(self, device_id: str) -> int: ...

    def count_mends(self, device_id: str) -> int: ...

    def delete_rollups(self, device_id: str, months: Sequence[date]) -> None: ...

    def delete_state(self, device_id: str) -> None: ...

    def delete_mends(self, device_id: str) -> None: ...

    def delete_days(self, device_id: str, days: Sequence[date], until_us: int) -> None:
        """Out of the index, as it was noted up to then."""


class AuditLog(Protocol):
    """The audit's own reading of topics."""

    def read(self, topic: str, ranges: Sequence[OffsetRange]) -> Iterator[RawRecords]: ...

    def letter_places(
        self,
        dead_letter_topic: str,
        ranges: Sequence[OffsetRange],
        topic: str,
        topic_id: str,
        on_unreadable: Callable[[OffsetRange], None],
    ) -> Iterator[tuple[int, int]]: ...


class RollupStore(Protocol):
    """The rollups of devices, and what the last rebuild of each day recorded."""

    def send_hours(
        self, device_id: str, day_number: int, hours: Mapping[int, Rollup], write_time_us: int
    ) -> Pending:
        """Start replacing the hours of one device's day; those not given are removed."""

    def send_day(
        self, device_id: str, day_number: int, rollup: Rollup, write_time_us: int
    ) -> Pending:
        """Start replacing one device's day; an empty rollup removes it."""

    def start_hours(
        self, device_id: str, first_day: int, last_day: int
    ) -> Answer[Mapping[int, Rollup]]:
        """Start reading hours of days of one month, both inclusive, by their first millisecond."""

    def start_days(
        self, device_id: str, first_day: int, last_day: int
    ) -> Answer[Mapping[int, Rollup]]:
        """Start reading days of one month, both inclusive, by their first millisecond."""

    def read_records(self, topic: str) -> Mapping[date, DayRecord]: ...

    def record_day(self, topic: str, record: DayRecord) -> None:
        """Keep what a rebuild saw and did, with the write time of its rollups."""

    def wait(self, timeout_seconds: float) -> None: ...


class DeviceStateStore(Protocol):
    """States of devices between runs; what is lost is made again from rows."""

    def read_fleet(self) -> bytes | None:
        """What is kept of the whole fleet."""

    def read_some(self, most: int) -> tuple[dict[str, bytes], bool]:
        """States by device, about twice `most` of them; and whether these are all there are."""

    def start_read(self, device_id: str) -> Answer[bytes | None]: ...

    def write_fleet(self, content: bytes, live_seconds: int, within_seconds: float) -> None:
        """Keep it for that long; raises when that takes longer than it may."""

    def in_batches(self, states: Mapping[str, bytes]) -> Iterator[Mapping[str, bytes]]:
        """The same states in parts, each fit for one `start_write`."""

    def start_write(self, part: Mapping[str, bytes], live_seconds: int) -> Pending:
        """Start keeping states, each in the place of an earlier one, for that long."""

    def wait(self, timeout_seconds: float) -> None: ...


class Traces(Protocol):
    """Where it is told what micro-batches did."""

    def export(self, trace: BatchTrace) -> None:
        """Take it, to be sent later: returns at once, whether or not a collector answers."""

    def close(self) -> None:
        """Send what is left, within a few seconds."""


class DeadLetterSink(Protocol):
    """Where records go that could not be readings."""

    def deliver(self, topic: str, topic_id: str, letters: Sequence[DeadLetter]) -> None:
        """Return when all are acknowledged; the source's coordinates travel in headers."""


class TopicStore(Protocol):
    """Makes topics."""

    def check(self, plan: TopicPlan) -> None:
        """Ask whether the topic could be made; makes nothing.

        Raises:
            MissingRightError: there is none of that name, and we may not make it.
        """

    def create(self, plan: TopicPlan) -> bool:
        """False when there is one of that name already."""


class TableStore(Protocol):
    """Keyspace, tables and migrations."""

    @property
    def migrations(self) -> Sequence[Migration]:
        """Those of this version, in order."""

    def owner(self) -> str | None:
        """The topic that the keyspace was set up for; None: it was set up for none."""

    def claim(self, topic: str) -> str:
        """The same, `topic` from now on where there was none."""

    def keyspace_replication(self) -> dict[str, str] | None: ...
    def nodes(self) -> dict[str, int]:
        """By datacenter, up or down."""

    def local_datacenter(self) -> str: ...
    def create_keyspace(self, replicas: Mapping[str, int]) -> None: ...
    def create_migrations_table(self) -> None: ...
    def applied_migrations(self) -> dict[int, tuple[str, str]]: ...
    def lock(self, holder: str) -> None: ...
    def unlock(self, holder: str) -> None: ...
    def apply(self, migration: Migration, holder: str) -> None: ...
    def columns(self, table: str) -> dict[str, tuple[str, str]]: ...
    def add_columns(self, table: str, columns: Mapping[str, str]) -> None:
        """Add regular columns of these types, all of them or none."""

    def dropped_columns(self, table: str) -> set[str]:
        """Columns that it had once: what was written before they were dropped stays hidden."""

    def options(self, table: str) -> dict[str, str]: ...
    def commitlog_modes(self) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class Run:
    """Who drains: a Dagster run id or `cli-<uuid>`, and a uuid that no other process has."""

    run_id: str
    writer_id: UUID = field(default_factory=uuid4)
