"""The checkpoint and what is written beside it: conditional writes, serial reads."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from iot_pipeline.clients.cassandra_answers import PendingAnswer, all_rows
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
from iot_pipeline.core.ledger.chain import Commit, Counts, LedgerEntry, LedgerState
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.ledger.losses import Recovery
from iot_pipeline.core.reading.fingerprints import Fingerprint
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange

_CHECKPOINT = (
    f"SELECT next_offset, current_epoch, topic_id, fingerprint FROM {LEDGER} {OF_PARTITION} LIMIT 1"
)
_FIRST_CONTACT = (
    f"UPDATE {LEDGER} SET next_offset = ?, current_epoch = ?, topic_id = ? {OF_PARTITION} "
    "IF next_offset = null"
)
_UNMOVED = "IF next_offset = ? AND topic_id = ? AND current_epoch = ?"
_MOVE_CHECKPOINT = f"UPDATE {LEDGER} SET next_offset = ? {OF_PARTITION} {_UNMOVED}"
_MOVE_WITH_FINGERPRINT = (
    f"UPDATE {LEDGER} SET next_offset = ?, fingerprint = ? {OF_PARTITION} {_UNMOVED}"
)
# A new epoch has read nothing yet.
_REBASE = (
    f"UPDATE {LEDGER} SET next_offset = ?, topic_id = ?, current_epoch = ?, fingerprint = null "
    f"{OF_PARTITION} "
    f"{_UNMOVED}"
)
_WRITE_ENTRY = (
    f"UPDATE {LEDGER} SET {', '.join(f'{column} = ?' for column in ENTRY_COLUMNS)} "
    f"{OF_PARTITION} AND epoch = ? AND start_offset = ?"
)
_REPLACE_ENTRY = f"{_WRITE_ENTRY} IF outcome = ? AND end_offset = ?"
_DROP_WITHIN = (
    f"DELETE FROM {LEDGER} {OF_PARTITION} AND epoch = ? AND start_offset > ? AND start_offset < ?"
)


# Each is a round of Paxos.
_CHECKPOINTS_AT_ONCE = 32


def _doing(topic: str, partition: int) -> str:
    return f"reading the checkpoint of {topic}[{partition}]"


class CassandraLedgerStore(LedgerReads):
    """A `LedgerStore`; conditional writes on one Cassandra partition per Kafka partition."""

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        # One serial read per partition: after a crash a plain read misses what Paxos had
        # accepted (measured after a kill -9: 60,500 read, 61,000 accepted), and the next
        # conditional write would be refused.
        found = {}
        for at in range(0, len(partitions), _CHECKPOINTS_AT_ONCE):
            # Many on their way: a thousand, one after the other, take seconds.
            some = partitions[at : at + _CHECKPOINTS_AT_ONCE]
            asked = {p: self._start_serial(_CHECKPOINT, (topic, p), _doing(topic, p)) for p in some}
            for partition, pending in asked.items():
                checkpoint = self._as_checkpoint(partition, self._client.finish(pending))
                if checkpoint is not None:
                    found[partition] = checkpoint
        return found

    def _read_checkpoint(
        self, topic: str, partition: int, timeout_seconds: float | None = None
    ) -> Checkpoint | None:
        rows = self._run(
            _CHECKPOINT,
            (topic, partition),
            doing=_doing(topic, partition),
            serial=True,
            timeout_seconds=timeout_seconds,
        )
        return self._as_checkpoint(partition, rows)

    def _as_checkpoint(self, partition: int, rows: Sequence[Any]) -> Checkpoint | None:
        if not rows or rows[0].next_offset is None:
            return None
        row = rows[0]
        known = Fingerprint(*row.fingerprint) if row.fingerprint else None
        return Checkpoint(partition, row.next_offset, row.current_epoch, row.topic_id, known)

    @property
    def keyspace(self) -> str:
        return self._client.keyspace

    def owner(self) -> str | None:
        return CassandraSchema(self._client).owner()

    def first_contact(self, topic: str, checkpoints: Sequence[Checkpoint]) -> None:
        for at in range(0, len(checkpoints), _CHECKPOINTS_AT_ONCE):
            sent = [
                self._start(
                    _FIRST_CONTACT,
                    (new.next_offset, new.epoch, new.topic_id, topic, new.partition),
                    f"setting the first checkpoint of {topic}[{new.partition}]",
                    all_rows,
                )
                for new in checkpoints[at : at + _CHECKPOINTS_AT_ONCE]
            ]
            for pending in sent:
                self._client.finish(pending)

    def send_commit(self, commit: Commit) -> PendingAnswer[Any]:
        """The conditional batch moves the checkpoint and extends the run's row."""
        place = (commit.topic, commit.partition)
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
            commit.cause,
            commit.declaration,
        )
        where = (*place, commit.expected, commit.topic_id, commit.epoch)
        move: tuple[str, tuple[Any, ...]] = (_MOVE_CHECKPOINT, (commit.end, *where))
        if commit.fingerprint is not None:
            move = (_MOVE_WITH_FINGERPRINT, (commit.end, tuple(commit.fingerprint), *where))
        return self._send(
            [move, (_WRITE_ENTRY, _entry_values(entry))],
            f"committing {commit.topic}[{commit.partition}] at {commit.end}",
            is_conditional=True,
        )

    def send_rebase(
        self, old: Checkpoint, new: Checkpoint, entries: Sequence[LedgerEntry]
    ) -> PendingAnswer[Any]:
        topic = entries[0].topic
        after = (new.next_offset, new.topic_id, new.epoch)
        before = (old.next_offset, old.topic_id, old.epoch)
        return self._send(
            [
                (_REBASE, (*after, topic, old.partition, *before)),
                *((_WRITE_ENTRY, _entry_values(entry)) for entry in entries),
            ],
            f"rebasing {topic}[{old.partition}] to {new.next_offset}",
            is_conditional=True,
        )

    def send_recovery(self, recovery: Recovery) -> PendingAnswer[Any]:
        # The first entry begins where the loss does, so its row is the one to be as it was.
        loss, (first, *others) = recovery.loss, recovery.entries
        as_it_was = (loss.outcome.value, loss.end_offset)
        return self._send(
            [
                (_REPLACE_ENTRY, (*_entry_values(first), *as_it_was)),
                *((_WRITE_ENTRY, _entry_values(entry)) for entry in others),
            ],
            f"ingesting {recovery.ingested.offsets} of {loss.topic}, which was {loss.outcome}",
            is_conditional=True,
        )

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        place = (commit.topic, commit.partition)

        def read(cql: str, values: tuple[object, ...]) -> LedgerEntry | None:
            return entry_of(
                self._run(
                    cql,
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
        declared: DeclaredReplay | None = None,
    ) -> None:
        row = {"topic": topic, "started_at": started_at, "run_id": run_id}
        if declared is not None:
            row |= {"declaration": declared.declaration, "topic_id": declared.topic_id}
        row |= {"ranges": [str(item) for item in ranges]}
        row |= dict(zip(COUNT_COLUMNS, _counts_values(counts), strict=True))
        self._insert(REPLAYS, row, doing=f"recording the replay {run_id}")

    def write_fold(self, folded: LedgerEntry) -> None:
        """One batch on one Cassandra partition: a reader sees the old entries or the new one.

        What is left behind is one range tombstone; one per entry would be 17,280 a day, and
        Cassandra refuses a read over 100,000 of them.
        """
        place = (folded.topic, folded.partition, folded.epoch)
        # Strictly above the start: of a deletion and a write in one batch the deletion wins.
        within = (*place, folded.start_offset, folded.end_offset)
        pending = self._send(
            [(_DROP_WITHIN, within), (_WRITE_ENTRY, _entry_values(folded))],
            f"folding the ledger of {folded.topic}[{folded.partition}]",
        )
        self._client.finish(pending)


def _counts_values(counts: Counts) -> tuple[Any, ...]:
    """In the order of COUNT_COLUMNS."""
    by_day = dict(counts.stored_by_day), dict(counts.cells_by_day)
    return (*counts.by_fate().values(), *by_day)


def _entry_values(entry: LedgerEntry) -> tuple[Any, ...]:
    """Of `_WRITE_ENTRY`: what the entry says, in the order of ENTRY_COLUMNS, and its place."""
    return (
        entry.end_offset,
        entry.outcome.value,
        entry.cause,
        entry.run_id,
        entry.writer_id,
        *_counts_values(entry.counts),
        entry.counts.first_record_ms,
        entry.counts.last_record_ms,
        entry.updated_at,
        entry.declaration,
        entry.topic,
        entry.partition,
        entry.epoch,
        entry.start_offset,
    )
