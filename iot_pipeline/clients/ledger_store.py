"""The checkpoint and the ledger in Cassandra: conditional writes, serial reads."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from iot_pipeline.clients.cassandra import (
    PLAIN_TUPLES,
    CassandraClient,
    PendingAnswer,
    unlogged_batch,
)
from iot_pipeline.core.ledger.chain import (
    ChainLink,
    Commit,
    Counts,
    LedgerEntry,
    LedgerState,
    Outcome,
)
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange

_CHECKPOINT = (
    "SELECT next_offset, current_epoch, topic_id FROM {ks}.ingest_ledger "
    "WHERE topic = ? AND kafka_partition = ? LIMIT 1"
)
_FIRST_CONTACT = (
    "UPDATE {ks}.ingest_ledger SET next_offset = ?, current_epoch = ?, topic_id = ? "
    "WHERE topic = ? AND kafka_partition = ? IF next_offset = null"
)
_MOVE_CHECKPOINT = (
    "UPDATE {ks}.ingest_ledger SET next_offset = ? WHERE topic = ? AND kafka_partition = ? "
    "IF next_offset = ? AND topic_id = ? AND current_epoch = ?"
)
_REBASE = (
    "UPDATE {ks}.ingest_ledger SET next_offset = ?, topic_id = ?, current_epoch = ? "
    "WHERE topic = ? AND kafka_partition = ? "
    "IF next_offset = ? AND topic_id = ? AND current_epoch = ?"
)
_WRITE_ENTRY = (
    "UPDATE {ks}.ingest_ledger SET end_offset = ?, outcome = ?, run_id = ?, writer_id = ?, "
    "stored = ?, superseded = ?, rejected = ?, aged_out = ?, holes = ?, stored_by_day = ?, "
    "first_record_at = ?, last_record_at = ?, updated_at = ? "
    "WHERE topic = ? AND kafka_partition = ? AND epoch = ? AND start_offset = ?"
)
_ENTRY_COLUMNS = (
    "topic, kafka_partition, epoch, start_offset, end_offset, outcome, run_id, writer_id, stored, "
    "superseded, rejected, aged_out, holes, stored_by_day, first_record_at, last_record_at, "
    "updated_at"
)
ENTRIES = (
    f"SELECT {_ENTRY_COLUMNS} FROM {{ks}}.ingest_ledger WHERE topic = ? AND kafka_partition = ?"
)
ENTRY_AT = f"{ENTRIES} AND epoch = ? AND start_offset = ?"
# No map, no time, no uuid: those are four fifths of what reading an entry costs the client.
_LINKS = (
    "SELECT kafka_partition, epoch, start_offset, end_offset, outcome, run_id, stored, superseded, "
    "rejected, aged_out, holes{more} FROM {ks}.ingest_ledger "
    "WHERE topic = ? AND kafka_partition = ?"
)
_PARTITIONS = "SELECT DISTINCT topic, kafka_partition FROM {ks}.ingest_ledger"
# Whoever asks for what is new stops soon: most of a page of 5,000 would be decoded in vain.
_NEW_ROWS_PER_PAGE = 200
_DROP_WITHIN = (
    "DELETE FROM {ks}.ingest_ledger WHERE topic = ? AND kafka_partition = ? AND epoch = ? "
    "AND start_offset > ? AND start_offset < ?"
)
_RECORD_REPLAY = (
    "INSERT INTO {ks}.replay_ledger (topic, started_at, run_id, ranges, stored, superseded, "
    "rejected, aged_out, holes, stored_by_day) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


class CassandraLedgerStore:
    """Conditional writes on one partition of `ingest_ledger` per Kafka partition."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def _cql(self, template: str) -> str:
        return template.format(ks=self._client.keyspace)

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        """Those that exist, by partition, read serially."""
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

    def first_contact(self, topic: str, checkpoint: Checkpoint) -> None:
        """Set a checkpoint where there is none; somebody else's stands."""
        self._client.execute(
            self._cql(_FIRST_CONTACT),
            (
                checkpoint.next_offset,
                checkpoint.epoch,
                checkpoint.topic_id,
                topic,
                checkpoint.partition,
            ),
            doing=f"setting the first checkpoint of {topic}[{checkpoint.partition}]",
        )

    def send_commit(self, commit: Commit) -> PendingAnswer:
        """Start the conditional batch that moves the checkpoint and extends the run's row."""

        def make() -> object:
            move = self._client.prepare(self._cql(_MOVE_CHECKPOINT))
            write = self._client.prepare(self._cql(_WRITE_ENTRY))
            batch = self._client.conditional_batch()
            batch.add(
                move,
                (
                    commit.end,
                    commit.topic,
                    commit.partition,
                    commit.expected,
                    commit.topic_id,
                    commit.epoch,
                ),
            )
            batch.add(
                write,
                (
                    commit.end,
                    commit.outcome.value,
                    commit.run_id,
                    commit.writer_id,
                    *_counts_values(commit.counts),
                    commit.counts.first_record_ms,
                    commit.counts.last_record_ms,
                    datetime.now(UTC),
                    commit.topic,
                    commit.partition,
                    commit.epoch,
                    commit.run_start,
                ),
            )
            return batch

        return self._client.start(
            make, f"committing {commit.topic}[{commit.partition}] at {commit.end}"
        )

    def send_rebase(
        self, topic: str, old: Checkpoint, new: Checkpoint, run_id: str, writer_id: UUID
    ) -> PendingAnswer:
        """Start the conditional batch that begins a new epoch and shows the seam in the old one."""

        def make() -> object:
            batch = self._client.conditional_batch()
            batch.add(
                self._client.prepare(self._cql(_REBASE)),
                (
                    new.next_offset,
                    new.topic_id,
                    new.epoch,
                    topic,
                    old.partition,
                    old.next_offset,
                    old.topic_id,
                    old.epoch,
                ),
            )
            # At the end of the old chain, where no run will ever write again: the first run of
            # the new epoch has a row of its own.
            batch.add(
                self._client.prepare(self._cql(_WRITE_ENTRY)),
                (
                    old.next_offset,
                    Outcome.REBASED.value,
                    run_id,
                    writer_id,
                    *_counts_values(Counts()),
                    None,
                    None,
                    datetime.now(UTC),
                    topic,
                    old.partition,
                    old.epoch,
                    old.next_offset,
                ),
            )
            return batch

        return self._client.start(make, f"rebasing {topic}[{old.partition}] to {new.next_offset}")

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        """What the ledger says now, read serially, to decide a commit of unknown outcome.

        Three questions; each may take `timeout_seconds`, or as long as any other.
        """
        doing = f"reading the ledger of {commit.topic}[{commit.partition}]"
        checkpoint = self._read_checkpoint(commit.topic, commit.partition, timeout_seconds)
        place = (commit.topic, commit.partition)
        own = self._client.execute(
            self._cql(ENTRY_AT),
            (*place, commit.epoch, commit.run_start),
            doing=doing,
            serial=True,
            timeout_seconds=timeout_seconds,
        )
        newest = self._client.execute(
            self._cql(ENTRIES) + " LIMIT 1",
            place,
            doing=doing,
            serial=True,
            timeout_seconds=timeout_seconds,
        )
        return LedgerState(checkpoint, entry_of(own), entry_of(newest))

    def partitions(self, topic: str) -> list[int]:
        """Kafka partitions the ledger knows, in order; asked of Cassandra alone."""
        # Keys of a table that has one partition per Kafka partition: a few hundred at most.
        rows = self._client.execute(
            self._cql(_PARTITIONS), doing=f"looking for the ledger of {topic}"
        )
        return sorted(row.kafka_partition for row in rows if row.topic == topic)

    def read_entries(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[LedgerEntry]:
        """The ledger, newest epoch and offset first within each partition.

        Args:
            topic: its name.
            partitions: which.
            since: stop at the first entry last updated before; None: all there are.
        """
        entries = []
        for partition in partitions:
            rows = self._client.stream(
                self._cql(ENTRIES),
                (topic, partition),
                doing=f"reading the ledger of {topic}[{partition}]",
                page_rows=_NEW_ROWS_PER_PAGE if since else None,
            )
            for row in rows:
                entry = entry_of([row])
                if entry is None:
                    continue
                if since and entry.updated_at and entry.updated_at < since:
                    break
                entries.append(entry)
        return entries

    def read_links(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[ChainLink]:
        """The ledger, newest first within each partition: what a walk needs, no more.

        Args:
            topic: its name.
            partitions: which.
            since: stop at the first entry last updated before; None: all there are.
        """
        # A number: decoding a time costs the client as much as the rest of a link.
        more = ", to_unix_timestamp(updated_at)" if since else ""
        cql = _LINKS.format(ks=self._client.keyspace, more=more)
        before_ms = since.timestamp() * 1000 if since else 0.0
        links = []
        for partition in partitions:
            for (
                place, epoch, start, end, outcome, run_id,
                stored, superseded, rejected, aged_out, holes, *updated_ms,
            ) in self._client.stream(
                cql,
                (topic, partition),
                doing=f"walking the ledger of {topic}[{partition}]",
                profile=PLAIN_TUPLES,
                page_rows=_NEW_ROWS_PER_PAGE if since else None,
            ):  # fmt: skip
                # The checkpoint is static and outlives every row.
                if start is None:
                    continue
                if updated_ms and updated_ms[0] and updated_ms[0] < before_ms:
                    break
                links.append(
                    ChainLink(
                        place, epoch, start, end, _OUTCOMES[outcome], run_id,
                        stored or 0, superseded or 0, rejected or 0, aged_out or 0, holes or 0,
                    )
                )  # fmt: skip
        return links

    def read_newest(
        self, topic: str, partitions: Sequence[int], limit: int = 1
    ) -> list[LedgerEntry]:
        """The newest entries of each partition, so many at most, however long the ledger is."""
        found = (
            entry_of([row])
            for partition in partitions
            for row in self._client.execute(
                f"{self._cql(ENTRIES)} LIMIT ?",
                (topic, partition, limit),
                doing=f"reading the newest entries of {topic}[{partition}]",
            )
        )
        return [entry for entry in found if entry is not None]

    def record_replay(
        self,
        topic: str,
        started_at: datetime,
        run_id: str,
        ranges: Sequence[OffsetRange],
        counts: Counts,
    ) -> None:
        """Remember a replay: its ranges and what it stored, so that row counts still add up."""
        self._client.execute(
            self._cql(_RECORD_REPLAY),
            (topic, started_at, run_id, [str(item) for item in ranges], *_counts_values(counts)),
            doing=f"recording the replay {run_id}",
        )

    def write_fold(self, folded: LedgerEntry) -> None:
        """Put one entry in the place of all that start within it, at once.

        One batch on one Cassandra partition: a reader sees the old entries or the new one. What
        is left behind is one range tombstone; one per entry would be 17,280 a day, and Cassandra
        refuses a read over 100,000 of them.
        """
        place = (folded.topic, folded.partition, folded.epoch)
        write = self._client.prepare(self._cql(_WRITE_ENTRY))
        drop = self._client.prepare(self._cql(_DROP_WITHIN))
        batch = unlogged_batch()
        # Strictly above the start: of a deletion and a write in one batch the deletion wins.
        batch.add(drop, (*place, folded.start_offset, folded.end_offset))
        batch.add(
            write,
            (
                folded.end_offset,
                folded.outcome.value,
                folded.run_id,
                folded.writer_id,
                *_counts_values(folded.counts),
                folded.counts.first_record_ms,
                folded.counts.last_record_ms,
                folded.updated_at,
                *place,
                folded.start_offset,
            ),
        )
        pending = self._client.start(
            lambda: batch, f"folding the ledger of {folded.topic}[{folded.partition}]"
        )
        self._client.finish(pending)


def _days_of(row: Any) -> dict[date, int]:
    return {day.date(): rows for day, rows in (row.stored_by_day or {}).items()}


def _counts_values(counts: Counts) -> tuple[Any, ...]:
    by_day: Mapping[date, int] = counts.stored_by_day
    return (
        counts.stored,
        counts.superseded,
        counts.rejected,
        counts.aged_out,
        counts.holes,
        dict(by_day),
    )


def entry_of(rows: Sequence[Any]) -> LedgerEntry | None:
    """What the first of these rows of `ENTRIES` says; None where there is none."""
    # The checkpoint is static and outlives every row: a partition without rows still answers
    # with one that has no start_offset.
    if not rows or rows[0].start_offset is None:
        return None
    row = rows[0]
    return LedgerEntry(
        topic=row.topic,
        partition=row.kafka_partition,
        epoch=row.epoch,
        start_offset=row.start_offset,
        end_offset=row.end_offset,
        outcome=Outcome(row.outcome),
        run_id=row.run_id,
        writer_id=row.writer_id,
        counts=Counts(
            row.stored or 0,
            row.superseded or 0,
            row.rejected or 0,
            row.aged_out or 0,
            row.holes or 0,
            _days_of(row),
            _ms_of(row.first_record_at),
            _ms_of(row.last_record_at),
        ),
        updated_at=row.updated_at.replace(tzinfo=UTC) if row.updated_at else None,
    )


def _ms_of(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)
