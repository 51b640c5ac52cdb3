"""Offsets of a consumer group that nobody joins: what lag tools read.

Not by the admin client: when the group's coordinator dies with such a request on its way,
librdkafka 2.16.0 ends the whole process (`Assertion eonce->refcnt > 0`, its pull request 5397).
"""

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from iot_pipeline.clients.kafka import open_client


class PendingCommit:
    """A commit on its way: asked as a future is, from one thread."""

    def __init__(self, consumer: Any, timeout_seconds: float) -> None:
        self._consumer = consumer
        self._give_up_at = time.monotonic() + timeout_seconds
        self._answer: tuple[KafkaError | None] | None = None

    def take(self, error: KafkaError | None) -> None:
        """The broker's answer, or what the client says instead of one."""
        if self._answer is None:
            self._answer = (error,)

    def done(self) -> bool:
        """Whether there is an answer, or the time for one is over."""
        if self._answer is None:
            message = self._consumer.poll(0)
            if message is not None and message.error() is not None:
                self.take(message.error())  # of the group itself: it may not be used
        if self._answer is None and time.monotonic() > self._give_up_at:
            self.take(KafkaError(KafkaError._TIMED_OUT))
        return self._answer is not None

    def result(self, timeout: float) -> None:
        """Wait for the answer.

        Raises:
            TimeoutError: there is none within `timeout` seconds.
            KafkaException: the offsets were not taken.
        """
        deadline = time.monotonic() + timeout
        while not self.done():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.005)
        assert self._answer is not None
        (error,) = self._answer
        if error is not None:
            raise KafkaException(error)


class GroupOffsets:
    """Writes the offsets of one group; one commit at a time is on its way.

    It is closed when the last reference to it goes. With a commit on its way, that waits for the
    answer, `timeout_seconds` after the commit at most.
    """

    def __init__(
        self, config: Mapping[str, Any], group: str, logger: Any, timeout_seconds: float
    ) -> None:
        self._timeout = timeout_seconds
        self._pending: PendingCommit | None = None
        self._consumer = open_client(
            Consumer,
            {
                **config,
                "group.id": group,
                "enable.auto.commit": False,
                # How long librdkafka holds a commit for a coordinator that does not answer; it
                # closes no client before. By default 45 s, with a core for itself.
                "session.timeout.ms": round(timeout_seconds * 1000),
                "reconnect.backoff.max.ms": 1000,
                "on_commit": self._answered,
            },
            logger,
        )

    def send(self, topic: str, next_offsets: Mapping[int, int]) -> PendingCommit:
        """Commit without waiting; the one before this must be done."""
        self._pending = PendingCommit(self._consumer, self._timeout)
        places = [TopicPartition(topic, partition, at) for partition, at in next_offsets.items()]
        self._consumer.commit(offsets=places, asynchronous=True)
        return self._pending

    def _answered(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        refused = [place.error for place in places if place.error is not None]
        if self._pending is not None:
            self._pending.take(error or (refused[0] if refused else None))
