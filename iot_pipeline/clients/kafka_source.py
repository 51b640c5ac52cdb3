"""Read exact ranges of a topic: `assign()` with explicit offsets, committed records only."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress, pairwise
from operator import ne
from typing import Any

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from iot_pipeline.clients.kafka import SILENT
from iot_pipeline.clients.kafka_errors import in_words, translate
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.decoding import Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import (
    KafkaUnavailableError,
    OffsetsExpiredError,
    PipelineError,
    SchemaMismatchError,
    TopicChangedError,
)

_MESSAGES_PER_CALL = 1000
# What librdkafka may keep of records we have not asked for yet; a fetch on its way comes on top.
_QUEUE_KBYTES = 16_384
_FETCH_BYTES = 524_288
# And of all partitions in one answer: 50 MB by default, which unpacks to several times as much.
_FETCH_BYTES_OF_ALL = 8_388_608
# Not long: an interrupt waits for it, and who did not answer is asked again.
_WATERMARKS_SECONDS = 2.0


class KafkaRangeSource:
    """A `RecordSource`: gives out the records of its ranges, and knows when each is finished.

    A range is finished by its last record, by a record beyond its end, or by the log's end: an
    end that is a hole has no record.

    Args:
        config: librdkafka settings that say where the brokers are.
        ranges: at most one per Kafka partition.
        accept_producer_timestamps: whether records need not be stamped by the broker.
        read_uncommitted: see records of open and aborted transactions too.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        ranges: Sequence[OffsetRange],
        *,
        accept_producer_timestamps: bool = False,
        read_uncommitted: bool = False,
    ) -> None:
        self._topic = topic
        self._accept_producer_timestamps = accept_producer_timestamps
        self._ends = {item.partition: item.end for item in ranges}
        self._next = {item.partition: item.start for item in ranges}
        self._finished: set[int] = set()
        self._at_end: dict[int, int] = {}
        self._trouble: KafkaError | None = None
        self._failure: PipelineError | None = None
        self._lost_at: int | None = None
        self._consumer = Consumer(
            {
                **config,
                # A group is never joined; assign() asks for a name all the same.
                "group.id": "iot_pipeline.reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "isolation.level": "read_uncommitted" if read_uncommitted else "read_committed",
                "check.crcs": True,
                # 1000 by default: reading a backlog then takes up to 20 times as long (measured).
                "fetch.queue.backoff.ms": 10,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": _QUEUE_KBYTES,
                # Compressed, and per partition: what a fetch unpacks to comes on top of the queue.
                "max.partition.fetch.bytes": _FETCH_BYTES,
                "fetch.max.bytes": _FETCH_BYTES_OF_ALL,
                "reconnect.backoff.max.ms": 1000,
                "error_cb": self._remember,
            },
            logger=SILENT,
        )
        self._consumer.assign(
            [TopicPartition(topic, item.partition, item.start) for item in ranges]
        )

    def _remember(self, error: KafkaError) -> None:
        # librdkafka reconnects by itself; kept to say why when nothing comes for too long.
        self._trouble = error

    @property
    def finished(self) -> frozenset[int]:
        return frozenset(self._finished)

    @property
    def at_end(self) -> Mapping[int, int]:
        return self._at_end

    @property
    def trouble(self) -> str:
        """What the client last complained about, for a message; empty when nothing."""
        return "" if self._trouble is None else in_words(self._trouble)

    def poll(self, timeout_seconds: float) -> list[Record]:
        """As the port says.

        Raises:
            KafkaUnavailableError: Kafka does not have the next offset of a range, and did not say
                where its log begins and ends; asked again with the next call.
            OffsetsExpiredError: Kafka deleted the next record of a range.
            TopicChangedError: the log ends before the next offset: truncated or recreated.
            SchemaMismatchError: the topic is gone, or its records carry a producer's timestamps.
        """
        return [record for chunk in self.poll_chunks(timeout_seconds) for record in chunk]

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        if self._lost_at is not None:
            raise self._why_lost(self._lost_at)
        if self._failure is not None:
            raise self._failure
        chunks: list[RecordChunk] = []
        messages = self._consumer.consume(_MESSAGES_PER_CALL, timeout_seconds)
        for start, stop in _runs(messages):
            first = messages[start]
            error = first.error()
            if error is None:
                chunks += self._chunk(first.partition(), messages[start:stop])
                continue
            if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                # The consumer has stopped at this partition for good: nothing more is given out.
                self._lost_at = first.partition()
                break
            self._failure = self._take_error(error, first.partition(), first.offset())
            if self._failure is not None:
                break
        # Good records that came before an error are given out first: dropped here they would look
        # like holes.
        if not chunks:
            if self._lost_at is not None:
                raise self._why_lost(self._lost_at)
            if self._failure is not None:
                raise self._failure
        return chunks

    def _chunk(self, partition: int, messages: list[Any]) -> list[RecordChunk]:
        end = self._ends[partition]
        offsets = list(map(Message.offset, messages))
        if offsets[-1] >= end - 1:
            self._finish(partition)
            inside = bisect_left(offsets, end)
            if not inside:
                return []
            messages, offsets = messages[:inside], offsets[:inside]
        stamps = list(map(Message.timestamp, messages))
        if not self._accept_producer_timestamps:
            for offset, (kind, _) in zip(offsets, stamps, strict=True):
                if kind != TIMESTAMP_LOG_APPEND_TIME:
                    raise self._stamped_by_producer(partition, offset)
        self._next[partition] = offsets[-1] + 1
        self._at_end.pop(partition, None)
        return [
            RecordChunk(
                partition,
                offsets,
                [produced_ms for _, produced_ms in stamps],
                list(map(Message.value, messages)),
                list(map(Message.key, messages)),
                list(map(Message.headers, messages)),
            )
        ]

    def _stamped_by_producer(self, partition: int, offset: int) -> SchemaMismatchError:
        return SchemaMismatchError(
            f"reading {self._topic}[{partition}] at {offset}: the record is stamped by its "
            "producer, not by the broker. Set the topic's message.timestamp.type to "
            "LogAppendTime, or IOT_ACCEPT_PRODUCER_TIMESTAMPS=true and trust every clock"
        )

    def _finish(self, partition: int) -> None:
        if partition not in self._finished:
            self._finished.add(partition)
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _take_error(self, error: KafkaError, partition: int, offset: int) -> PipelineError | None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._at_end[partition] = offset
            if offset >= self._ends.get(partition, offset + 1):
                self._finish(partition)
            return None
        translated = translate(error, self._doing(partition))
        if isinstance(translated, KafkaUnavailableError):
            self._trouble = error
            return None
        return translated

    def _doing(self, partition: int) -> str:
        return f"reading {self._topic}[{partition}] at {self._next.get(partition)}"

    def _why_lost(self, partition: int) -> PipelineError:
        doing = self._doing(partition)
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=_WATERMARKS_SECONDS
            )
        except KafkaException as exc:
            # Whether records expired or the topic is another one decides what a person does:
            # never guessed, asked again.
            return translate(
                exc.args[0], f"{doing}: Kafka has no such offset; asking where its log begins"
            )
        position = self._next[partition]
        if position < low:
            return OffsetsExpiredError(
                f"{doing}: the low watermark is {low} now, up to {low - position} records were "
                "deleted while they were being read. Raise the topic's retention.ms, then set "
                "IOT_ON_EXPIRED=record to write the loss into the ledger and go on"
            )
        return TopicChangedError(
            f"{doing}: the log ends at {high}: the topic was truncated or made again. Nothing of "
            "it was written; find out what happened to it"
        )

    def close(self) -> None:
        self._consumer.close()


def _runs(messages: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Where neighbours of one partition begin and end; an error stands alone."""
    if not messages:
        return
    partitions = list(map(Message.partition, messages))
    places = range(1, len(messages))
    cuts = set(compress(places, map(ne, partitions, partitions[1:])))
    # By identity: a KafkaError compared with None leaves a TypeError behind, which whatever
    # Python does next then raises.
    for at, error in enumerate(map(Message.error, messages)):
        if error is not None:
            cuts |= {at, at + 1}
    cuts |= {0, len(messages)}
    yield from pairwise(sorted(cuts))


def spans_of(holes: Iterable[OffsetRange]) -> list[OffsetRange]:
    """One range per partition that covers all of its holes."""
    spans: dict[int, OffsetRange] = {}
    for hole in holes:
        known = spans.get(hole.partition, hole)
        spans[hole.partition] = OffsetRange(
            hole.partition, min(known.start, hole.start), max(known.end, hole.end)
        )
    return [spans[partition] for partition in sorted(spans)]
