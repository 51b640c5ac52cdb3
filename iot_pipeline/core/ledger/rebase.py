"""Where ingestion goes on when a person says so, and what it passes over by that."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from iot_pipeline.core.ledger.chain import Outcome
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, Watermarks
from iot_pipeline.core.times import parse_moment
from iot_pipeline.errors import ConfigurationError, PlanError, TopicChangedError

# An end of the log, an offset, or the time from which on records had arrived.
End = Literal["earliest", "latest"]
Where = End | int | datetime
_ENDS: dict[str, End] = {"earliest": "earliest", "latest": "latest"}
_OF_PARTITION = re.compile(r"(\d+):(.+)")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to go on: in the Kafka partitions that are named, or the same in all of them.

    `said` is how the person said it.
    """

    by_partition: Mapping[int, Where]
    everywhere: Where | None
    said: str

    @property
    def times(self) -> set[datetime]:
        wheres = {*self.by_partition.values(), self.everywhere}
        return {where for where in wheres if isinstance(where, datetime)}

    def of(self, partition: int) -> Where | None:
        """None: this partition is not to be touched."""
        return self.by_partition.get(partition, self.everywhere)


def parse_target(texts: Sequence[str]) -> Target:
    """Read `--at`, given once or more often: `WHERE` once, and `P:WHERE` for single partitions.

    Raises:
        ConfigurationError: anything else; a partition, or all of them, said twice.
    """
    by_partition: dict[int, Where] = {}
    everywhere: Where | None = None
    for text in texts:
        match = _OF_PARTITION.fullmatch(text)
        if match is None:
            if everywhere is not None:
                raise ConfigurationError(f"--at {text}: all partitions were told where already")
            everywhere = _parse_where(text, text)
        elif int(match[1]) in by_partition:
            raise ConfigurationError(f"--at {text}: partition {match[1]} was told where already")
        else:
            by_partition[int(match[1])] = _parse_where(text, match[2])
    return Target(by_partition, everywhere, " ".join(f"--at {text}" for text in texts))


def _parse_where(said: str, text: str) -> Where:
    if text in _ENDS:
        return _ENDS[text]
    if text.isdecimal():
        return int(text)
    try:
        return parse_moment(text)
    except ConfigurationError:
        raise ConfigurationError(
            f"--at {said}: expected earliest, latest, an offset or a time such as "
            "2026-01-31T12:00:00; P: before it means Kafka partition P alone"
        ) from None


@dataclass(frozen=True, slots=True)
class Move:
    """What a rebase does to one Kafka partition.

    Args:
        before: its checkpoint; None: the ledger has none.
        after: where it goes on. Another epoch than before: the chain of entries begins anew.
        passed: what is left unread by it, in order, each with the outcome that it gets.
    """

    before: Checkpoint | None
    after: Checkpoint
    passed: tuple[tuple[OffsetRange, Outcome], ...]

    @property
    def is_new_epoch(self) -> bool:
        return self.before is not None and self.before.epoch != self.after.epoch

    @property
    def skipped(self) -> OffsetRange | None:
        """What it passes over of what Kafka has."""
        return next((item for item, why in self.passed if why is Outcome.SKIPPED), None)


def find_start(topic: str, marks: Watermarks, where: Where, at_time: int | None) -> int:
    """The offset that a person means, between the ends of the log.

    Raises:
        PlanError: an offset that the log does not have.
    """
    if isinstance(where, datetime):
        assert at_time is not None, "the log was asked for every time"
        return min(max(at_time, marks.low), marks.last_stable)
    if isinstance(where, str):
        return marks.low if where == "earliest" else marks.last_stable
    if not marks.low <= where <= marks.last_stable:
        raise PlanError(
            f"rebasing {topic}[{marks.partition}] to {where}: Kafka has the offsets {marks.low} to "
            f"{marks.last_stable} there; name one for each partition with --at P:N"
        )
    return where


def decide_move(
    topic: str,
    marks: Watermarks,
    before: Checkpoint | None,
    start: int,
    *,
    topic_id: str,
    new_partition_epoch: int,
    is_skip: bool,
    doubted_from: int | None = None,
) -> Move | None:
    """What it takes to go on at `start`; None: nothing, for there it fits, or is further already.

    Args:
        topic_id: the incarnation that Kafka has now.
        new_partition_epoch: of a partition without a checkpoint.
        is_skip: unread records of an intact log are passed over on purpose.
        doubted_from: where the log is known not to be the one that was read: the first offset in
            doubt.

    Raises:
        PlanError: it would go back in a log that is intact.
    """
    partition, low = marks.partition, marks.low
    if before is None:
        after = Checkpoint(partition, start, new_partition_epoch, topic_id)
        return Move(None, after, _passed(partition, low, start, Outcome.SKIPPED))
    is_same_log = before.topic_id == topic_id
    if not is_same_log or before.next_offset > marks.last_stable or doubted_from is not None:
        after = Checkpoint(partition, start, before.epoch + 1, topic_id)
        # What lies below the first offset in doubt was ingested in the epoch before.
        first = low if doubted_from is None or not is_same_log else max(low, doubted_from)
        return Move(before, after, _passed(partition, first, start, Outcome.SKIPPED))
    if not is_skip:
        return None
    at = before.next_offset
    if start < at:
        raise PlanError(
            f"rebasing {topic}[{partition}] to {start}: everything below {at} was ingested, and "
            "the log is the one that was read. To write records again: "
            f"`iot replay --offsets {partition}:{start}-{at}`"
        )
    if start == at:
        return None
    kept_from = min(max(at, low), start)
    passed = (
        *_passed(partition, at, kept_from, Outcome.EXPIRED),
        *_passed(partition, kept_from, start, Outcome.SKIPPED),
    )
    return Move(before, Checkpoint(partition, start, before.epoch, topic_id), passed)


def check_said_id(
    topic: str, kafka_id: str, said_id: str | None, checkpoints: Mapping[int, Checkpoint]
) -> None:
    """Refuse what the person did not mean: another topic than the one that was said, or known.

    Raises:
        TopicChangedError: names the UUID that Kafka has.
    """
    if said_id is not None and said_id != kafka_id:
        raise TopicChangedError(
            f"rebasing {topic}: Kafka has topic {kafka_id} now, not {said_id}. Look what "
            "happened to it, then say the UUID you want"
        )
    others = {c.topic_id for c in checkpoints.values()} - {kafka_id}
    if said_id is None and others:
        raise TopicChangedError(
            f"rebasing {topic}: the ledger knows topic {min(others)}, Kafka has topic {kafka_id} "
            f"now. Look what happened to it; `--topic-id {kafka_id}` accepts it"
        )


def _passed(
    partition: int, start: int, end: int, why: Outcome
) -> tuple[tuple[OffsetRange, Outcome], ...]:
    return ((OffsetRange(partition, start, end), why),) if end > start else ()
