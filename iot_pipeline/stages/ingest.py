"""Drain offset ranges into Cassandra in micro-batches, in the order that keeps readings safe.

    consume -> topic UUID still the same? -> decode | reject -> winners
            -> rows and devices_by_day, all acknowledged -> dead letters delivered
            -> checkpoint + ledger row (one conditional write per partition) -> mirror

At-least-once towards the table: a crash between any two of these drains the range again, and the
same record makes the same cells with the same write time. Exactly once in the ledger: the
checkpoint and the run's row move in one conditional write.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from iot_pipeline.core.ingest import (
    MicroBatch,
    MicroBatchBuilder,
    OpenMilliseconds,
    write_time_us,
)
from iot_pipeline.core.ledger import Commit, Counts, Fenced, Rebased, sum_counts
from iot_pipeline.core.offsets import OffsetRange, check_checkpoint_id
from iot_pipeline.core.readings import DeadLetter, ReadingDecoder, ReadingRules, Reason, Record
from iot_pipeline.errors import KafkaUnavailableError, PermanentError, TransientError
from iot_pipeline.stages.commit import commit_all
from iot_pipeline.stages.planning import Plan
from iot_pipeline.stages.ports import (
    DeadLetterSink,
    LedgerStore,
    ReadingStore,
    RecordLogReader,
    Run,
)
from iot_pipeline.stages.retry import retry_transient
from iot_pipeline.stages.row_writer import RowWriter

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# C calls block Terminate and Ctrl-C, so none may take longer (FIELD-NOTES, Dagster 6).
_POLL_SECONDS = 0.1
_BUSY_POLL_SECONDS = 0.002
# Past this many records in one broker millisecond the micro-batch is split inside it.
MAX_RECORDS_OF_ONE_MS = 500_000
# Or past these many bytes of held records, in all partitions together.
MAX_HELD_BYTES = 96 * 1024 * 1024
# Dead letters are kept whole, so many large ones end a micro-batch before its records do.
MAX_KEPT_BYTES = 32 * 1024 * 1024
# One empty poll counts as at most this much silence: the process may have been stopped meanwhile.
_LONGEST_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DrainConfig:
    """How a run drains; the meaning of each is that of the setting with its name."""

    rules: ReadingRules = field(default_factory=ReadingRules)
    micro_batch_records: int = 50_000
    micro_batch_seconds: float = 1.0
    requests_in_flight: int = 64
    retry_seconds: float = 30.0
    retention_days: float = 0.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a drain touches."""

    log: RecordLogReader
    store: ReadingStore
    ledger: LedgerStore
    dead_letters: DeadLetterSink


@dataclass(slots=True)
class DrainProgress:
    """What a run has achieved so far; true after every commit, whatever ends the run.

    `achieved` are the ranges committed, `counts` their sums per partition. `fenced` is not empty
    when another run moved a checkpoint first: this one then stopped, and nothing is wrong.
    """

    planned: list[OffsetRange]
    achieved: dict[int, OffsetRange] = field(default_factory=dict)
    counts: dict[int, Counts] = field(default_factory=dict)
    fenced: list[Fenced] = field(default_factory=list)
    split_ms: int = 0
    unknown_fields: int = 0
    micro_batches: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> Counts:
        return sum_counts(self.counts.values())

    @property
    def ranges(self) -> list[OffsetRange]:
        return [self.achieved[partition] for partition in sorted(self.achieved)]

    @property
    def done_offsets(self) -> int:
        return sum(item.span for item in self.achieved.values())

    @property
    def planned_offsets(self) -> int:
        return sum(item.span for item in self.planned)


def drain(
    plan: Plan,
    ports: Ports,
    run: Run,
    config: DrainConfig,
    *,
    progress: DrainProgress | None = None,
    on_progress: Callable[[DrainProgress], None] = lambda _: None,
    wall_clock: Callable[[], float] = time.time,
) -> DrainProgress:
    """Ingest `plan.ingest`, exactly those offsets, and account for every one of them.

    Args:
        plan: ranges that start at the checkpoints.
        ports: Kafka and Cassandra.
        run: who drains.
        config: sizes and rules.
        progress: filled as the run goes, so that a caller that is interrupted knows what was
            achieved; a new one when None.
        on_progress: called after every commit.
        wall_clock: seconds since 1970, for the retention of rows.

    Raises:
        TopicChangedError: the topic was recreated; nothing of it was written.
        OffsetsExpiredError: Kafka deleted records of the range before they were read.
        CheckpointWentBackError: the ledger is behind what was committed.
        RowsRefusedError: Cassandra refuses too much.
        TransientError: Kafka or Cassandra stayed away for `retry_seconds`.
    """
    progress = progress or DrainProgress(plan.ingest)
    started = time.monotonic()
    try:
        if plan.ingest:
            _Drain(plan, ports, run, config, progress, on_progress, wall_clock).run_to_end()
    finally:
        progress.seconds = time.monotonic() - started
    return progress


class _Drain:
    def __init__(
        self,
        plan: Plan,
        ports: Ports,
        run: Run,
        config: DrainConfig,
        progress: DrainProgress,
        on_progress: Callable[[DrainProgress], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._plan, self._ports, self._run = plan, ports, run
        self._config, self._progress = config, progress
        self._on_progress, self._wall_clock = on_progress, wall_clock
        self._topic = plan.topic.name
        self._ranges = {item.partition: item for item in plan.ingest}
        self._next = {item.partition: item.start for item in plan.ingest}
        self._seen = dict(self._next)
        self._committed = dict(self._next)
        self._open = OpenMilliseconds()
        self._released: set[int] = set()
        self._decoder = ReadingDecoder(config.rules)
        self._writer = RowWriter(ports.store, config.requests_in_flight, config.retry_seconds)
        self._writing: MicroBatch | None = None
        self._source = self._retry(lambda: ports.log.open_ranges(self._topic, plan.ingest))

    def run_to_end(self) -> None:
        try:
            while not self._progress.fenced:
                batch = self._gather()
                self._finish_writing()
                if batch is None or self._progress.fenced:
                    break
                self._check_identity()
                self._check_holes(batch)
                self._writer.begin(batch)
                self._writing = batch
        finally:
            self._source.close()

    # Consuming and decoding overlap the writes of the micro-batch before.

    def _gather(self) -> MicroBatch | None:
        if len(self._released) == len(self._ranges):
            return None
        builder = MicroBatchBuilder(dict(self._next), self._decoder, self._expired_before_ms())
        began = time.monotonic()
        quiet_seconds = 0.0
        while (
            builder.records < self._config.micro_batch_records
            and builder.kept_bytes < MAX_KEPT_BYTES
        ):
            if self._writing is not None and self._writer.pump():
                self._finish_writing()
                if self._progress.fenced:
                    return None
            busy = self._writing is not None
            asked = time.monotonic()
            records, error = self._poll(_BUSY_POLL_SECONDS if busy else _POLL_SECONDS)
            now = time.monotonic()
            # Only time spent waiting for Kafka counts: after a minute of waiting for Cassandra
            # one empty poll says nothing about Kafka.
            quiet_seconds += min(now - asked, _LONGEST_POLL_SECONDS)
            if records:
                quiet_seconds = 0.0
                self._take_in(builder, records)
            for partition in self._source.finished - self._released:
                quiet_seconds = 0.0
                builder.add(self._open.release(partition))
                self._released.add(partition)
            if len(self._released) == len(self._ranges):
                break
            if builder.records and not busy and now - began > self._config.micro_batch_seconds:
                break
            if quiet_seconds > self._config.retry_seconds:
                waiting = sorted(set(self._ranges) - self._source.finished)
                raise KafkaUnavailableError(
                    f"reading {self._topic}: no record of partitions {waiting} for "
                    f"{self._config.retry_seconds:g} s, their ranges end at "
                    f"{[self._ranges[p].end for p in waiting]}; "
                    f"{error or 'is Kafka up? (`iot status`)'}"
                ) from error
        ends = {}
        held = self._open.next_offsets()
        for partition, item in self._ranges.items():
            if partition in self._released:
                ends[partition] = item.end
            else:
                ends[partition] = held.get(partition, self._seen[partition])
        batch = builder.build(ends)
        self._next = dict(ends)
        return batch

    def _poll(self, timeout_seconds: float) -> tuple[list[Record], TransientError | None]:
        try:
            return self._source.poll(timeout_seconds), None
        except TransientError as exc:
            _log.warning("%s; asking again", exc)
            time.sleep(_POLL_SECONDS)
            return [], exc

    def _take_in(self, builder: MicroBatchBuilder, records: list[Record]) -> None:
        by_partition: defaultdict[int, list[Record]] = defaultdict(list)
        for record in records:
            by_partition[record.partition].append(record)
        for partition, arrived in by_partition.items():
            self._seen[partition] = arrived[-1].offset + 1
            builder.add(self._open.pass_closed(arrived))
            if (
                self._open.held(partition) > MAX_RECORDS_OF_ONE_MS
                or self._open.total_bytes > MAX_HELD_BYTES
            ):
                builder.add(self._open.release(partition))
                builder.split_ms += 1

    def _expired_before_ms(self) -> int | None:
        if not self._config.retention_days:
            return None
        return int((self._wall_clock() - self._config.retention_days * 86_400) * 1000)

    # Between consuming and writing.

    def _check_identity(self) -> None:
        topic_id = self._retry(lambda: self._ports.log.topic_id(self._topic))
        for partition in self._ranges:
            check_checkpoint_id(self._topic, self._plan.checkpoints[partition], topic_id)

    def _check_holes(self, batch: MicroBatch) -> None:
        if not batch.holes:
            return
        skipped = self._retry(lambda: self._ports.log.find_skipped(self._topic, batch.holes))
        if skipped:
            partition, offset = skipped[0]
            raise PermanentError(
                f"reading {self._topic}[{partition}]: {len(skipped)} committed records, the first "
                f"at {offset}, were not given to the consumer the first time. Nothing of this "
                "micro-batch was written; run again, and report it if it happens twice"
            )

    # Rows acknowledged -> dead letters delivered -> checkpoint. Never in another order.

    def _finish_writing(self) -> None:
        batch = self._writing
        if batch is None:
            return
        while not self._writer.pump(_POLL_SECONDS):
            pass
        self._writing = None
        letters = batch.dead_letters + self._refused_letters(batch)
        if letters:
            topic_id = self._plan.topic.topic_id
            self._retry(lambda: self._ports.dead_letters.deliver(self._topic, topic_id, letters))
        moved = self._commit(batch)
        self._progress.split_ms += batch.split_ms
        self._progress.unknown_fields = self._decoder.unknown_fields
        self._progress.micro_batches += 1
        self._mirror(moved)
        self._on_progress(self._progress)

    def _refused_letters(self, batch: MicroBatch) -> list[DeadLetter]:
        refused = {(row[1], row[2]): row[0] for row in self._writer.refused}
        if not refused:
            return []
        records = self._retry(lambda: self._ports.log.read_offsets(self._topic, refused))
        found = {
            (record.partition, record.offset): record
            for record in records
            # The topic may have been recreated since the row was made of its record.
            if write_time_us(record.produced_ms, record.offset)
            == refused.get((record.partition, record.offset))
        }
        missing = sorted(refused.keys() - found.keys())
        if missing:
            raise PermanentError(
                f"writing {self._topic}: Cassandra refused {len(refused)} rows, and "
                f"{len(missing)} of their records, the first at {missing[0]}, are not in Kafka any "
                "more, so no dead letter can keep them. Nothing moved; compare the table with "
                "`iot setup`, then run again"
            )
        letters = []
        for place in sorted(found):
            letters.append(
                DeadLetter(found[place], Reason.REJECTED_BY_CASSANDRA, "Cassandra refused the row")
            )
            batch.reject(found[place], self._decoder)
        return letters

    def _commit(self, batch: MicroBatch) -> dict[int, int]:
        commits = []
        for partition, end in batch.ends.items():
            checkpoint = self._plan.checkpoints[partition]
            counts = self._progress.counts.get(partition, Counts()) + batch.counts[partition]
            commits.append(
                Commit(
                    topic=self._topic,
                    partition=partition,
                    epoch=checkpoint.epoch,
                    topic_id=checkpoint.topic_id,
                    run_start=self._ranges[partition].start,
                    expected=self._committed[partition],
                    end=end,
                    run_id=self._run.run_id,
                    writer_id=self._run.writer_id,
                    counts=counts,
                )
            )
        rebased: PermanentError | None = None
        moved: dict[int, int] = {}
        # Each outcome is noted as soon as it is known: commit_all and `rebased` raise last.
        for commit, outcome in commit_all(self._ports.ledger, commits, self._config.retry_seconds):
            if isinstance(outcome, Fenced):
                self._progress.fenced.append(outcome)
            elif isinstance(outcome, Rebased):
                rebased = PermanentError(
                    f"committing {self._topic}: {outcome}, this run read epoch {commit.epoch} of "
                    f"topic {commit.topic_id}: somebody rebased it meanwhile. Run again"
                )
            else:
                self._committed[commit.partition] = moved[commit.partition] = commit.end
                self._progress.achieved[commit.partition] = OffsetRange(
                    commit.partition, commit.run_start, commit.end
                )
                self._progress.counts[commit.partition] = commit.counts
        if rebased is not None:
            raise rebased
        return moved

    def _mirror(self, moved: dict[int, int]) -> None:
        # Only what moved now: where we are fenced, the winner has mirrored more than we have.
        if not moved:
            return
        try:
            self._ports.log.mirror(self._topic, moved)
        except (TransientError, PermanentError) as exc:
            _log.warning("%s: lag tools see an old offset; the ledger is right", exc)

    def _retry(self, call: Callable[[], _T]) -> _T:
        return retry_transient(call, give_up_after_seconds=self._config.retry_seconds)
