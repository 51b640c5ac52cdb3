"""Plan a run: what Kafka has, where the checkpoints are, which ranges to drain.

First contact with a topic happens here: a partition without a checkpoint gets one.
"""

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from iot_pipeline.core.checks.keyspaces import check_owner
from iot_pipeline.core.ingest.plan import check_reach, plan_offsets, split_at_checkpoint
from iot_pipeline.core.reading.offsets import (
    LOG_APPEND_TIME,
    Checkpoint,
    OffsetRange,
    PartitionState,
    TopicInfo,
    Watermarks,
    check_checkpoint_id,
    subtract_ranges,
)
from iot_pipeline.errors import (
    MissingRightError,
    OffsetsExpiredError,
    PermanentError,
    PipelineError,
    PlanError,
    SchemaMismatchError,
    TopicChangedError,
)
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.log import RecordLog

Compare = Callable[[Sequence[Checkpoint], Sequence[Watermarks]], Mapping[int, PipelineError]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run is to do; `ingest` starts at the checkpoints, `replay` lies below them.

    `stopped` says which of the partitions asked for cannot be read on, or not now, and why: nothing
    of them is in `ingest`.
    """

    topic: TopicInfo
    checkpoints: dict[int, Checkpoint]
    states: list[PartitionState]
    ingest: list[OffsetRange]
    replay: list[OffsetRange]
    stopped: dict[int, PipelineError] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        return sum(state.lag for state in self.states)


def read_states(
    log: RecordLog,
    ledger: LedgerStore,
    topic: str,
    strangers: dict[int, PipelineError] | None = None,
    silent: dict[int, PipelineError] | None = None,
) -> tuple[TopicInfo, dict[int, Checkpoint], list[PartitionState]]:
    """Where Kafka and the ledger are now; changes nothing.

    Args:
        strangers: gets the partitions whose checkpoint belongs to another incarnation of the topic
            while others belong to this one: a `rebase` that was not finished.
        silent: gets the partitions that have no state, because their leader does not answer.

    Raises:
        SchemaMismatchError: the topic does not exist.
        TopicChangedError: it is another topic than the ledger's, under the same name; without
            `strangers` also where that is so of one partition.
    """
    info = log.describe(topic)
    # Checkpoints before watermarks: the other way round a run that is just ahead of us would
    # put a checkpoint above the end of the log that we read before it.
    checkpoints = ledger.read_checkpoints(topic, range(info.partitions))
    found: dict[int, PipelineError] = {}
    for partition, checkpoint in checkpoints.items():
        try:
            check_checkpoint_id(topic, checkpoint, info.topic_id)
        except TopicChangedError as exc:
            if strangers is None:
                raise
            found[partition] = exc
    if strangers is not None and found:
        if len(found) == len(checkpoints):
            raise found[min(found)]
        strangers.update(found)
    states = [
        PartitionState(
            topic,
            marks.partition,
            marks.low,
            marks.last_stable,
            checkpoints[marks.partition].next_offset if marks.partition in checkpoints else None,
        )
        for marks in log.watermarks(topic, silent=silent)
        if marks.partition < info.partitions
    ]
    return info, checkpoints, states


def make_plan(
    log: RecordLog,
    ledger: LedgerStore,
    topic: str,
    *,
    start_at: str = "earliest",
    max_records: int | None = None,
    partitions: Container[int] | None = None,
    offsets: Sequence[OffsetRange] = (),
    done: Sequence[OffsetRange] = (),
    is_planned: bool = False,
    accept_producer_timestamps: bool = False,
    compare: Compare = lambda *_: {},
    is_dry: bool = False,
) -> Plan:
    """Plan from the checkpoints to the last stable offsets, or sort the ranges asked for.

    Args:
        start_at: first contact starts at earliest, latest or an ISO time; partitions added to a
            known topic always start at offset 0.
        max_records: budget in offsets, None for all.
        partitions: only these; None for all. Those of a Collection must exist; a rule, such as
            every second one, need not know how many there are.
        offsets: explicit ranges; then nothing else is planned.
        done: what the run is through with, by draining it or by recording its loss: not planned
            again, though it was asked for.
        is_planned: `offsets` are all that an earlier plan could read: the partitions that it could
            not are stopped here too.
        accept_producer_timestamps: whether a topic that is not LogAppendTime will do.
        compare: finds the partitions whose log is not the one that was read; a run does.
        is_dry: nothing is written: first contact is planned, not made.

    Raises:
        ConfigurationError: the keyspace belongs to another topic.
        PlanError: ranges that cannot be drained; a partition that does not exist.
        TopicChangedError: the whole topic is another one.
        SchemaMismatchError: the topic is not there, or not as it must be.
    """
    stopped: dict[int, PipelineError] = {}
    silent: dict[int, PipelineError] = {}
    info, checkpoints, states = read_states(log, ledger, topic, stopped, silent)
    # Where we may not see it, each record says by whom it is stamped, and is read or refused.
    is_known = not isinstance(info.told, MissingRightError)
    if is_known and info.stamped_by != LOG_APPEND_TIME and not accept_producer_timestamps:
        raise SchemaMismatchError(
            f"planning {topic}: its message.timestamp.type is {info.stamped_by}, expected "
            f"{LOG_APPEND_TIME}: a producer's wrong clock would pin a row for ever. Alter the "
            "topic, or set IOT_ACCEPT_PRODUCER_TIMESTAMPS=true and trust every producer's clock"
        )
    missing = [state for state in states if state.checkpoint is None]
    for partition, error in silent.items():
        if missing or partition not in checkpoints:
            raise error  # first contact is with all partitions
    if missing and not stopped:
        # Later there is a checkpoint, so the question was answered.
        check_owner(ledger.keyspace, ledger.owner(), topic)
        first = _first_checkpoints(log, info, checkpoints, missing, start_at)
        if is_dry:
            checkpoints |= first
            states = [
                replace(state, checkpoint=checkpoints[state.partition].next_offset)
                for state in states
            ]
        else:
            # Partition 0 gets its checkpoint last, so it has one when all of it was made.
            ledger.first_contact(topic, [c for c in first.values() if c.partition])
            ledger.first_contact(topic, [c for c in first.values() if not c.partition])
            info, checkpoints, states = read_states(log, ledger, topic, stopped)
    out_of_reach = {s.partition: exc for s in states if (exc := _why_stopped(s))}
    cut = [p for p, exc in out_of_reach.items() if isinstance(exc, TopicChangedError)]
    if cut:
        out_of_reach |= log.in_dispute(topic, cut)
    stopped = out_of_reach | stopped | silent
    known = [c for p, c in checkpoints.items() if p not in stopped]
    stopped |= compare(known, [Watermarks(s.partition, s.low, s.last_stable) for s in states])
    if offsets:
        return _plan_asked(topic, info, checkpoints, states, stopped, offsets, done, is_planned)
    chosen = states
    if partitions is not None:
        named = partitions if isinstance(partitions, Collection) else ()
        unknown = set(named) - {state.partition for state in states} - silent.keys()
        if unknown:
            raise PlanError(
                f"planning {topic}: no partition {min(unknown)}; it has 0 to {info.partitions - 1}"
            )
        chosen = [state for state in states if state.partition in partitions]
    sound = [state for state in chosen if state.partition not in stopped]
    asked = {s.partition for s in chosen}
    asked |= {p for p in silent if partitions is None or p in partitions}
    stopped = {p: stopped[p] for p in sorted(asked & stopped.keys())}
    return Plan(info, checkpoints, states, plan_offsets(sound, max_records), [], stopped)


def _why_stopped(state: PartitionState) -> PipelineError | None:
    try:
        check_reach(state)
    except PermanentError as exc:
        return exc
    return None


def _plan_asked(
    topic: str,
    info: TopicInfo,
    checkpoints: dict[int, Checkpoint],
    states: list[PartitionState],
    stopped: dict[int, PipelineError],
    offsets: Sequence[OffsetRange],
    done: Sequence[OffsetRange],
    is_planned: bool,
) -> Plan:
    """What was asked for, but for partitions that cannot be read on."""
    # Those of a plan were left out of it, and the run is to say so.
    plan = Plan(info, checkpoints, states, [], [], dict(stopped) if is_planned else {})
    left = subtract_ranges(offsets, done)
    for partition in sorted({item.partition for item in left}):
        own = [item for item in left if item.partition == partition]
        if partition in stopped and not any(s.partition == partition for s in states):
            plan.stopped[partition] = stopped[partition]
            continue
        try:
            replay, ingest = split_at_checkpoint(topic, own, states)
        except OffsetsExpiredError as exc:
            plan.stopped[partition] = exc
            continue
        plan.replay.extend(replay)
        if not ingest:
            continue
        if partition in stopped:
            plan.stopped[partition] = stopped[partition]
        else:
            plan.ingest.extend(ingest)
    return plan


def _first_checkpoints(
    log: RecordLog,
    info: TopicInfo,
    checkpoints: dict[int, Checkpoint],
    missing: list[PartitionState],
    start_at: str,
) -> dict[int, Checkpoint]:
    """Where partitions without a checkpoint start, in order."""
    # Partition 0 has one when first contact was made in full: what misses one then was added
    # later, and records there that expired unseen are a loss like any.
    is_known = 0 in checkpoints
    starts = {state.partition: 0 if is_known else state.low for state in missing}
    if not is_known and start_at == "latest":
        starts = {state.partition: state.last_stable for state in missing}
    elif not is_known and start_at != "earliest":
        at_time = log.offsets_at(info.name, datetime.fromisoformat(start_at))
        # A record of an open transaction may be later than the moment, but no plan can start there.
        starts = {
            state.partition: min(at_time[state.partition], state.last_stable) for state in missing
        }
    epoch = max((checkpoint.epoch for checkpoint in checkpoints.values()), default=0)
    return {p: Checkpoint(p, start, epoch, info.topic_id) for p, start in sorted(starts.items())}
