"""Drain offset ranges into Cassandra in micro-batches, in the order that keeps readings safe.

    consume -> topic UUID still the same? -> decode | reject -> winners
            -> rows and devices_by_day, all acknowledged -> dead letters delivered
            -> checkpoint + ledger row (one conditional write per partition) -> mirror

At-least-once towards the table: a crash between any two of these drains the range again, and the
same record makes the same cells with the same write time. Exactly once in the ledger: the
checkpoint and the run's row move in one conditional write.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ledger.chain import Applied, Commit, Counts, Fenced, Rebased
from iot_pipeline.core.reading.fingerprints import Fingerprint
from iot_pipeline.core.reading.messages import DeadLetter
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import CheckpointWentBackError, PermanentError, TransientError
from iot_pipeline.stages.ingest.config import DrainConfig, Ports
from iot_pipeline.stages.ingest.micro_batch import MicroBatches
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ingest.traced import TracedMicroBatches, Tracing
from iot_pipeline.stages.ledger.commits import InFlight, last_answers, send_all, settle_all
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.requests import retry_transient

_log = logging.getLogger(__name__)

# A run that is ended waits so long for commits on their way, and then asks the ledger so long
# about those without an answer, to say what they moved. Terminate ends a run within a second.
_LAST_ANSWERS_SECONDS = 0.4
_ASK_SECONDS = 0.3
# Entries of the ledger before a range, of each partition: those of its first broker millisecond.
_ENTRIES_BEFORE = 20


def drain(
    plan: Plan,
    ports: Ports,
    run: Run,
    config: DrainConfig,
    *,
    progress: DrainProgress | None = None,
    on_progress: Callable[[DrainProgress], None] = lambda _: None,
    observe: Callable[[MicroBatch], None] = lambda _: None,
    turn: Callable[[], None] = lambda: None,
    on_stopped: Callable[[Mapping[int, int]], None] = lambda _: None,
    wall_clock: Callable[[], float] = time.time,
) -> DrainProgress:
    """Ingest `plan.ingest`, exactly those offsets, and account for every one of them.

    Trouble of one partition raises nothing: the others are drained to their ends, and
    `progress.stopped` says why that one was not.

    Args:
        plan: ranges that start at the checkpoints; those of a run that follows have no end
            (`open_ended`).
        config: sizes and rules. With `follow` rows are written as records arrive, and all
            checkpoints move at least once a second, until it says that the run is over.
        progress: filled as the run goes, so that a caller that is interrupted knows what was
            achieved; a new one when None.
        observe: called with every micro-batch that was committed, and so is counted once; it must
            be quick.
        turn: called between polls, while Kafka or Cassandra is waited for; about a millisecond.
        on_stopped: called when `progress.stopped` has grown, with the offsets that the checkpoints
            of these partitions cannot pass.
        wall_clock: seconds since 1970, for the retention of rows.

    Raises:
        TopicChangedError: the topic was recreated; nothing of it was written.
        TransientError: Kafka or Cassandra stayed away for `retry_seconds`.
    """
    progress = progress or DrainProgress(plan.ingest)
    started, cpu_started = time.monotonic(), time.process_time()
    try:
        if plan.ingest:
            # The commits name it: first it is kept, so that what they name can always be read.
            ports.keep_declaration(config.rules, config.retry_seconds)
            traces = ports.open_traces()
            tracing = None if traces is None else Tracing(traces, plan.topic.name, run.run_id)
            checkpoints = _Checkpoints(
                plan, ports, run, config, progress, on_progress, observe, tracing
            )
            partitions = [item.partition for item in plan.ingest]
            entries = retry_transient(
                lambda: ports.ledger.read_entries(
                    plan.topic.name, partitions, limit=_ENTRIES_BEFORE
                ),
                give_up_after_seconds=config.retry_seconds,
            )
            asked = plan.topic, plan.checkpoints, plan.ingest, ports, config, entries, wall_clock
            batches = (
                MicroBatches(*asked)
                if tracing is None
                else TracedMicroBatches(*asked, tracing=tracing)
            )
            progress.in_flight = batches.in_flight
            try:
                _write_and_account(batches, checkpoints, progress, turn, on_stopped)
            finally:
                checkpoints.note_last_answers()
                if tracing is not None:
                    tracing.close(sys.exception())
    finally:
        progress.seconds += time.monotonic() - started
        progress.cpu_seconds += time.process_time() - cpu_started
    return progress


def _write_and_account(
    batches: MicroBatches,
    checkpoints: "_Checkpoints",
    progress: DrainProgress,
    turn: Callable[[], None],
    on_stopped: Callable[[Mapping[int, int]], None],
) -> None:
    """Rows acknowledged, then dead letters delivered, then the checkpoint moved.

    Never in another order: an offset below the checkpoint is read again by a person's wish alone.
    """
    unknown_fields = 0
    with closing(batches.written()) as turns:
        for written in turns:
            if written is not None:  # its rows are acknowledged
                progress.unknown_fields += batches.unknown_fields - unknown_fields
                unknown_fields = batches.unknown_fields
                progress.is_throttled |= batches.is_throttled
                checkpoints.take_in(written)
            checkpoints.settle_decided()
            for partition in checkpoints.lost - batches.left:
                batches.leave(partition)
            if checkpoints.is_due:
                checkpoints.deliver_letters()
                checkpoints.move()
            if batches.stopped.keys() - progress.stopped.keys():
                progress.stopped |= batches.stopped
                on_stopped(batches.stopped_at)
            turn()
    checkpoints.settle()
    checkpoints.deliver_letters()
    checkpoints.move()
    checkpoints.settle()


class _Checkpoints:
    """What is acknowledged and above the checkpoints, and the conditional writes that move them."""

    def __init__(
        self,
        plan: Plan,
        ports: Ports,
        run: Run,
        config: DrainConfig,
        progress: DrainProgress,
        on_progress: Callable[[DrainProgress], None],
        observe: Callable[[MicroBatch], None],
        tracing: Tracing | None,
    ) -> None:
        self._tracing = tracing
        self._plan, self._ports, self._run = plan, ports, run
        self._config, self._progress, self._on_progress = config, progress, on_progress
        self._observe = observe
        self._topic = plan.topic.name
        self._declaration = config.rules.declaration.fingerprint
        self._ranges = {item.partition: item for item in plan.ingest}
        self._committed = {item.partition: item.start for item in plan.ingest}
        # Rows acknowledged, letters waiting, checkpoint still behind: of one micro-batch in a
        # drain, of half a second when following.
        self._letters: list[DeadLetter] = []
        self._ends: dict[int, int] = {}
        self._counts: dict[int, Counts] = {}
        self._fingerprints: dict[int, Fingerprint] = {}
        self._commit_seconds = config.follow.commit_seconds if config.follow else 0.0
        self._commit_due = 0.0
        self._pending: list[InFlight] = []
        # Partitions whose checkpoint is not ours to move any more.
        self.lost: set[int] = set()
        # The same, for who observes: acknowledged, and on their way to be committed.
        self._written: list[MicroBatch] = []
        self._committing: list[MicroBatch] = []

    def take_in(self, batch: MicroBatch) -> None:
        """Count a micro-batch whose rows are acknowledged."""
        self._written.append(batch)
        self._fingerprints.update(batch.fingerprints)
        self._letters += [
            letter for letter in batch.dead_letters if letter.record.partition not in self.lost
        ]
        for partition, counts in batch.counts.items():
            if partition not in self.lost:
                self._ends[partition] = batch.ends[partition]
                self._counts[partition] = self._counts.get(partition, Counts()) + counts
        self._progress.split_ms += batch.split_ms
        self._progress.micro_batches += 1
        if self._config.follow is None:
            # What one conditional write commits is one micro-batch; the one before is decided.
            self.settle()

    @property
    def is_due(self) -> bool:
        """Whether there is something to commit, and nothing on its way."""
        return bool(self._ends) and not self._pending and time.monotonic() >= self._commit_due

    def deliver_letters(self) -> None:
        """Wait until Kafka has acknowledged the dead letters of what is to be committed."""
        if self._letters:
            letters = self._letters
            if self._tracing is not None:
                self._tracing.delivering()
            retry_transient(
                lambda: self._ports.dead_letters.deliver(
                    self._topic, self._plan.topic.topic_id, letters
                ),
                give_up_after_seconds=self._config.retry_seconds,
            )

    def move(self) -> None:
        """Send the conditional writes; rows and letters are acknowledged."""
        commits = [self._commit_of(partition, end) for partition, end in self._ends.items()]
        self._letters, self._ends, self._counts = [], {}, {}
        self._committing, self._written = self._written, []
        if self._tracing is not None:
            self._tracing.moving(self._committing)
        self._commit_due = time.monotonic() + self._commit_seconds
        # Known before it is sent: what is cut off here may be on its way.
        self._pending = [InFlight(commit) for commit in commits]
        send_all(self._ports.ledger, self._pending)

    def _commit_of(self, partition: int, end: int) -> Commit:
        checkpoint, start = self._plan.checkpoints[partition], self._ranges[partition].start
        _, counts = self._progress.committed.get((partition, start), (None, Counts()))
        return Commit(
            topic=self._topic,
            partition=partition,
            epoch=checkpoint.epoch,
            topic_id=checkpoint.topic_id,
            run_start=start,
            expected=self._committed[partition],
            end=end,
            run_id=self._run.run_id,
            writer_id=self._run.writer_id,
            counts=counts + self._counts[partition],
            # Of the last record, however long ago: holes alone leave what the ledger has.
            fingerprint=self._fingerprints.get(partition),
            declaration=self._declaration,
        )

    def settle_decided(self) -> None:
        """Note what commits on their way have moved, if all of them are decided; never wait."""
        if self._pending and all(item.done for item in self._pending):
            self.settle()

    def settle(self) -> None:
        """Wait until the commits on their way are decided, and note what they moved."""
        if not self._pending:
            return
        moved: dict[int, int] = {}
        # Each outcome is noted as soon as it is known: settle_all raises last. And a commit leaves
        # `pending` only when it was noted: Terminate may come between any two lines.
        for item, outcome in settle_all(
            self._ports.ledger, self._pending, self._config.retry_seconds
        ):
            commit = item.commit
            if isinstance(outcome, Rebased):
                self._lose(
                    commit.partition,
                    PermanentError(
                        f"committing {self._topic}: {outcome}, this run read epoch {commit.epoch} "
                        f"of topic {commit.topic_id}: it was rebased meanwhile. Run again"
                    ),
                )
            elif isinstance(outcome, CheckpointWentBackError):
                self._lose(commit.partition, outcome)
            else:
                self._note(commit, outcome)
            if outcome is Applied.YES:
                moved[commit.partition] = commit.end
            self._pending.remove(item)
        committed, self._committing = self._committing, []
        if self._tracing is not None:
            self._tracing.moved(committed)
        for batch in committed:
            # Of what another run has committed it is that run who counts the readings.
            if self.lost.isdisjoint(batch.ends):
                self._observe(batch)
        self._mirror(moved)
        self._on_progress(self._progress)

    def _note(self, commit: Commit, outcome: Applied | Fenced) -> None:
        """Once or again: the same afterwards."""
        if isinstance(outcome, Fenced):
            self._lose(commit.partition)
            if outcome not in self._progress.fenced:
                self._progress.fenced.append(outcome)
            return
        self._committed[commit.partition] = commit.end
        item = OffsetRange(commit.partition, commit.run_start, commit.end)
        self._progress.committed[commit.partition, commit.run_start] = item, commit.counts

    def _lose(self, partition: int, why: PermanentError | None = None) -> None:
        """Move this partition's checkpoint no more; `why` is the trouble, if it is one."""
        self.lost.add(partition)
        self._ends.pop(partition, None)
        self._counts.pop(partition, None)
        self._letters = [item for item in self._letters if item.record.partition != partition]
        if why is not None:
            self._progress.stopped[partition] = why

    def note_last_answers(self) -> None:
        """After an error or Terminate: what commits on their way still moved.

        Nothing is sent again here, and nothing may raise over what ends the run.
        """
        for item, outcome in last_answers(
            self._ports.ledger, self._pending, _LAST_ANSWERS_SECONDS, _ASK_SECONDS
        ):
            commit = item.commit
            if outcome is None:
                self._progress.in_doubt.append(
                    OffsetRange(commit.partition, commit.expected, commit.end)
                )
            elif not isinstance(outcome, Rebased):
                self._note(commit, outcome)
        self._pending = []

    def _mirror(self, moved: dict[int, int]) -> None:
        # Only what moved now: where we are fenced, the winner has mirrored more than we have.
        if not moved:
            return
        try:
            self._ports.log.mirror(self._topic, moved)
        except (TransientError, PermanentError) as exc:
            _log.warning("%s: without it lag tools see an old offset; the ledger is right", exc)
