"""What librdkafka's Python does not offer, asked of Kafka by kafka-python's low-level client.

Record batches as they lie in the log, without unpacking them, and the producers and transactions
that are at work on a topic. Nothing here reads a record.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import (
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)
from kafka.protocol.consumer import FetchRequest
from kafka.record.memory_records import MemoryRecords
from kafka.structs import TopicPartition

from iot_pipeline.clients.kafka import client_config, lacking, raw_config
from iot_pipeline.core.rights.grants import READ, TOPIC
from iot_pipeline.errors import KafkaUnavailableError, MissingRightError, PermanentError
from iot_pipeline.settings import Settings

# Its own log lines say every reconnect; our messages say what it means.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

_CODECS = {0: "not compressed", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
_CREATE_TIME = 0
# Fetch by topic name; later versions ask for the topic's UUID.
_FETCH_VERSIONS = {"min_version": 4, "max_version": 12}


@dataclass(frozen=True, slots=True)
class Batch:
    """A record batch's header: offsets [start, end), sizes as it lies in the log.

    `is_whole` says whether its checksum is right: a header of one that is not may lie.
    """

    start: int
    end: int
    size_bytes: int
    records: int
    codec: str
    is_stamped_by_producer: bool
    is_whole: bool
    stamp_ms: int = 0

    @property
    def newest_ms(self) -> int | None:
        """The broker's timestamp of its newest record, where the header says it and is right."""
        is_known = self.is_whole and not self.is_stamped_by_producer and self.stamp_ms >= 0
        return self.stamp_ms if is_known else None

    def __str__(self) -> str:
        return f"{self.records:,} records, {self.size_bytes:,} bytes, {self.codec}"


class RawKafka:
    """One connection, made at first use.

    Args:
        timeout_seconds: how long one question may take.

    Raises:
        KafkaUnavailableError: no broker answered in time.
        PermanentError: the broker refused the question.
        MissingRightError: we may not read the topic.
    """

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._settings, self._timeout = settings, timeout_seconds
        self._client: Any = None

    def batches(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Batch]:
        """Neighbours in the log, the first of them the one that holds `offset`; maybe none.

        The first comes whole, however large it is; of those that follow what fits in `max_bytes`.
        """
        doing = f"looking at the batches of {topic}[{partition}] at {offset}"
        with self._asking(doing, topic) as client:
            wanted = FetchRequest.FetchTopic.FetchPartition(
                partition=partition,
                current_leader_epoch=-1,
                fetch_offset=offset,
                last_fetched_epoch=-1,
                partition_max_bytes=max_bytes,
            )
            request = FetchRequest(
                max_wait_ms=0,
                min_bytes=0,
                max_bytes=max_bytes,
                isolation_level=0,
                session_id=0,
                session_epoch=-1,
                topics=[FetchRequest.FetchTopic(topic=topic, partitions=[wanted])],
                forgotten_topics_data=[],
                rack_id="",
                **_FETCH_VERSIONS,
            )
            leader = _leader_of(client, topic, partition)
            answer = client._manager.run(_send, client._manager, request, leader)
            (found,) = answer.responses[0].partitions
            if found.error_code == TopicAuthorizationFailedError.errno:
                raise TopicAuthorizationFailedError
            return list(_headers(found.records or b""))

    def producers(self, topic: str, partitions: Sequence[int]) -> dict[int, list[Any]]:
        """By Kafka partition, what its leader knows of the producers that wrote to it."""
        with self._asking(f"asking for the producers of {topic}", topic) as client:
            # Of a topic that we may not see it says that there is none.
            _describe(client, topic)
            wanted = [TopicPartition(topic, partition) for partition in partitions]
            found = client.describe_producers(wanted)
            return {place.partition: list(state.active_producers) for place, state in found.items()}

    def transactional_ids(self, producer_ids: Sequence[int]) -> dict[int, str]:
        """By producer id, that of a transaction that a coordinator knows of."""
        if not producer_ids:
            return {}
        with self._asking("asking for transactions", "") as client:
            by_broker = client.list_transactions(producer_id_filters=list(producer_ids))
            return {
                one.producer_id: str(one.transactional_id)
                for ones in by_broker.values()
                for one in ones
            }

    @contextmanager
    def _asking(self, doing: str, topic: str) -> Iterator[Any]:
        try:
            if self._client is None:
                self._client = KafkaAdminClient(
                    **raw_config(self._settings), request_timeout_ms=int(self._timeout * 1000)
                )
            yield self._client
        except TopicAuthorizationFailedError as exc:
            right = lacking(client_config(self._settings), READ, TOPIC, topic)
            raise MissingRightError(f"{doing}: {right}") from exc
        except KafkaError as exc:
            said = f"{doing}: {exc.__class__.__name__}: {exc}"
            if exc.retriable:
                self.close()
                raise KafkaUnavailableError(
                    f"{said}. Try again; `iot status` says what runs here"
                ) from exc
            raise PermanentError(f"{said}. A retry will not change this") from exc

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


async def _send(manager: Any, request: Any, node_id: int) -> Any:
    return await manager.send(request, node_id=node_id)


def _leader_of(client: Any, topic: str, partition: int) -> int:
    return next(
        int(one["leader_id"])
        for one in _describe(client, topic)["partitions"]
        if one["partition_index"] == partition
    )


def _describe(client: Any, topic: str) -> Any:
    (described,) = client.describe_topics([topic])
    if described["error_code"]:
        raise for_code(described["error_code"])
    return described


def _headers(content: bytes) -> Iterator[Batch]:
    for batch in MemoryRecords(content):
        if batch.magic < 2:
            return  # before Kafka 0.11: no header tells its end
        yield Batch(
            batch.base_offset,
            batch.next_offset,
            batch.size_in_bytes,
            batch.records_count,
            _CODECS.get(batch.compression_type, "an unknown codec"),
            batch.timestamp_type == _CREATE_TIME,
            batch.validate_crc(),
            batch.max_timestamp,
        )
