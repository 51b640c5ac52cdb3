"""Offsets of a log: ranges of them, its ends, and the checkpoint.

Does not belong here: which of them a run drains (`core.ingest.plan`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from iot_pipeline.core.reading.fingerprints import Fingerprint
from iot_pipeline.errors import (
    CheckpointWentBackError,
    ConfigurationError,
    MissingRightError,
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
