"""Partitions that a run had to leave, each with its reason; it drains the others, then fails.

What is remembered of one holds until its checkpoint is beyond the offset where it stopped.

Belongs here: what is said of them together. Does not belong here: what a run does about one
(`stages.run_ingest`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.reading.offsets import Checkpoint
from iot_pipeline.core.times import in_utc
from iot_pipeline.errors import PermanentError, PipelineError, TransientError

_SAID_IN_FULL = 3


@dataclass(frozen=True, slots=True)
class Stop:
    """A Kafka partition whose checkpoint could not pass `next_offset`, since when, and why.

    `run_id` is the run that said so last; `since` is aware.
    """

    partition: int
    epoch: int
    next_offset: int
    since: datetime
    run_id: str
    cause: str

    @property
    def place(self) -> tuple[int, int, int]:
        return self.partition, self.epoch, self.next_offset


def still_stopped(stops: Iterable[Stop], checkpoints: Mapping[int, Checkpoint]) -> list[Stop]:
    """Those whose partition has not been drained on since, nor rebased."""
    return [
        stop
        for stop in stops
        if (now := checkpoints.get(stop.partition)) is not None
        and now.epoch == stop.epoch
        and now.next_offset <= stop.next_offset
    ]


def say_stop(stop: Stop, waiting: int) -> str:
    """`waiting` offsets are there to be read; no full stop."""
    return (
        f"Partition {stop.partition} stands still at offset {stop.next_offset} since "
        f"{in_utc(stop.since)}, and {waiting:,} offsets wait there: {stop.cause}"
    )


def say_stops(stops: Sequence[Stop], waits: Mapping[int, int]) -> str:
    """Which partitions stand still, since when, and why; the first few in full.

    Args:
        waits: offsets that wait, by partition; those of the others are drained.
    """
    said = [f"{say_stop(stop, waits[stop.partition])}." for stop in stops[:_SAID_IN_FULL]]
    others = [stop.partition for stop in stops[_SAID_IN_FULL:]]
    if others:
        said.append(f"So do {_named(others)}; `iot lag` has the reasons.")
    said.append("The other partitions are drained. This is gone when they drain again.")
    return " ".join(said)


def sum_up(topic: str, stopped: Mapping[int, PipelineError]) -> PipelineError:
    """One error that names every stopped partition; that of a single one is left as it is.

    Its class is that of the errors where they have one class; else it is permanent as soon as one
    of them is. Reasons of one class are told once, in full, with the partitions they hold for.

    Args:
        stopped: by Kafka partition, not empty.
    """
    if len(stopped) == 1:
        (only,) = stopped.values()
        return only
    by_class: dict[type[PipelineError], list[int]] = {}
    for partition in sorted(stopped):
        by_class.setdefault(type(stopped[partition]), []).append(partition)
    said = []
    for partitions in by_class.values():
        first, *others = partitions
        more = f". The same kind of trouble in {_named(others)}" if others else ""
        said.append(f"{stopped[first]}{more}")
    text = f"{topic}: {_named(sorted(stopped))} stopped. {'. '.join(said)}"
    return _class_of(list(by_class))(text)


def _class_of(classes: list[type[PipelineError]]) -> type[PipelineError]:
    if len(classes) == 1:
        return classes[0]
    is_transient = all(issubclass(item, TransientError) for item in classes)
    return TransientError if is_transient else PermanentError


def _named(partitions: list[int]) -> str:
    word = "partition" if len(partitions) == 1 else "partitions"
    return f"{word} {', '.join(map(str, partitions))}"
