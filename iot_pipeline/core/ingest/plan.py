"""Plan which Kafka offsets one run drains: watermarks and checkpoints in, offset ranges out."""

from collections.abc import Iterable, Sequence

from iot_pipeline.core.reading.offsets import OffsetRange, PartitionState, join_ranges
from iot_pipeline.core.words import counted
from iot_pipeline.errors import (
    OffsetsExpiredError,
    PlanError,
    TopicChangedError,
)


def plan_offsets(
    states: Iterable[PartitionState], max_records: int | None = None
) -> list[OffsetRange]:
    """Choose the ranges one run drains, lagging partitions served evenly.

    Args:
        states: one per Kafka partition, each with a checkpoint.
        max_records: budget for the whole run, in offsets, at least 1; None: all that lags.

    Returns:
        Non-empty ranges ordered by partition, each starting at its checkpoint; their spans add up
        to at most `max_records`. Empty when nothing lags.

    Raises:
        OffsetsExpiredError: a checkpoint lies below the low watermark, so records were deleted
            unread. We stop rather than skip: a gap that is planned over looks like success.
        TopicChangedError: a checkpoint lies above the end of the log: the topic was truncated, or
            Kafka was restored from something older.
    """
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for state in states:
        starts[state.partition] = check_reach(state)
        ends[state.partition] = state.last_stable
    lag = {p: ends[p] - starts[p] for p in starts if ends[p] > starts[p]}
    share = lag if max_records is None else _share_evenly(lag, max_records)
    return [
        OffsetRange(partition, starts[partition], starts[partition] + share[partition])
        for partition in sorted(share)
        if share[partition] > 0
    ]


def check_reach(state: PartitionState) -> int:
    """The checkpoint, where the log can be read on from it.

    Raises:
        PlanError: there is none.
        OffsetsExpiredError, TopicChangedError: as `plan_offsets`.
    """
    if state.checkpoint is None:
        raise PlanError(f"planning {state.topic}[{state.partition}]: it has no checkpoint yet")
    if state.checkpoint < state.low:
        raise _expired_error(state)
    if state.checkpoint > state.last_stable:
        raise TopicChangedError(
            f"planning {state.topic}[{state.partition}]: checkpoint {state.checkpoint} is above "
            f"the end of the log {state.last_stable}: the topic was truncated, or Kafka was "
            "restored from an older state. Nothing was read. Find out what happened to the topic "
            "before anything else writes to it"
        )
    return state.checkpoint


def split_at_checkpoint(
    topic: str, ranges: Sequence[OffsetRange], states: Iterable[PartitionState]
) -> tuple[list[OffsetRange], list[OffsetRange]]:
    """Sort the ranges that were asked for into what is replayed and what is ingested.

    Returns:
        (replay, ingest): below the checkpoint is a replay, from it on is ingested, a range across
        it is split there. `ingest` holds at most one range per partition, starting at its
        checkpoint.

    Raises:
        PlanError: a partition that does not exist, a range beyond the end of the log, one that
            starts above the checkpoint (draining it would skip records), or one that Kafka has
            deleted in part.
        OffsetsExpiredError: what it would ingest was deleted unread, as in `plan_offsets`.
    """
    known = {state.partition: state for state in states}
    replay: list[OffsetRange] = []
    ingest: list[OffsetRange] = []
    for item in join_ranges(ranges):
        state = known.get(item.partition)
        if state is None:
            raise PlanError(f"draining {topic} {item}: the topic has no partition {item.partition}")
        if item.end > state.last_stable:
            raise PlanError(
                f"draining {topic} {item}: the log ends at {state.last_stable}; ask for offsets "
                "below it"
            )
        checkpoint = state.checkpoint if state.checkpoint is not None else state.low
        if checkpoint < state.low and item.start < state.low and item.end > checkpoint:
            raise _expired_error(state)
        if item.start < state.low:
            raise PlanError(
                f"draining {topic} {item}: Kafka has deleted {item.start} to "
                f"{min(state.low, item.end) - 1}; what is left starts at {state.low}"
            )
        if item.start > checkpoint:
            raise PlanError(
                f"draining {topic} {item}: the checkpoint is at {checkpoint}, so starting at "
                f"{item.start} would skip {counted(item.start - checkpoint, 'offset')}. Drain "
                f"{item.partition}:{checkpoint}-{item.end} instead; where the checkpoint moved "
                "back since this range was planned, plan again"
            )
        if item.start < checkpoint:
            replay.append(OffsetRange(item.partition, item.start, min(item.end, checkpoint)))
        if item.end > checkpoint:
            ingest.append(OffsetRange(item.partition, checkpoint, item.end))
    return replay, ingest


def _expired_error(state: PartitionState) -> OffsetsExpiredError:
    checkpoint = state.checkpoint or 0
    return OffsetsExpiredError(
        f"planning {state.topic}[{state.partition}]: checkpoint {checkpoint} is below the low "
        f"watermark {state.low}, up to "
        f"{counted(state.low - checkpoint, 'record was', 'records were')} deleted unread "
        f"(offsets {checkpoint} to {state.low - 1}). Kafka deletes sooner than we read: raise the "
        "topic's "
        "retention.ms, then set IOT_ON_EXPIRED=record to write the loss into the ledger and "
        "go on, or restore the topic"
    )


def _share_evenly(lag: dict[int, int], budget: int) -> dict[int, int]:
    """Split `budget` so that no partition gets more than it needs and the rest is shared alike."""
    share = dict.fromkeys(lag, 0)
    # Smallest need first: what it leaves of its fair part goes to the others, and the last takes
    # what could not be divided.
    for position, partition in enumerate(sorted(lag, key=lambda p: (lag[p], p))):
        fair = budget // (len(lag) - position)
        share[partition] = min(lag[partition], fair)
        budget -= share[partition]
    return share
