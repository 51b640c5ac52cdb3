"""Plan a run: what Kafka has, where the checkpoints are, which ranges to drain.

First contact with a topic happens here: a partition without a checkpoint gets one.
"""

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.checks.schema import check_owner
from iot_pipeline.core.reading.offsets import (
    Checkpoint,
    OffsetRange,
    PartitionState,
    TopicInfo,
    check_checkpoint_id,
    plan_offsets,
    split_at_checkpoint,
    subtract_ranges,
)
from iot_pipeline.errors import PlanError, SchemaMismatchError
from iot_pipeline.stages.ports import LedgerStore, RecordLog

LOG_APPEND_TIME = "LogAppendTime"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run is to do; `ingest` starts at the checkpoints, `replay` lies below them."""

    topic: TopicInfo
    checkpoints: dict[int, Checkpoint]
    states: list[PartitionState]
    ingest: list[OffsetRange]
    replay: list[OffsetRange]

    @property
    def lag(self) -> int:
        return sum(state.lag for state in self.states)


def read_states(
    log: RecordLog, ledger: LedgerStore, topic: str
) -> tuple[TopicInfo, dict[int, Checkpoint], list[PartitionState]]:
    """Where Kafka and the ledger are now; changes nothing.

    Raises:
        SchemaMismatchError: the topic does not exist.
        TopicChangedError: it is another topic than the ledger's, under the same name.
    """
    info = log.describe(topic)
    # Checkpoints before watermarks: the other way round a run that is just ahead of us would
    # put a checkpoint above the end of the log that we read before it.
    checkpoints = ledger.read_checkpoints(topic, range(info.partitions))
    for checkpoint in checkpoints.values():
        check_checkpoint_id(topic, checkpoint, info.topic_id)
    states = [
        PartitionState(
            topic,
            marks.partition,
            marks.low,
            marks.last_stable,
            checkpoints[marks.partition].next_offset if marks.partition in checkpoints else None,
        )
        for marks in log.watermarks(topic)
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
    accept_producer_timestamps: bool = False,
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
        accept_producer_timestamps: whether a topic that is not LogAppendTime will do.

    Raises:
        ConfigurationError: the keyspace belongs to another topic.
        PlanError: ranges that cannot be drained; a partition that does not exist.
        OffsetsExpiredError, TopicChangedError, SchemaMismatchError: see their names.
    """
    info, checkpoints, states = read_states(log, ledger, topic)
    stamped = info.config.get("message.timestamp.type", LOG_APPEND_TIME)
    if stamped != LOG_APPEND_TIME and not accept_producer_timestamps:
        raise SchemaMismatchError(
            f"planning {topic}: its message.timestamp.type is {stamped}, expected "
            f"{LOG_APPEND_TIME}: a producer's wrong clock would pin a row for ever. Alter the "
            "topic, or set IOT_ACCEPT_PRODUCER_TIMESTAMPS=true and trust every producer's clock"
        )
    missing = [state for state in states if state.checkpoint is None]
    if missing:
        # Later there is a checkpoint, so the question was answered.
        check_owner(ledger.keyspace, ledger.owner(), topic)
        _make_first_contact(log, ledger, info, checkpoints, missing, start_at)
        info, checkpoints, states = read_states(log, ledger, topic)
    if offsets:
        replay, ingest = split_at_checkpoint(topic, subtract_ranges(offsets, done), states)
        return Plan(info, checkpoints, states, ingest, replay)
    chosen = states
    if partitions is not None:
        named = partitions if isinstance(partitions, Collection) else ()
        unknown = set(named) - {state.partition for state in states}
        if unknown:
            raise PlanError(
                f"planning {topic}: no partition {min(unknown)}; it has 0 to {info.partitions - 1}"
            )
        chosen = [state for state in states if state.partition in partitions]
    return Plan(info, checkpoints, states, plan_offsets(chosen, max_records), [])


def _make_first_contact(
    log: RecordLog,
    ledger: LedgerStore,
    info: TopicInfo,
    checkpoints: dict[int, Checkpoint],
    missing: list[PartitionState],
    start_at: str,
) -> None:
    # Partition 0 gets its checkpoint last, so it has one when first contact was made in full: what
    # misses one then was added later, and records there that expired unseen are a loss like any.
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
    for partition, start in sorted(starts.items(), reverse=True):
        ledger.first_contact(info.name, Checkpoint(partition, start, epoch, info.topic_id))
