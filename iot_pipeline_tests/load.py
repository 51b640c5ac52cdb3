"""Records for tests: produced plainly, in transactions, by the hundred thousand."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from iot_pipeline_tests.patience import until

# 2024-12-29 04:01:58.3166866 UTC: the original script's first message.
ORIGINAL = (
    b'{"device_id":"device_2","timestamp":1735444918.3166866,"temperature":26.51,"humidity":40.78}'
)
ORIGIN_SECONDS = 1_735_444_918.0


def reading_json(
    device_id: str,
    seconds: float,
    temperature: float | None = 20.5,
    humidity: float | None = 50.0,
) -> bytes:
    reading = {
        "device_id": device_id,
        "timestamp": seconds,
        "temperature": temperature,
        "humidity": humidity,
    }
    return json.dumps(reading).encode()


def fleet(prefix: str, devices: int, messages: int) -> Iterable[tuple[bytes, bytes]]:
    """(key, value) of `messages` readings, devices taking turns, no two with one primary key."""
    for number in range(messages):
        device_id = f"{prefix}_{number % devices}"
        # No two neighbours equal, and none that no sensor would say.
        warm = 20 + number % 50 / 20
        value = reading_json(device_id, ORIGIN_SECONDS + number // devices, warm, 40.0)
        yield device_id.encode(), value


def produce(
    bootstrap_servers: str,
    topic: str,
    messages: Iterable[tuple[bytes | None, bytes | None]],
    *,
    partition: int | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    **config: Any,
) -> int:
    """Send and wait for every acknowledgement; returns how many."""
    failures: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "message.max.bytes": 4_194_304,
            "compression.type": "lz4",
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failures.append(error),
            **config,
        }
    )
    where: dict[str, Any] = {} if partition is None else {"partition": partition}
    if headers:
        where["headers"] = list(headers)
    sent = 0
    for key, value in messages:
        while True:
            try:
                producer.produce(topic, value, key, **where)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        if sent % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0, "not everything was acknowledged in a minute"
    assert not failures, failures
    return sent


def produce_largest(
    bootstrap_servers: str,
    topic: str,
    key: bytes,
    *,
    partition: int,
    headers: Sequence[tuple[str, bytes | None]] = (),
    limit_bytes: int = 1_048_588,
) -> bytes:
    """Send the largest value that a topic of this max.message.bytes takes, and return it."""
    filler = os.urandom(limit_bytes)
    # A batch of one record costs 61 bytes and some for each field of the record.
    for size in range(limit_bytes - 61, limit_bytes - 400, -1):
        failures: list[KafkaError] = []
        producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "message.max.bytes": 4_194_304, "acks": "all"}
        )
        producer.produce(
            topic,
            filler[:size],
            key,
            partition=partition,
            headers=list(headers),
            on_delivery=lambda error, _, failures=failures: error and failures.append(error),
        )
        assert producer.flush(20) == 0
        if not failures:
            return filler[:size]
        assert all(error.code() == KafkaError.MSG_SIZE_TOO_LARGE for error in failures), failures
    raise AssertionError("no large record was taken")


def produce_in_transaction(
    bootstrap_servers: str,
    topic: str,
    values: Iterable[bytes],
    *,
    commit: bool,
    partition: int = 0,
) -> None:
    """One transaction: its records and its marker, which takes an offset too."""
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "transactional.id": f"tx-{time.time_ns()}"}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(30) == 0
    high = _end_of(bootstrap_servers, topic, partition, "read_uncommitted")
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)
    # The coordinator answers before its marker is in the log: readers would still wait for it.
    give_up_at = until(10)
    while _end_of(bootstrap_servers, topic, partition, "read_committed") <= high:
        if time.monotonic() > give_up_at:  # another transaction is open before this one
            break
        time.sleep(0.02)


def _end_of(bootstrap_servers: str, topic: str, partition: int, isolation: str) -> int:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "ends",
            "isolation.level": isolation,
        }
    )
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1])
    finally:
        consumer.close()


def delete_before(bootstrap_servers: str, topic: str, partition: int, offset: int) -> None:
    """What retention does, at once: the low watermark is `offset` from here on."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
        future.result(30)


def send_bomb(
    brokers: str, topic: str, records: int, *, partition: int, codec: str = "zstd"
) -> tuple[int, int]:
    """Good readings in one batch that unpacks to more than a client of ours takes, of zstd.

    60,000 bytes each; 1,800 of them are 108 MB, and some 20 KB on the wire.

    Returns:
        Its offsets, [start, end).
    """
    offsets: list[int] = []
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "compression.type": codec,
            "linger.ms": 30_000,
            "batch.size": 1_900_000_000,
            "batch.num.messages": records,
            "message.max.bytes": 1_000_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "enable.idempotence": True,
            "on_delivery": lambda error, message: offsets.append(message.offset()),
        }
    )
    for number in range(records):
        value = reading_json("fat", ORIGIN_SECONDS + number).ljust(60_000)
        producer.produce(topic, value, partition=partition)
    assert producer.flush(60) == 0
    assert max(offsets) - min(offsets) + 1 == records, "it is not one batch"
    return min(offsets), max(offsets) + 1
