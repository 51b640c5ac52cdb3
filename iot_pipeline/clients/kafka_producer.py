"""Send readings to Kafka: an idempotent producer that counts what was acknowledged.

Belongs here: the producer's settings, its queue, its counts, its errors in our words. Does not
belong here: what to send (`core.simulator.scenario_fleet`), when, and whether to go on
(`stages.simulator.simulation`).
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient

from iot_pipeline.clients.kafka import (
    SILENT,
    Heard,
    client_config,
    lacking,
    open_client,
    refuse_shut_door,
)
from iot_pipeline.clients.kafka_errors import cause_of, in_words, is_denied, translate
from iot_pipeline.core.rights.grants import TOPIC, WRITE
from iot_pipeline.core.simulator.faults import Emission
from iot_pipeline.errors import KafkaUnavailableError, PipelineError, SchemaMismatchError
from iot_pipeline.settings import Settings

# A signal waits for the C call it interrupts to return: none may take longer.
LONGEST_CALL_SECONDS = 0.2
CONNECT_SECONDS = 5.0
_WHY_SECONDS = 2.0
# As Kafka's own clients: long enough for a broker to be restarted, then a reading is lost.
DELIVERY_SECONDS = 120.0

_log = logging.getLogger(__name__)


class KafkaReadingSender:
    """A `Sender` (stages.simulator.simulation) to one topic; made by `open_sender`.

    Guarantees: a message is written once, in the order of its key (idempotent producer);
    `acknowledged` never counts one that the broker did not confirm.
    """

    def __init__(self, settings: Settings, delivery_seconds: float) -> None:
        """Start the client's threads; connects in the background, waits for nothing."""
        self._topic = settings.topic
        self._bootstrap_servers = settings.bootstrap_servers
        # Messages handed over; each is acknowledged, failed or still unconfirmed.
        self.sent = 0
        self.acknowledged = 0
        self.failed = 0
        self._first_failure: KafkaError | None = None
        self._last_trouble: KafkaError | None = None
        self._settings, self._heard = settings, Heard()
        self._config = client_config(settings)
        self._producer = open_client(
            Producer,
            {
                **self._config,
                "client.id": "iot-simulate",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 20,
                "batch.size": 1_000_000,
                "compression.type": "lz4",
                "message.timeout.ms": int(delivery_seconds * 1000),
                # Every message, 0.2 µs each. What was sent less what is in the queue would be
                # cheaper and wrong: the queue's length counts the library's own events too.
                "on_delivery": self._on_delivery,
                "error_cb": self._on_trouble,
            },
            self._heard,
        )

    def check_topic(self, seconds: float = CONNECT_SECONDS) -> None:
        """Wait until a broker answers and has the topic.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`.
            SchemaMismatchError: the topic does not exist.
            MissingRightError: we may not see it.
        """
        give_up_at = time.monotonic() + seconds
        while True:
            try:
                # All topics: asking for one by name makes it on brokers that create topics.
                topics = self._producer.list_topics(timeout=LONGEST_CALL_SECONDS).topics
            except KafkaException as exc:
                translated = self._translate(exc, "connecting")
                if not isinstance(translated, KafkaUnavailableError):
                    raise translated from exc
                self._serve(self._producer.poll, 0)
                if time.monotonic() < give_up_at:
                    # A refused connection fails at once; without a rest this would spin.
                    time.sleep(0.05)
                    continue
                refuse_shut_door(self._settings, self._heard, f"producing to {self._topic}")
                raise self._unreachable(seconds) from exc
            if self._topic not in topics:
                raise self._why_not_listed()
            return

    def _why_not_listed(self) -> PipelineError:
        """There is no such topic, or we may not see it: lists leave out what we may not see."""
        doing = f"producing to {self._topic} at {self._bootstrap_servers}"
        admin = open_client(AdminClient, self._config, SILENT)
        topics = TopicCollection([self._topic])
        asked = admin.describe_topics(topics, request_timeout=_WHY_SECONDS)
        try:
            asked[self._topic].result()
        except KafkaException as exc:
            if is_denied(exc.args[0]):
                return self._translate(exc, doing)
        return SchemaMismatchError(
            f"{doing}: there is no such topic. `iot setup` makes it; IOT_TOPIC names another."
        )

    def _translate(
        self, cause: KafkaException | KafkaError, doing: str, advice: str = ""
    ) -> PipelineError:
        right = lacking(self._config, WRITE, TOPIC, self._topic)
        return translate(cause, doing, advice, at=self._bootstrap_servers, right=right)

    def _serve(self, call: Callable[[float], object], seconds: float) -> None:
        """Poll or flush. What ends the client for good is raised by whichever of them comes next.

        Such as that our user may write to no topic: its first message is not even sent.
        """
        try:
            call(min(seconds, LONGEST_CALL_SECONDS))
        except KafkaException as exc:
            self._first_failure = exc.args[0]

    def send(
        self,
        emissions: Iterable[Emission],
        on_acknowledged: Callable[[Emission, int, int], None] | None = None,
    ) -> int:
        """Hand over messages in order; returns how many found room.

        Fewer than given means that the local queue is full: `poll`, then send the rest.

        Args:
            emissions: the message key is the device_id; a payload of None is a tombstone.
            on_acknowledged: gets each that the broker confirmed, with its partition and offset,
                during `poll` and `flush`, in the order of each partition.

        Raises:
            PermanentError: the producer is broken for good, or a message is too large.
        """
        produce, topic = self._producer.produce, self._topic
        before = sent = self.sent
        try:
            for emission in emissions:
                # Counted first: an interrupt is raised after the call, never between these two.
                sent += 1
                if on_acknowledged is None:
                    produce(topic, emission.payload, emission.device.device_id)
                else:
                    report = _Report(self._on_delivery, on_acknowledged, emission)
                    produce(topic, emission.payload, emission.device.device_id, on_delivery=report)
        except BufferError:
            sent -= 1
        except KafkaException as exc:
            sent -= 1
            self._serve(self._producer.poll, 0)
            cause = self._first_failure or exc
            raise self._translate(cause, f"producing to {self._topic}") from exc
        finally:
            self.sent = sent
        return sent - before

    def poll(self, seconds: float) -> None:
        """Serve confirmations for at most `seconds`, returning as soon as some came.

        Raises:
            KafkaUnavailableError: messages could not be delivered in time.
            PermanentError: the broker refused messages for good.
        """
        self._serve(self._producer.poll, seconds)
        if self._first_failure is not None:
            raise self._explain(self._first_failure)

    def flush(self, seconds: float) -> int:
        """Wait at most `seconds` (0.2 at most) for confirmations; returns how many are missing.

        Raises nothing: the next `poll` says what went wrong.
        """
        self._serve(self._producer.flush, seconds)
        return self.sent - self.acknowledged - self.failed

    def discard(self) -> None:
        """Drop what was not confirmed: some of it may have arrived, the rest never will."""
        self._producer.purge()
        self._serve(self._producer.flush, LONGEST_CALL_SECONDS)

    def _on_delivery(self, error: KafkaError | None, _message: object) -> None:
        if error is None:
            self.acknowledged += 1
            return
        self.failed += 1
        if self._first_failure is None:
            self._first_failure = error

    def _on_trouble(self, error: KafkaError) -> None:
        # Connection troubles heal by themselves; kept to say why when they do not.
        self._last_trouble = error
        _log.info("%s", in_words(error, self._bootstrap_servers))

    def _explain(self, error: KafkaError) -> PipelineError:
        advice = ""
        if error.code() == KafkaError._MSG_TIMED_OUT:
            advice = (
                f"The broker was away for too long{self._trouble()}. `iot status` says whether "
                "it runs, `iot up` starts it."
            )
        return self._translate(error, f"producing to {self._topic}", advice)

    def _unreachable(self, seconds: float) -> KafkaUnavailableError:
        return KafkaUnavailableError(
            f"connecting: Kafka at {self._bootstrap_servers} did not answer within {seconds:g} s"
            f"{self._trouble()}. `iot up` starts one here; IOT_BOOTSTRAP_SERVERS "
            "names another."
        )

    def _trouble(self) -> str:
        cause = "" if self._last_trouble is None else cause_of(self._last_trouble)
        return f" ({cause})" if cause else ""


@contextmanager
def open_sender(
    settings: Settings,
    *,
    connect_seconds: float = CONNECT_SECONDS,
    delivery_seconds: float = DELIVERY_SECONDS,
) -> Iterator[KafkaReadingSender]:
    """A sender whose broker answered and whose topic exists; discards the unconfirmed at the end.

    Args:
        connect_seconds: how long to wait for a broker.
        delivery_seconds: a message that is not confirmed by then has failed.

    Raises:
        KafkaUnavailableError: no broker answered in time.
        SchemaMismatchError: the topic does not exist.
    """
    sender = KafkaReadingSender(settings, delivery_seconds)
    try:
        sender.check_topic(connect_seconds)
        yield sender
    finally:
        sender.discard()


class _Report(msgspec.Struct, gc=False):
    """Called with the broker's answer for one message: counts it, and tells where it is.

    Not `functools.partial`: Python's collector walks those, and the queue holds 100,000.
    """

    count: Callable[[KafkaError | None, object], None]
    on_acknowledged: Callable[[Emission, int, int], None]
    emission: Emission

    def __call__(self, error: KafkaError | None, message: Any) -> None:
        self.count(error, message)
        if error is None:
            self.on_acknowledged(self.emission, message.partition(), message.offset())
