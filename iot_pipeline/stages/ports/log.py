"""Kafka: topics as logs to read, to make and to write what could not be read to."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from iot_pipeline.core.checks.topics import TopicPlan
from iot_pipeline.core.proof.stretches import RawRecords
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.formats import Unknown, WriterSchema
from iot_pipeline.core.reading.lag import Held, OpenTransaction
from iot_pipeline.core.reading.messages import DeadLetter, Record
from iot_pipeline.core.reading.offsets import OffsetRange, TopicInfo, Watermarks
from iot_pipeline.errors import PipelineError


class RecordLog(Protocol):
    """The topic as a whole: its identity and its ends."""

    def describe(self, topic: str) -> TopicInfo: ...

    def topic_id(self, topic: str) -> str:
        """The topic's UUID alone, cheap enough to ask after every micro-batch."""

    def watermarks(
        self,
        topic: str,
        *,
        only: Collection[int] | None = None,
        silent: dict[int, PipelineError] | None = None,
    ) -> list[Watermarks]:
        """One per Kafka partition, in order, low and last stable offset as of now.

        Args:
            only: asks of these partitions alone, as far as they exist.
            silent: gets the partitions whose leader does not answer, while others do; without it
                that is an error.
        """

    def in_dispute(self, topic: str, partitions: Iterable[int]) -> dict[int, PipelineError]:
        """Those of the partitions of which brokers say that different ones lead them.

        One that is cut off from the others goes on as a leader, and its log may end long before
        that of the new one.
        """

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        """Per partition the first offset whose record arrived at or after `moment`."""

    def mirror(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        """Commit offsets to the consumer group, for lag tools only."""


class SchemaSource(Protocol):
    """The schemas that messages were written by, by the ids that they begin with."""

    def find(self, schema_id: int) -> WriterSchema | Unknown:
        """The schema with an id; Unknown where there is none, or none that can be read."""


class NoSchemas:
    """A `SchemaSource` for formats whose messages name no schema."""

    def find(self, schema_id: int) -> WriterSchema | Unknown:
        return Unknown(f"nothing knows schemas here, and schema {schema_id} was asked for")


class RecordSource(Protocol):
    """Reads exactly the ranges it was made for, as a read_committed consumer."""

    def poll(self, timeout_seconds: float) -> list[Record]:
        """The next records, each partition's in the order of its offsets; maybe none in time.

        Records of finished ranges never come; a partition's range is finished when everything
        up to its end was given out or does not exist. A poll that raises TransientError has
        taken nothing: the next one goes on where it was.

        Trouble of one partition raises nothing: see `stopped`. What was before it comes first.
        """

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        """As `poll`, for who takes many: without an object for each record."""

    @property
    def finished(self) -> frozenset[int]: ...

    @property
    def at_end(self) -> Mapping[int, int]:
        """Partitions whose log had no more records after the last one given out, as of then.

        With the offset at which the log ended: what lies between is holes.
        """

    @property
    def stopped(self) -> Mapping[int, PipelineError]:
        """Partitions that cannot be read on, and why; the others go on."""

    def leave(self, partition: int) -> None:
        """Give out no more of a partition; that of one that was left already changes nothing."""

    def close(self) -> None: ...


class RecordLogReader(RecordLog, Protocol):
    """A log that can also be read."""

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> RecordSource: ...

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        """The records at (partition, offset), each a record that exists."""

    def held_back(self, topic: str, last_stable: Mapping[int, int]) -> dict[int, Held]:
        """By partition, what lies behind the last stable offset; only where something does."""

    def open_transactions(self, topic: str, partitions: Sequence[int]) -> Sequence[OpenTransaction]:
        """Those that hold records of these partitions back, by partition and offset."""

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        """Committed records inside ranges that were read as holes: always a defect."""


class ClusterLog(RecordLogReader, Protocol):
    """A log, and what keeps it."""

    def count_brokers(self) -> int:
        """Those of the cluster that are up."""

    def bytes_per_record(self, topic: str, partition: int, offset: int) -> float | None:
        """What a record takes in the log, by the batch that holds this offset; None: no batch."""


class AuditLog(Protocol):
    """The audit's own reading of topics."""

    def read(self, topic: str, ranges: Sequence[OffsetRange]) -> Iterator[RawRecords]: ...

    def letter_places(
        self,
        dead_letter_topic: str,
        ranges: Sequence[OffsetRange],
        topic: str,
        topic_id: str,
        on_unreadable: Callable[[OffsetRange], None],
    ) -> Iterator[tuple[int, int]]: ...


class DeadLetterSink(Protocol):
    """Where records go that could not be readings."""

    def deliver(self, topic: str, topic_id: str, letters: Sequence[DeadLetter]) -> None:
        """Return when all are acknowledged; the source's coordinates travel in headers."""


class TopicStore(Protocol):
    """Makes topics."""

    def check(self, plan: TopicPlan) -> None:
        """Ask whether the topic could be made; makes nothing.

        Raises:
            MissingRightError: there is none of that name, and we may not make it.
        """

    def create(self, plan: TopicPlan) -> bool:
        """False when there is one of that name already."""
