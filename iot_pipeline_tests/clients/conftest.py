import uuid

import pytest
from confluent_kafka import Producer


@pytest.fixture(scope="session")
def kafka_wire():
    """A broker inside librdkafka: the real protocol on loopback, up in milliseconds.

    It serves produce, fetch, offsets and groups; it has no CreateTopics, retention
    or compaction: tests that need those take `kafka`.
    """
    cluster = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = cluster.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{b.host}:{b.port}" for b in brokers)
    cluster.flush(1)  # keeps `cluster`, and so its brokers, alive until here


@pytest.fixture
def wire_topic(kafka_wire):
    """A fresh topic on `kafka_wire`; asking for it by name makes it there."""
    topic = f"t{uuid.uuid4().hex[:12]}"
    asker = Producer({"bootstrap.servers": kafka_wire, "log_level": 0})
    asker.produce(topic, b"made")
    assert asker.flush(10) == 0
    return topic
