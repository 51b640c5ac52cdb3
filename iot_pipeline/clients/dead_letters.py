"""Deliver dead letters to their topic: bytes unchanged, coordinates and reason in headers."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from iot_pipeline.clients.kafka import SILENT, client_config, lacking, open_client
from iot_pipeline.clients.kafka_errors import translate
from iot_pipeline.core.checks.topics import DEAD_LETTER_MAX_BYTES
from iot_pipeline.core.proof import dead_letters as names
from iot_pipeline.core.proof.dead_letters import Header
from iot_pipeline.core.reading.messages import DeadLetter
from iot_pipeline.core.rights.grants import TOPIC, WRITE
from iot_pipeline.errors import KafkaUnavailableError, PipelineError
from iot_pipeline.settings import Settings

# What still does not fit is cut into parts of this size.
PART_BYTES = 3 * 1024 * 1024
_MAX_TEXT_BYTES = 1024


class KafkaDeadLetters:
    """A `DeadLetterSink`; the producer is made at the first letter.

    At-least-once: a letter may arrive again after a crash; readers drop duplicates by source
    topic, partition and offset.
    """

    def __init__(self, settings: Settings, *, delivery_seconds: float = 20.0) -> None:
        self._settings = settings
        self._delivery_seconds = delivery_seconds
        self._producer_client: Any = None

    @property
    def _producer(self) -> Any:
        if self._producer_client is None:
            self._producer_client = open_client(
                Producer,
                {
                    **client_config(self._settings),
                    "enable.idempotence": True,
                    "acks": "all",
                    "linger.ms": 5,
                    "compression.type": "lz4",
                    "message.max.bytes": DEAD_LETTER_MAX_BYTES,
                    "queue.buffering.max.kbytes": 65_536,
                    "message.timeout.ms": int(self._delivery_seconds * 1000),
                },
                SILENT,
            )
        return self._producer_client

    def _explain(self, cause: KafkaException | KafkaError, doing: str) -> PipelineError:
        target = self._settings.dead_letter_topic
        right = lacking(client_config(self._settings), WRITE, TOPIC, target)
        return translate(cause, doing, right=right)

    def deliver(self, topic: str, topic_id: str, letters: Sequence[DeadLetter]) -> None:
        """Return when all are acknowledged by every replica in sync.

        Raises:
            KafkaUnavailableError: not in time; some may have arrived, all are sent again.
            PermanentError: the topic refuses them, or is not there.
            MissingRightError: we may not write to it.
        """
        target = self._settings.dead_letter_topic
        doing = f"delivering {len(letters)} dead letters to {target}"
        deadline = time.monotonic() + 2 * self._delivery_seconds
        delivery = _Delivery()
        try:
            for letter in letters:
                for value, headers in _messages(topic, topic_id, letter):
                    key = letter.record.message_key
                    self._produce(target, key, value, headers, delivery)
            delivery.is_all_sent = True
            while not delivery.is_whole and delivery.failure is None:
                self._producer.poll(0.1)
                if time.monotonic() > deadline:
                    raise KafkaUnavailableError(
                        f"{doing}: {delivery.acknowledged} of {delivery.sent} acknowledged"
                    )
            if delivery.failure is not None:
                raise self._explain(delivery.failure, doing)
        except KafkaException as exc:
            # The client is done for good, such as where our user may write to no topic.
            raise self._explain(exc, doing) from exc
        finally:
            if not delivery.is_whole:
                self.close()  # what is left of it must not go out beside the next attempt

    def _produce(
        self,
        target: str,
        message_key: bytes | None,
        value: bytes | None,
        headers: list[Header],
        delivery: "_Delivery",
    ) -> None:
        while delivery.failure is None:
            try:
                self._producer.produce(
                    target, value, message_key, headers=headers, on_delivery=delivery.note
                )
                delivery.sent += 1
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def close(self) -> None:
        """Drop the producer; what `deliver` returned for is safe already."""
        producer, self._producer_client = self._producer_client, None
        if producer is not None:
            producer.purge()
            with suppress(KafkaException):
                producer.flush(0.2)


@dataclass(slots=True)
class _Delivery:
    """What became of the messages of one attempt; those of an earlier one count nothing here."""

    sent: int = 0
    acknowledged: int = 0
    failure: KafkaError | None = None
    is_all_sent: bool = False

    @property
    def is_whole(self) -> bool:
        return self.is_all_sent and self.failure is None and self.acknowledged == self.sent

    def note(self, error: KafkaError | None, _message: object) -> None:
        if error is None:
            self.acknowledged += 1
        elif self.failure is None:
            self.failure = error


def _messages(
    topic: str, topic_id: str, letter: DeadLetter
) -> Iterator[tuple[bytes | None, list[Header]]]:
    record = letter.record
    headers: list[Header] = [
        *(record.headers or ()),
        (names.SOURCE_TOPIC, topic.encode()),
        (names.SOURCE_PARTITION, str(record.partition).encode()),
        (names.SOURCE_OFFSET, str(record.offset).encode()),
        (names.EXCEPTION_MESSAGE, _cut(letter.message)),
        (names.TIMESTAMP_MS, str(record.produced_ms).encode()),
        (names.TOPIC_ID, topic_id.encode()),
        (names.REASON, letter.reason.value.encode()),
        (names.MESSAGE, _cut(letter.message)),
    ]
    value = record.value
    if value is None or len(value) <= PART_BYTES:
        yield value, headers
        return
    parts = [value[at : at + PART_BYTES] for at in range(0, len(value), PART_BYTES)]
    for number, part in enumerate(parts, start=1):
        yield part, [*headers, (names.PART, f"{number}/{len(parts)}".encode())]


def _cut(text: str) -> bytes:
    return text.encode()[:_MAX_TEXT_BYTES]
