"""Write ranges of the log again: the same cells, no checkpoint moved, then read back.

A replay restores what is missing. It does not change what is there: it looks first, and writes a
row only where an older one is or none. Records before the range that share its first broker
millisecond compete for their keys, as they do in a drain. Rejected records are dead letters
already: counted, not sent again.

What the ledger has as a loss was never read. A replay reads it after all: its dead letters are
delivered, and one conditional write turns the loss, or that part of it, into what was ingested.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.stopped import sum_up
from iot_pipeline.core.ledger.chain import of_current_epoch, sum_counts
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.proof.additions import Additions
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.proof.mended import MendedRows
from iot_pipeline.core.proof.read_back import (
    RowState,
    StoredRow,
    cells_of_its_own,
    count_new_cells,
    judge_of,
    judge_part,
    says_the_same,
    should_write,
    without_ties,
)
from iot_pipeline.core.reading.offsets import (
    OffsetRange,
    PartitionState,
    in_rounds,
    join_ranges,
    subtract_ranges,
)
from iot_pipeline.core.reading.quantities import are_in_parts
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import Row, RowsByTime
from iot_pipeline.core.times import day_of
from iot_pipeline.errors import PlanError
from iot_pipeline.stages.ingest.config import DrainConfig, Ports
from iot_pipeline.stages.ingest.micro_batch import MicroBatches
from iot_pipeline.stages.ingest.planning import Plan, read_states
from iot_pipeline.stages.ports.ledger import LedgerStore, Run
from iot_pipeline.stages.ports.log import RecordLog
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import fetch_rows, read_back
from iot_pipeline.stages.proof.recovery import Recovering, lost_parts
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.requests import retry_transient


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """A plan whose `replay` is what Kafka still has of the ranges asked for; `gone` is the rest."""

    plan: Plan
    gone: list[OffsetRange]


def plan_replay(
    log: RecordLog,
    ledger: LedgerStore,
    topic: str,
    ranges: Sequence[OffsetRange],
) -> ReplayPlan:
    """Check ranges that are to be replayed.

    Raises:
        PlanError: a partition that does not exist, or offsets that were not ingested yet.
        TopicChangedError: it is another topic than the ledger's.
    """
    info, checkpoints, states = read_states(log, ledger, topic)
    known = {state.partition: state for state in states}
    here: list[OffsetRange] = []
    gone: list[OffsetRange] = []
    for item in join_ranges(ranges):
        state = known.get(item.partition)
        if state is None:
            raise PlanError(
                f"replaying {topic} {item}: the topic has no partition {item.partition}"
            )
        checkpoint = state.checkpoint if state.checkpoint is not None else state.low
        if item.end > checkpoint:
            raise PlanError(
                f"replaying {topic} {item}: offsets from {max(item.start, checkpoint)} on were not "
                f"ingested yet, the checkpoint is {checkpoint}. Replay below it, or `iot drain`"
            )
        if item.start < state.low:
            gone.append(OffsetRange(item.partition, item.start, min(item.end, state.low)))
        if item.end > state.low:
            here.append(OffsetRange(item.partition, max(item.start, state.low), item.end))
    return ReplayPlan(Plan(info, checkpoints, states, [], here), gone)


def ranges_of_run(
    ledger: LedgerStore, topic: str, partitions: Sequence[int], run_id: str
) -> list[OffsetRange]:
    """What a run ingested, by the ledger, in the current incarnation of the topic.

    Raises:
        PlanError: the ledger knows no such run.
    """
    checkpoints = ledger.read_checkpoints(topic, partitions)
    found = [
        OffsetRange(entry.partition, entry.start_offset, entry.end_offset)
        for entry in of_current_epoch(ledger.read_entries(topic, partitions), checkpoints)
        if entry.run_id == run_id and entry.span > 0
    ]
    if not found:
        raise PlanError(
            f"replaying run {run_id}: the ledger of {topic} has no range of it. Rows of runs older "
            "than a day are folded together: take the run's ranges from its tags in Dagster and "
            "say them with --offsets"
        )
    return found


def ranges_between(
    log: RecordLog, topic: str, states: Sequence[PartitionState], since: datetime, until: datetime
) -> list[OffsetRange]:
    """Ingested offsets whose records arrived in Kafka from `since` on and before `until`."""
    starts, ends = log.offsets_at(topic, since), log.offsets_at(topic, until)
    ranges = []
    for state in states:
        end = min(ends[state.partition], state.checkpoint or 0)
        if end > starts[state.partition]:
            ranges.append(OffsetRange(state.partition, starts[state.partition], end))
    return ranges


def replay(
    plan: Plan,
    ports: Ports,
    proof: AuditPorts,
    run: Run,
    config: DrainConfig,
    *,
    progress: ReplayProgress | None = None,
    started_at: datetime | None = None,
    added: Additions | None = None,
    on_progress: Callable[[ReplayProgress], None] = lambda _: None,
    wall_clock: Callable[[], float] = time.time,
) -> ReplayProgress:
    """Write `plan.replay` again, exactly those offsets, read it back, and record it.

    Args:
        plan: `replay` lies below the checkpoints and inside the log.
        ports: Kafka and Cassandra; no dead letter is sent, no checkpoint moved.
        proof: reads back; what was deleted stays so, and what was mended is as it was mended.
        progress: filled as it goes; a new one when None.
        started_at: names it together with the run, where a replay is done in several; None: now.
        added: what the declaration of `config` tells beside the one that the ranges were ingested
            by: it is recorded before each micro-batch, for from then on it is theirs. None: it is
            the one that they were ingested by.
        wall_clock: seconds since 1970, for the retention of rows.

    Raises:
        TopicChangedError: the topic was recreated meanwhile; nothing of it was written.
        OffsetsExpiredError: Kafka deleted records of the range meanwhile.
        RowsRefusedError, TransientError: as `drain`.
    """
    progress = progress or ReplayProgress(plan.replay)
    started_at = started_at or datetime.fromtimestamp(wall_clock(), UTC)
    declared = None
    if added is not None:
        declared = DeclaredReplay(plan.topic.topic_id, config.rules.declaration.fingerprint)
    began = time.monotonic()
    partitions = sorted({item.partition for item in plan.replay})
    deletions, mended = proof.read_deletions(), proof.read_mended()
    try:
        entries = retry_transient(
            lambda: ports.ledger.read_entries(plan.topic.name, partitions),
            give_up_after_seconds=config.retry_seconds,
        )
        if added is not None or any(entry.outcome.is_loss for entry in entries):
            ports.keep_declaration(config.rules, config.retry_seconds)
        lost = lost_parts(of_current_epoch(entries, plan.checkpoints), plan.replay)
        rounds = in_rounds(subtract_ranges(plan.replay, lost))
        for own in [*rounds, *({item.partition: item} for item in lost)]:
            is_lost = not own.items().isdisjoint((item.partition, item) for item in lost)
            replaying = _Replay(
                plan.topic.name,
                own,
                proof,
                ports.ledger,
                run.run_id,
                started_at,
                config.retry_seconds,
                deletions,
                mended,
                progress,
                on_progress,
                is_lost,
                declared,
                added,
            )
            recovering = None
            if is_lost:
                fingerprint = config.rules.declaration.fingerprint
                recovering = Recovering(plan, ports, run, config.retry_seconds, fingerprint)
            batches = MicroBatches(
                plan.topic,
                plan.checkpoints,
                list(own.values()),
                ports,
                config,
                entries,
                wall_clock,
                replaying.prepare,
                are_objects=True,
            )
            with closing(batches.written()) as turns:
                for written in turns:
                    if written is not None:
                        replaying.read_back(written)
                        if recovering is not None:
                            recovering.take_in(written)
            if batches.stopped:
                raise sum_up(plan.topic.name, batches.stopped)
            if recovering is not None:
                progress.recovered += recovering.finish(*own.values())
    finally:
        progress.seconds += time.monotonic() - began
    return progress


@dataclass(slots=True)
class _Replay:
    """One round: what happens before and after the rows of a micro-batch are written."""

    topic: str
    own: dict[int, OffsetRange]
    proof: AuditPorts
    ledger: LedgerStore
    run_id: str
    started_at: datetime
    retry_seconds: float
    deletions: Deletions
    mended: MendedRows
    progress: ReplayProgress
    on_progress: Callable[[ReplayProgress], None]
    is_recovering: bool
    declared: DeclaredReplay | None
    added: Additions | None
    in_parts: bool = field(init=False)
    _judge: Callable[[Row, StoredRow | None], RowState] = field(init=False)
    _done: list[OffsetRange] = field(default_factory=list)
    _reached: dict[int, int] = field(default_factory=dict)
    _begun: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.in_parts = are_in_parts(self.proof.quantities)
        # By a new declaration a row gets cells beside those that are there, of maybe later records.
        is_new = self.declared is not None
        self._judge = judge_part if is_new else judge_of(self.proof.quantities)
        self.progress.read_back.judge = self._judge
        self._done = list(self.progress.achieved)
        self._reached = {partition: item.start for partition, item in self.own.items()}
        self._begun = dict(self._reached)

    def prepare(self, batch: MicroBatch) -> None:
        """Look what of a micro-batch is to be written, before its first row is."""
        self._leave_what_is_there(batch)
        self._begun |= batch.ends
        if self.declared is not None:
            # First: rows that only this declaration explains must not be there without it.
            self._record()

    def _leave_what_is_there(self, batch: MicroBatch) -> None:
        """Take out the rows that are not to be written.

        Those that `iot delete` removed, for its tombstones may be forgotten by now; those that are
        there, or a newer one; and where by other rules another record was given the write time.
        """
        layers = batch.groups.layers()
        for layer in layers:
            self._leave_out_of(layer, batch)
        batch.groups = RowGroups.of(layers, batch.groups.columns.codes)
        batch.count_cells_again()

    def _leave_out_of(self, groups: dict[Place, RowsByTime], batch: MicroBatch) -> None:
        for place, group in groups.items():
            for ms in self.deletions.covered(place[0], group):
                batch.supersede(group.pop(ms), place[1])
                self.progress.deleted += 1
            for ms, row in group.items():
                group[ms] = self.mended.row_of(place[0], ms, row)
        wanted = ((place, sorted(group)) for place, group in groups.items())
        for place, times, found in fetch_rows(self.proof.rows, wanted, self.retry_seconds):
            group = groups[place]
            for ms in times:
                row, stored = group[ms], found.get(ms)
                if self.in_parts:
                    group[ms] = without_ties(row, stored)
                if self.added is not None:
                    self._count_new(self.added, place[1], group[ms], stored)
                # Of a loss that is recovered again, rows may be there whose device is not noted.
                if should_write(group[ms], stored) or (
                    self.is_recovering and self._judge(row, stored) is RowState.EQUAL
                ):
                    continue
                state = self.progress.read_back.take(place, ms, row, stored)
                if state in (RowState.NEWER, RowState.TIED):
                    assert stored is not None
                    if self.in_parts and cells_of_its_own(row, stored):
                        del group[ms]
                        continue
                    batch.supersede(row, place[1], is_repeat=says_the_same(row, stored))
                del group[ms]

    def read_back(self, batch: MicroBatch) -> None:
        """Compare its rows, now acknowledged, with its records, and remember what was done."""
        progress = self.progress
        for layer in batch.groups.layers():
            read_back(self.proof.rows, layer, self.retry_seconds, progress.read_back)
        progress.counts += sum_counts(batch.counts.values())
        self._reached |= batch.ends
        progress.achieved = self._ranges_up_to(self._reached)
        # Written before it is done, too: a replay that dies has still written rows.
        self._record()
        self.on_progress(progress)

    def _ranges_up_to(self, ends: Mapping[int, int]) -> list[OffsetRange]:
        return self._done + [
            OffsetRange(partition, item.start, ends[partition])
            for partition, item in sorted(self.own.items())
            if ends[partition] > item.start
        ]

    def _count_new(
        self, added: Additions, day_number: int, row: Row, stored: StoredRow | None
    ) -> None:
        """Count what the runs that ingested the range have not: they read it otherwise.

        What they have counted may be missing all the same, and is restored without being counted;
        of a loss nothing is new: its own entry counts it.
        """
        day, names = day_of(day_number), added.of(row[2], row[1])
        if names is None and stored is None:
            self.progress.new_rows_by_day[day] += 1
        if names is not None:
            told = zip(self.proof.quantities, row[3:], strict=True)
            own = (value if quantity.name in names else None for quantity, value in told)
            row = (row[0], row[1], row[2], *own)
        if new_cells := count_new_cells(row, stored):
            self.progress.new_cells_by_day[day] += new_cells

    def _record(self) -> None:
        progress = self.progress
        # Of a new declaration also what is being written: micro-batches overlap.
        is_new = self.declared is not None
        ranges = self._ranges_up_to(self._begun) if is_new else progress.achieved
        # Its rows per day are not rows more where the runs that ingested the range count them.
        counts = replace(
            progress.counts,
            stored_by_day=dict(progress.new_rows_by_day),
            cells_by_day=dict(progress.new_cells_by_day),
        )
        retry_transient(
            lambda: self.ledger.record_replay(
                self.topic, self.started_at, self.run_id, ranges, counts, self.declared
            ),
            give_up_after_seconds=self.retry_seconds,
        )
