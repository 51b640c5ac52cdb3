"""Plan which Kafka offsets one run drains: watermarks and checkpoints in, offset ranges out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.reading.fingerprints import Fingerprint
from iot_pipeline.core.words import counted
from iot_pipeline.errors import (
    CheckpointWentBackError,
    ConfigurationError,
    MissingRightError,
    OffsetsExpiredError,
    PlanError,
    TopicChangedError,
)

# The broker stamps each record; the other way is CreateTime, by its producer.
LOG_APPEND_TIME = "LogAppendTime"
_RANGE = re.compile(r"(\d+):(\d+)-(\d+)")


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets [start, end) of one Kafka partition: `end` is the next one to read.

    `span` is an upper bound on the records inside, never their count: compaction and
    transaction markers leave holes.
    """

    partition: int
    start: int
    end: int

    @property
    def span(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.partition}:{self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The ends of one Kafka partition's log.

    `low` is the first offset Kafka still has, `last_stable` one past the last that a
    read_committed consumer may see.
    """

    partition: int
    low: int
    last_stable: int


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What Kafka says of a topic. `topic_id` is its UUID: a recreated topic has another.

    `told` is its configuration, or why we are not told it. `replicas` are those of the partition
    that has the fewest.
    """

    name: str
    topic_id: str
    partitions: int
    told: Mapping[str, str] | MissingRightError
    replicas: int = 1

    @property
    def config(self) -> Mapping[str, str]:
        """By name.

        Raises:
            MissingRightError: we may not see it.
        """
        if isinstance(self.told, MissingRightError):
            raise self.told
        return self.told

    @property
    def stamped_by(self) -> str:
        """Its message.timestamp.type."""
        return self.config.get("message.timestamp.type", LOG_APPEND_TIME)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The next offset to ingest, as the ledger keeps it, and the incarnation it belongs to.

    `topic_id` is Kafka's UUID of the topic, `epoch` counts those the ledger has seen. `fingerprint`
    is of the last record below it; None: it is not known, or no record was read yet.
    """

    partition: int
    next_offset: int
    epoch: int
    topic_id: str
    fingerprint: Fingerprint | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Watermarks and checkpoint of one Kafka partition; None: nothing was ever ingested there."""

    topic: str
    partition: int
    low: int
    last_stable: int
    checkpoint: int | None

    @property
    def lag(self) -> int:
        """Offsets still to ingest: an upper bound on records, at least 0."""
        start = self.low if self.checkpoint is None else max(self.checkpoint, self.low)
        return max(0, self.last_stable - start)


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


def parse_range(text: str) -> OffsetRange:
    """Read `P:START-END`, the one way to say a range everywhere.

    Raises:
        ConfigurationError: anything else, or an end that is not above the start.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(f"--offsets {text}: expected P:START-END, such as 0:100-200")
    offset_range = OffsetRange(int(match[1]), int(match[2]), int(match[3]))
    if offset_range.span < 1:
        raise ConfigurationError(f"--offsets {text}: expected an END above START")
    return offset_range


def join_ranges(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """The same offsets, each once: overlapping and touching ranges become one, in order."""
    joined: list[OffsetRange] = []
    for item in sorted(ranges):
        last = joined[-1] if joined else None
        if last and last.partition == item.partition and item.start <= last.end:
            joined[-1] = OffsetRange(last.partition, last.start, max(last.end, item.end))
        else:
            joined.append(item)
    return joined


def subtract_ranges(
    ranges: Iterable[OffsetRange], taken: Iterable[OffsetRange]
) -> list[OffsetRange]:
    """The offsets of `ranges` that are in none of `taken`: disjoint, not empty, in order."""
    left = join_ranges(ranges)
    for cut in taken:
        kept: list[OffsetRange] = []
        for item in left:
            if item.partition != cut.partition or cut.end <= item.start or item.end <= cut.start:
                kept.append(item)
                continue
            if item.start < cut.start:
                kept.append(OffsetRange(item.partition, item.start, cut.start))
            if cut.end < item.end:
                kept.append(OffsetRange(item.partition, cut.end, item.end))
        left = kept
    return left


def in_rounds(ranges: Iterable[OffsetRange]) -> list[dict[int, OffsetRange]]:
    """The same offsets in rounds of at most one range per partition: what a source can read."""
    rounds: list[dict[int, OffsetRange]] = []
    for item in join_ranges(ranges):
        for of_partition in rounds:
            if item.partition not in of_partition:
                of_partition[item.partition] = item
                break
        else:
            rounds.append({item.partition: item})
    return rounds


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


def check_checkpoint_id(topic: str, checkpoint: Checkpoint, topic_id: str) -> None:
    """Refuse to go on when the topic is not the one that the checkpoint belongs to.

    Raises:
        TopicChangedError: the topic was deleted and made again: its offsets mean other records.
    """
    if checkpoint.topic_id != topic_id:
        raise TopicChangedError(
            f"planning {topic}[{checkpoint.partition}]: the checkpoint {checkpoint.next_offset} "
            f"belongs to topic {checkpoint.topic_id}, Kafka now has {topic_id} under that name: it "
            "was deleted and made again. Nothing of it was written. Accept the new topic with "
            f"`iot rebase --topic-id {topic_id} --at earliest`"
        )


def check_moved_forward(topic: str, partition: int, next_offset: int | None, expected: int) -> None:
    """Refuse to go on when the checkpoint is missing or lower than what was committed before.

    Raises:
        CheckpointWentBackError: the ledger was wiped, or Cassandra came back older than what it
            had acknowledged.
    """
    if next_offset is None or next_offset < expected:
        found = "gone" if next_offset is None else f"at {next_offset}"
        raise CheckpointWentBackError(
            f"committing {topic}[{partition}]: the checkpoint is {found}, expected {expected}: the "
            "ledger was wiped, or Cassandra came back older than what it had acknowledged. Nothing "
            "moved. The next run starts where the ledger is; `iot setup` says whether "
            "acknowledged writes are durable here"
        )
