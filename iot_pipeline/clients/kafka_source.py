"""Read exact ranges of a topic: `assign()` with explicit offsets, committed records only."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
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

from iot_pipeline.clients.kafka import BOUNDED_MEMORY, SILENT, lacking, open_client
from iot_pipeline.clients.kafka_errors import in_words, translate
from iot_pipeline.clients.kafka_headers import read_headers
from iot_pipeline.clients.kafka_leaders import in_dispute
from iot_pipeline.clients.unreadable import UNREADABLE_CODES, Explainer
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.messages import Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.rights.grants import READ, TOPIC
from iot_pipeline.errors import (
    KafkaUnavailableError,
    MissingRightError,
    OffsetsExpiredError,
    PipelineError,
    SchemaMismatchError,
    TopicChangedError,
)

_MESSAGES_PER_CALL = 1000
# Not long: an interrupt waits for it, and who did not answer is asked again.
_WATERMARKS_SECONDS = 2.0


# The log does not have the next offset, or not as the leader epoch of the one before says.
_LOST_ITS_PLACE = (
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._LOG_TRUNCATION,
)


class KafkaRangeSource:
    """A `RecordSource`: gives out the records of its ranges, and knows when each is finished.

    A range is finished by its last record, by a record beyond its end, or by the log's end: an
    end that is a hole has no record.

    Args:
        config: librdkafka settings that say where the brokers are.
        ranges: at most one per Kafka partition.
        accept_producer_timestamps: whether records need not be stamped by the broker.
        read_uncommitted: see records of open and aborted transactions too.
        explainer: finds out which records cannot be read; None: what the client says must do.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        ranges: Sequence[OffsetRange],
        *,
        accept_producer_timestamps: bool = False,
        read_uncommitted: bool = False,
        explainer: Explainer | None = None,
    ) -> None:
        self._config, self._topic = config, topic
        self._accept_producer_timestamps = accept_producer_timestamps
        self._ends = {item.partition: item.end for item in ranges}
        self._next = {item.partition: item.start for item in ranges}
        self._finished: set[int] = set()
        self._at_end: dict[int, int] = {}
        self._trouble: KafkaError | None = None
        self._stopped: dict[int, PipelineError] = {}
        self._left: set[int] = set()
        # Partitions that the client gives no more of; Kafka has not said yet why.
        self._unexplained: dict[int, Callable[[], PipelineError]] = {}
        self._explainer = explainer
        self._consumer = open_client(
            Consumer,
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
                **BOUNDED_MEMORY,
                "reconnect.backoff.max.ms": 1000,
                "error_cb": self._remember,
            },
            SILENT,
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
    def stopped(self) -> Mapping[int, PipelineError]:
        return self._stopped

    @property
    def trouble(self) -> str:
        """What the client last complained about, for a message; empty when nothing."""
        return "" if self._trouble is None else in_words(self._trouble)

    def poll(self, timeout_seconds: float) -> list[Record]:
        """As the port says.

        A partition is stopped by OffsetsExpiredError (Kafka deleted its next record), by
        TopicChangedError (its log ends before the next offset: truncated or recreated), by
        UnreadableError (its next records cannot be unpacked, are damaged, or carry timestamps of
        their producers) and by SchemaMismatchError (all of its records do).

        Raises:
            KafkaUnavailableError: Kafka does not have the next offset of a range, and did not say
                where its log begins and ends, or its brokers do not agree on who leads; asked
                again with the next call.
            SchemaMismatchError: the topic is gone.
            MissingRightError: we may not read it.
        """
        return [record for chunk in self.poll_chunks(timeout_seconds) for record in chunk]

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        for partition, explain in list(self._unexplained.items()):
            why = explain()  # raises what may be known with the next call
            self._stop(partition, why)
            del self._unexplained[partition]
        chunks: list[RecordChunk] = []
        messages = self._consumer.consume(_MESSAGES_PER_CALL, timeout_seconds)
        for start, stop in _runs(messages):
            first = messages[start]
            partition, error = first.partition(), first.error()
            if partition in self._left:
                continue  # what was fetched before it was left
            if error is None:
                chunks += self._chunk(partition, messages[start:stop])
            elif error.code() in _LOST_ITS_PLACE:
                # The consumer has stopped at this partition for good: nothing more is given out.
                self._unexplained[partition] = partial(self._why_lost, partition)
            else:
                self._take_error(error, partition, first.offset())
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
            for at, (kind, _) in enumerate(stamps):
                if kind != TIMESTAMP_LOG_APPEND_TIME:
                    self._leave_stamped(partition, offsets[at])
                    if not at:
                        return []
                    messages, offsets, stamps = messages[:at], offsets[:at], stamps[:at]
                    break
        self._next[partition] = offsets[-1] + 1
        self._at_end.pop(partition, None)
        return [
            RecordChunk(
                partition,
                offsets,
                [produced_ms for _, produced_ms in stamps],
                list(map(Message.value, messages)),
                list(map(Message.key, messages)),
                read_headers(messages),
            )
        ]

    def _leave_stamped(self, partition: int, offset: int) -> None:
        self._put_by(partition)
        if self._explainer is None:
            text = f"reading {self._topic}[{partition}] at {offset}: stamped by its producer"
            self._stopped[partition] = SchemaMismatchError(text)
            return
        explain = self._explainer.explain_stamp
        self._unexplained[partition] = partial(explain, self._topic, partition, offset)

    def _finish(self, partition: int) -> None:
        if partition not in self._finished:
            self._finished.add(partition)
            self.leave(partition)

    def _stop(self, partition: int, why: PipelineError) -> None:
        self._stopped[partition] = why
        self._put_by(partition)

    def _put_by(self, partition: int) -> None:
        self._finished.discard(partition)  # its end was fetched already, and is not given out
        self.leave(partition)

    def leave(self, partition: int) -> None:
        if partition not in self._left:
            self._left.add(partition)
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _take_error(self, error: KafkaError, partition: int, offset: int) -> None:
        code = error.code()
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # the client looks for the coordinator of a group that is never joined
        if code == KafkaError._PARTITION_EOF:
            self._at_end[partition] = offset
            if offset >= self._ends.get(partition, offset + 1):
                self._finish(partition)
            return
        if code in UNREADABLE_CODES and partition in self._ends and self._explainer is not None:
            # The client goes on behind a wrong checksum: nothing of that may be taken.
            self._put_by(partition)
            explain = self._explainer.explain_batch
            at, said = self._next[partition], in_words(error)
            self._unexplained[partition] = partial(explain, self._topic, partition, at, said)
            return
        right = lacking(self._config, READ, TOPIC, self._topic)
        translated = translate(error, self._doing(partition), right=right)
        of_topic = isinstance(translated, (SchemaMismatchError, MissingRightError))
        if isinstance(translated, KafkaUnavailableError):
            self._trouble = error
        elif partition in self._ends and not of_topic:
            self._stop(partition, translated)
        else:
            raise translated  # of the topic, not of one partition

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
            raise translate(
                exc.args[0], f"{doing}: Kafka has no such offset; asking where its log begins"
            ) from exc
        if low < 0 or high < 0:
            raise KafkaUnavailableError(
                f"{doing}: Kafka has no such offset, and does not say where its log begins: "
                "another broker takes it over"
            )
        position = self._next[partition]
        if position >= low:
            # What follows is final, and a leader that is cut off may be wrong about its log.
            for error in in_dispute(self._config, self._topic, [partition], "reading").values():
                raise error
        if position < low:
            return OffsetsExpiredError(
                f"{doing}: the low watermark is {low} now, up to {low - position} records were "
                "deleted while they were being read. Raise the topic's retention.ms, then set "
                "IOT_ON_EXPIRED=record to write the loss into the ledger and go on"
            )
        if position <= high:
            return TopicChangedError(
                f"{doing}: the log was cut back before this offset while it was read, and has "
                f"grown again to {high} (an unclean election). Nothing of it was written. Run "
                "again: the next run compares what Kafka has with what was read, and says which "
                "offsets are in doubt"
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
