"""The checkpoint, the ledger beside it, and who writes it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol
from uuid import UUID, uuid4

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
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.core.rollups.days import IngestedPart, ReplayedPart
from iot_pipeline.stages.ports.answers import PendingCommit


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


@dataclass(frozen=True, slots=True)
class Run:
    """Who drains: a Dagster run id or `cli-<uuid>`, and a uuid that no other process has."""

    run_id: str
    writer_id: UUID = field(default_factory=uuid4)
