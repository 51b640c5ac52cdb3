"""The checkpoint and what is written beside it: conditional writes, serial reads."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from iot_pipeline.clients.cassandra import PendingAnswer, unlogged_batch
from iot_pipeline.clients.ledger_reads import (
    COUNT_COLUMNS,
    ENTRIES,
    ENTRY_AT,
    ENTRY_COLUMNS,
    LEDGER,
    OF_PARTITION,
    REPLAYS,
    LedgerReads,
    entry_of,
)
from iot_pipeline.clients.schema_store import CassandraSchema
from iot_pipeline.core.ledger.chain import Commit, Counts, LedgerEntry, LedgerState, Outcome
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange

_CHECKPOINT = f"SELECT next_offset, current_epoch, topic_id FROM {LEDGER} {OF_PARTITION} LIMIT 1"
_FIRST_CONTACT = (
    f"UPDATE {LEDGER} SET next_offset = ?, current_epoch = ?, topic_id = ? {OF_PARTITION} "
    "IF next_offset = null"
)
_UNMOVED = "IF next_offset = ? AND topic_id = ? AND current_epoch = ?"
_MOVE_CHECKPOINT = f"UPDATE {LEDGER} SET next_offset = ? {OF_PARTITION} {_UNMOVED}"
_REBASE = (
    f"UPDATE {LEDGER} SET next_offset = ?, topic_id = ?, current_epoch = ? {OF_PARTITION} "
    f"{_UNMOVED}"
)
_WRITE_ENTRY = (
    f"UPDATE {LEDGER} SET {', '.join(f'{column} = ?' for column in ENTRY_COLUMNS)} "
    f"{OF_PARTITION} AND epoch = ? AND start_offset = ?"
)
_DROP_WITHIN = (
    f"DELETE FROM {LEDGER} {OF_PARTITION} AND epoch = ? AND start_offset > ? AND start_offset < ?"
)
_RECORD_REPLAY = (
    f"INSERT INTO {REPLAYS} (topic, started_at, run_id, ranges, {', '.join(COUNT_COLUMNS)}) "
    f"VALUES (?, ?, ?, ?, {', '.join('?' * len(COUNT_COLUMNS))})"
)


class CassandraLedgerStore(LedgerReads):
    """A `LedgerStore`; conditional writes on one Cassandra partition per Kafka partition."""

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        # One serial read per partition: after a crash a plain read misses what Paxos had
        # accepted (measured after a kill -9: 60,500 read, 61,000 accepted), and the next
        # conditional write would be refused.
        found = {}
        for partition in partitions:
            checkpoint = self._read_checkpoint(topic, partition)
            if checkpoint is not None:
                found[partition] = checkpoint
        return found

    def _read_checkpoint(
        self, topic: str, partition: int, timeout_seconds: float | None = None
    ) -> Checkpoint | None:
        rows = self._client.execute(
            self._cql(_CHECKPOINT),
            (topic, partition),
            doing=f"reading the checkpoint of {topic}[{partition}]",
            serial=True,
            timeout_seconds=timeout_seconds,
        )
        if not rows or rows[0].next_offset is None:
            return None
        row = rows[0]
        return Checkpoint(partition, row.next_offset, row.current_epoch, row.topic_id)

    @property
    def keyspace(self) -> str:
        return self._client.keyspace

    def owner(self) -> str | None:
        return CassandraSchema(self._client).owner()

    def first_contact(self, topic: str, checkpoint: Checkpoint) -> None:
        self._run(
            _FIRST_CONTACT,
            (
                checkpoint.next_offset,
                checkpoint.epoch,
                checkpoint.topic_id,
                topic,
                checkpoint.partition,
            ),
            doing=f"setting the first checkpoint of {topic}[{checkpoint.partition}]",
        )

    def send_commit(self, commit: Commit) -> PendingAnswer[Any]:
        """Start the conditional batch that moves the checkpoint and extends the run's row."""
        place = (commit.topic, commit.partition)

        def make() -> object:
            batch = self._client.conditional_batch()
            batch.add(
                self._prepare(_MOVE_CHECKPOINT),
                (commit.end, *place, commit.expected, commit.topic_id, commit.epoch),
            )
            entry = LedgerEntry(
                *place,
                commit.epoch,
                commit.run_start,
                commit.end,
                commit.outcome,
                commit.run_id,
                commit.writer_id,
                commit.counts,
                datetime.now(UTC),
            )
            batch.add(self._prepare(_WRITE_ENTRY), _entry_values(entry))
            return batch

        return self._client.start(
            make, f"committing {commit.topic}[{commit.partition}] at {commit.end}"
        )

    def send_rebase(
        self, topic: str, old: Checkpoint, new: Checkpoint, run_id: str, writer_id: UUID
    ) -> PendingAnswer[Any]:
        place = (topic, old.partition)
        # At the end of the old chain, where no run will ever write again: the first run of the new
        # epoch has a row of its own.
        seam = LedgerEntry(
            *place,
            old.epoch,
            old.next_offset,
            old.next_offset,
            Outcome.REBASED,
            run_id,
            writer_id,
            Counts(),
            datetime.now(UTC),
        )

        def make() -> object:
            batch = self._client.conditional_batch()
            after = (new.next_offset, new.topic_id, new.epoch)
            before = (old.next_offset, old.topic_id, old.epoch)
            batch.add(self._prepare(_REBASE), (*after, *place, *before))
            batch.add(self._prepare(_WRITE_ENTRY), _entry_values(seam))
            return batch

        return self._client.start(make, f"rebasing {topic}[{old.partition}] to {new.next_offset}")

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        place = (commit.topic, commit.partition)

        def read(cql: str, values: tuple[object, ...]) -> LedgerEntry | None:
            return entry_of(
                self._client.execute(
                    self._cql(cql),
                    values,
                    doing=f"reading the ledger of {commit.topic}[{commit.partition}]",
                    serial=True,
                    timeout_seconds=timeout_seconds,
                )
            )

        checkpoint = self._read_checkpoint(*place, timeout_seconds)
        own = read(ENTRY_AT, (*place, commit.epoch, commit.run_start))
        return LedgerState(checkpoint, own, read(f"{ENTRIES} LIMIT 1", place))

    def record_replay(
        self,
        topic: str,
        started_at: datetime,
        run_id: str,
        ranges: Sequence[OffsetRange],
        counts: Counts,
    ) -> None:
        self._run(
            _RECORD_REPLAY,
            (topic, started_at, run_id, [str(item) for item in ranges], *_counts_values(counts)),
            doing=f"recording the replay {run_id}",
        )

    def write_fold(self, folded: LedgerEntry) -> None:
        """One batch on one Cassandra partition: a reader sees the old entries or the new one.

        What is left behind is one range tombstone; one per entry would be 17,280 a day, and
        Cassandra refuses a read over 100,000 of them.
        """
        place = (folded.topic, folded.partition, folded.epoch)
        batch = unlogged_batch()
        # Strictly above the start: of a deletion and a write in one batch the deletion wins.
        within = (*place, folded.start_offset, folded.end_offset)
        batch.add(self._prepare(_DROP_WITHIN), within)
        batch.add(self._prepare(_WRITE_ENTRY), _entry_values(folded))
        pending = self._client.start(
            lambda: batch, f"folding the ledger of {folded.topic}[{folded.partition}]"
        )
        self._client.finish(pending)


def _counts_values(counts: Counts) -> tuple[Any, ...]:
    """In the order of COUNT_COLUMNS."""
    return (
        counts.stored,
        counts.superseded,
        counts.rejected,
        counts.aged_out,
        counts.holes,
        dict(counts.stored_by_day),
    )


def _entry_values(entry: LedgerEntry) -> tuple[Any, ...]:
    """Of `_WRITE_ENTRY`: what the entry says, in the order of ENTRY_COLUMNS, and its place."""
    return (
        entry.end_offset,
        entry.outcome.value,
        entry.run_id,
        entry.writer_id,
        *_counts_values(entry.counts),
        entry.counts.first_record_ms,
        entry.counts.last_record_ms,
        entry.updated_at,
        entry.topic,
        entry.partition,
        entry.epoch,
        entry.start_offset,
    )
