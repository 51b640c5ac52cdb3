"""Fill a topic for the benchmark: readings of so many devices, keyed, spread over time."""

import json
import random
import time
from typing import Any

from confluent_kafka import Producer

from benchmarks.formats import encoder
from iot_pipeline.clients.kafka import client_config
from iot_pipeline.settings import Settings

FIRST_SECOND = 1_735_444_800  # 2024-12-29 04:00 UTC: rows of one run fall into few days


def make_producer(settings: Settings, linger_ms: int = 20, reports: bool = False) -> Any:
    """A producer that loses nothing and batches well: about 350,000 messages a second on a core."""
    return Producer(
        {
            **client_config(settings),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "delivery.report.only.error": not reports,
        }
    )


def message(number: int, devices: int, padding: int = 0) -> tuple[bytes, bytes]:
    """Key and value of message `number`; devices take turns, one reading a second each.

    The same number is always the same message, so that rows can be verified without keeping it.
    """
    device = number % devices
    seconds = FIRST_SECOND + number // devices + device % 1000 / 1000
    temperature = (number * 7919 % 6000) / 100 - 10
    humidity = (number * 104_729 % 10_000) / 100
    key = f"device_{device}"
    extra = f', "pad": "{"x" * padding}"' if padding else ""
    value = (
        f'{{"device_id": "{key}", "timestamp": {seconds!r}, "temperature": {temperature!r}, '
        f'"humidity": {humidity!r}{extra}}}'
    )
    return key.encode(), value.encode()


def row_of(number: int, devices: int) -> tuple[str, int, float, float]:
    """(device_id, timestamp_ms, temperature, humidity) that message `number` must become."""
    reading = json.loads(message(number, devices)[1])
    ms = round(reading["timestamp"] * 1e6) // 1000
    return reading["device_id"], ms, float(reading["temperature"]), float(reading["humidity"])


def load(settings: Settings, count: int, devices: int, padding: int = 0) -> float:
    """Produce messages 0 to `count`, all acknowledged; returns the seconds it took."""
    producer, topic = make_producer(settings), settings.topic
    encode = encoder(settings)
    began = time.monotonic()
    for number in range(count):
        key, value = message(number, devices, padding)
        value = encode(value)
        while True:
            try:
                producer.produce(topic, value, key)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if number % 10_000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    if left:
        raise SystemExit(f"loading {topic}: {left} of {count} messages were not acknowledged")
    return time.monotonic() - began


def sample_numbers(count: int, size: int, seed: int = 1) -> list[int]:
    """Which messages to look up: the first, the last, and some between."""
    rng = random.Random(seed)
    return sorted({0, count - 1, *(rng.randrange(count) for _ in range(size))})
