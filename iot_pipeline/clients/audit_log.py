"""The audit's own reading of the log: raw messages, gaps jumped, nothing shared with ingestion."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from iot_pipeline.clients.kafka import BOUNDED_MEMORY, SILENT, client_config, lacking, open_client
from iot_pipeline.clients.kafka_errors import in_words, translate
from iot_pipeline.clients.kafka_headers import read_headers
from iot_pipeline.clients.unreadable import UNREADABLE_CODES, Explainer
from iot_pipeline.core.proof.dead_letters import (
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TOPIC,
    TOPIC_ID,
)
from iot_pipeline.core.proof.stretches import RawRecords
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.rights.grants import READ, TOPIC
from iot_pipeline.errors import KafkaUnavailableError, TransientError, UnreadableError
from iot_pipeline.settings import Settings

if TYPE_CHECKING:
    from iot_pipeline.clients.kafka_raw import RawKafka

_MESSAGES_PER_CALL = 2_000
_POLL_SECONDS = 0.1


class KafkaAuditLog:
    """Reads ranges of a topic as a read_committed consumer that starts anew for every call.

    Args:
        silence_seconds: how long Kafka may give nothing.
    """

    def __init__(self, settings: Settings, *, silence_seconds: float = 30.0) -> None:
        self._settings, self._config = settings, client_config(settings)
        self._device = settings.declaration.device
        self._silence_seconds = silence_seconds
        self._explainer = Explainer(self._raw, lambda _: "")

    def _raw(self) -> "RawKafka":
        from iot_pipeline.clients.kafka_raw import RawKafka  # slow to import, and rarely needed

        return RawKafka(self._settings, self._silence_seconds)

    def read(self, topic: str, ranges: Sequence[OffsetRange]) -> Iterator[RawRecords]:
        """The records of ranges, at most one per partition, each partition's in order.

        What Kafka has deleted meanwhile is jumped over, as holes are. What cannot be read is
        jumped over too, and named in `unreadable` of a part without records.

        Raises:
            KafkaUnavailableError: nothing came for a while.
        """
        for found in self._consume(topic, ranges):
            if isinstance(found, OffsetRange):
                yield RawRecords([], [], [], [], (found,))
                continue
            yield RawRecords(
                list(map(Message.partition, found)),
                list(map(Message.offset, found)),
                [produced_ms for _, produced_ms in map(Message.timestamp, found)],
                list(map(Message.value, found)),
                (),
                # Asked for only where a reading needs them: they cost as much as all the others.
                list(map(Message.key, found)) if self._device.is_key else (),
                list(read_headers(found)) if self._device.header else (),
            )

    def letter_places(
        self,
        dead_letter_topic: str,
        ranges: Sequence[OffsetRange],
        topic: str,
        topic_id: str,
        on_unreadable: Callable[[OffsetRange], None],
    ) -> Iterator[tuple[int, int]]:
        """(partition, offset) of the source record of every dead letter of this topic."""
        for found in self._consume(dead_letter_topic, ranges):
            if isinstance(found, OffsetRange):
                on_unreadable(found)
                continue
            for read in read_headers(found):
                headers = dict(read or ())
                if headers.get(SOURCE_TOPIC) != topic.encode():
                    continue
                # Letters of before this header existed have none; their topic is all they say.
                if headers.get(TOPIC_ID, topic_id.encode()) != topic_id.encode():
                    continue
                partition, offset = headers.get(SOURCE_PARTITION), headers.get(SOURCE_OFFSET)
                if partition and offset and partition.isdigit() and offset.isdigit():
                    yield int(partition), int(offset)

    def _consume(
        self, topic: str, ranges: Sequence[OffsetRange]
    ) -> Iterator[list[Any] | OffsetRange]:
        """Messages; or offsets that cannot be read, and are jumped over."""
        ends = {item.partition: item.end for item in ranges if item.span > 0}
        if not ends:
            return
        consumer = open_client(
            Consumer,
            {
                **self._config,
                "group.id": "iot_pipeline.audit",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 10,
                "fetch.wait.max.ms": 100,
                **BOUNDED_MEMORY,
            },
            SILENT,
        )
        try:
            consumer.assign([TopicPartition(topic, r.partition, r.start) for r in ranges if r.span])
            yield from self._until_finished(
                consumer,
                topic,
                {item.partition: item.start for item in ranges if item.span},
                ends,
            )
        finally:
            consumer.close()

    def _until_finished(
        self, consumer: Any, topic: str, positions: dict[int, int], ends: dict[int, int]
    ) -> Iterator[list[Any] | OffsetRange]:
        open_partitions = set(ends)
        left = sum(ends.values()) - sum(positions.values())
        heard_at = time.monotonic()
        trouble = ""
        while open_partitions:
            # `consume` waits for as many as were asked for: no more than there can be.
            at_most = max(1, min(_MESSAGES_PER_CALL, left))
            messages = consumer.consume(at_most, _POLL_SECONDS)
            if messages and _are_all_inside(messages, ends, open_partitions):
                left -= len(messages)
                positions |= _positions_behind(messages)
                yield messages
                heard_at = time.monotonic()
                continue
            inside = []
            unreadable: dict[int, str] = {}
            for message in messages:
                partition, offset, error = message.partition(), message.offset(), message.error()
                if partition in unreadable:
                    continue  # behind what cannot be read; it comes again
                if error is not None:
                    if partition in ends and partition not in open_partitions:
                        continue  # of what lies behind the range: it was fetched ahead
                    if error.code() in UNREADABLE_CODES and partition in open_partitions:
                        unreadable[partition] = in_words(error)
                        continue
                    if error.code() == KafkaError._PARTITION_EOF:
                        if offset >= ends.get(partition, 0):
                            open_partitions.discard(partition)
                        continue
                    if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                        continue  # of a group that is never joined
                    right = lacking(self._config, READ, TOPIC, topic)
                    translated = translate(error, f"auditing {topic}", right=right)
                    if not isinstance(translated, TransientError):
                        raise translated
                    trouble = str(translated)
                    continue
                if partition not in open_partitions:
                    continue
                positions[partition] = offset + 1
                if offset < ends[partition]:
                    inside.append(message)
                if offset + 1 >= ends[partition]:
                    open_partitions.discard(partition)
                    consumer.incremental_unassign([TopicPartition(topic, partition)])
            if inside:
                left -= len(inside)
                heard_at = time.monotonic()
                yield inside
                # The caller may take its time; only Kafka's silence counts.
                heard_at = time.monotonic()
            for partition, said in unreadable.items():
                at, end = positions[partition], ends[partition]
                found = self._explainer.explain_batch(topic, partition, at, said)
                assert isinstance(found, UnreadableError)
                behind = min(found.end, end) or end  # where it ends may be unknown
                yield OffsetRange(partition, at, behind)
                consumer.incremental_unassign([TopicPartition(topic, partition)])
                positions[partition] = behind
                if behind < end:
                    consumer.incremental_assign([TopicPartition(topic, partition, behind)])
                else:
                    open_partitions.discard(partition)
                heard_at = time.monotonic()
            if inside or unreadable:
                continue
            if time.monotonic() - heard_at > self._silence_seconds:
                raise KafkaUnavailableError(
                    f"auditing {topic}: nothing of partitions {sorted(open_partitions)} for "
                    f"{self._silence_seconds:g} s; {trouble or 'is Kafka up? (`iot status`)'}"
                )


def _positions_behind(messages: Sequence[Any]) -> dict[int, int]:
    """By partition, the offset after its last message."""
    last = dict(zip(map(Message.partition, messages), map(Message.offset, messages), strict=True))
    return {partition: offset + 1 for partition, offset in last.items()}


def _are_all_inside(
    messages: Sequence[Any], ends: dict[int, int], open_partitions: set[int]
) -> bool:
    """Whether each is a record, and none the last one wanted of its partition, nor beyond it."""
    # By identity: a KafkaError that is compared with None by `==` leaves an exception behind, and
    # an innocent call after it raises SystemError (confluent-kafka 2.16).
    if any(error is not None for error in map(Message.error, messages)):
        return False
    # Offsets grow: the last of each partition tells for all of them.
    last = dict(zip(map(Message.partition, messages), map(Message.offset, messages), strict=True))
    return all(
        partition in open_partitions and offset + 1 < ends[partition]
        for partition, offset in last.items()
    )
