"""Records that the client cannot give out: which offsets they are, and why, in words.

The end of a batch is read from its header and from the batch behind it; nothing is tried out, for a
good batch may lie between two bad ones.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from iot_pipeline.core.reading.offsets import LOG_APPEND_TIME
from iot_pipeline.errors import PipelineError, SchemaMismatchError, UnreadableError

# What the client says of a batch that it cannot unpack, or whose checksum is wrong.
UNREADABLE_CODES = frozenset(
    {
        KafkaError._BAD_MSG,
        KafkaError._BAD_COMPRESSION,
        KafkaError._UNDERFLOW,
        KafkaError._NOT_IMPLEMENTED,
        KafkaError.INVALID_MSG,
    }
)

if TYPE_CHECKING:
    from iot_pipeline.clients.kafka_raw import Batch, RawKafka
# Enough for the header of the next batch, whatever the size of the one asked for.
_NEXT_BYTES = 2 * 1024 * 1024
# Of a stretch that producers stamped: headers a second on loopback are tens of megabytes of log.
_STRETCH_BYTES = 8 * 1024 * 1024
_STRETCH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Explainer:
    """Says what stopped a source at an offset; asks Kafka.

    Args:
        raw: the client that looks at batches, made at the first trouble.
        stamped_by: the topic's message.timestamp.type, as it is now.
    """

    raw: "Callable[[], RawKafka]"
    stamped_by: Callable[[str], str]

    def explain_batch(self, topic: str, partition: int, offset: int, said: str) -> PipelineError:
        """The batch at `offset`, of which the client said why it gives it out not."""
        batches = self.raw().batches(topic, partition, offset, _NEXT_BYTES)
        if not batches:
            cause = f"Kafka's client: {said}"
            return _unreadable(topic, partition, offset, 0, cause, None)
        first = batches[0]
        why = "it cannot be unpacked" if first.is_whole else "its checksum is wrong"
        cause = f"batch {first.start} to {first.end - 1} ({first}): {why} ({said})"
        return _unreadable(
            topic, partition, offset, _end_of(batches, offset), cause, first.newest_ms
        )

    def explain_stamp(self, topic: str, partition: int, offset: int) -> PipelineError:
        """Records from `offset` on that carry the times of their producers."""
        found = self.stamped_by(topic)
        if found != LOG_APPEND_TIME:
            return SchemaMismatchError(
                f"reading {topic}[{partition}] at {offset}: the record is stamped by its producer, "
                f"not by the broker: the topic's message.timestamp.type is {found}. Set it to "
                "LogAppendTime, or IOT_ACCEPT_PRODUCER_TIMESTAMPS=true and trust every clock"
            )
        end = self._end_of_stamps(topic, partition, offset)
        return _unreadable(
            topic,
            partition,
            offset,
            end,
            "stamped by their producers: they were written before the topic's "
            "message.timestamp.type became LogAppendTime",
            None,
            "IOT_ACCEPT_PRODUCER_TIMESTAMPS=true stores them with the times that their producers "
            "gave, or ",
        )

    def _end_of_stamps(self, topic: str, partition: int, offset: int) -> int:
        deadline = time.monotonic() + _STRETCH_SECONDS
        end = offset
        while time.monotonic() < deadline:
            batches = self.raw().batches(topic, partition, end, _STRETCH_BYTES)
            for batch in batches:
                if not batch.is_stamped_by_producer:
                    return max(end, min(batch.start, batch.end))
                end = max(end, batch.end)
            if not batches:
                break
        return end  # the next look goes on from here


def _end_of(batches: "list[Batch]", offset: int) -> int:
    """Where the first batch ends; 0 where its header may lie and the next one says nothing."""
    first, *others = batches
    if first.is_whole:
        return first.end
    if others and (others[0].is_whole or others[0].start == first.end):
        return others[0].start if others[0].start > offset else 0
    return first.end if not others and first.start <= offset < first.end else 0


def _unreadable(
    topic: str,
    partition: int,
    start: int,
    end: int,
    cause: str,
    newest_ms: int | None,
    other: str = "",
) -> UnreadableError:
    doing = f"reading {topic}[{partition}] at {start}"
    if end <= start:
        return UnreadableError(
            f"{doing}: {cause}. Where the unreadable part ends cannot be told from the log. "
            "`iot rebase` begins at an offset that you choose; what it passes over is recorded "
            "as a loss",
            partition=partition,
            start=start,
            cause=cause,
            newest_ms=newest_ms,
        )
    return UnreadableError(
        f"{doing}: offsets {start} to {end - 1} cannot be read: {cause}. Either restore them in "
        f"Kafka, then run again; or {other}set IOT_ON_UNREADABLE=record to write the loss into "
        "the ledger and go on behind it",
        partition=partition,
        start=start,
        end=end,
        cause=cause,
        newest_ms=newest_ms,
    )
