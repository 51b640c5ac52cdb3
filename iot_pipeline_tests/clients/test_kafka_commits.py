"""Offsets of a group that nobody joins: taken by a broker, or given up on when none answers."""

import gc
import socket
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from iot_pipeline.clients.kafka import SILENT
from iot_pipeline.clients.kafka_commits import GroupOffsets
from iot_pipeline.clients.kafka_errors import translate
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline_tests.patience import until

TOPIC, GROUP = "commits", "group of commits"


def committed(brokers: str) -> list[int]:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": GROUP})
    try:
        places = [TopicPartition(TOPIC, partition) for partition in range(2)]
        return [place.offset for place in consumer.committed(places, timeout=20)]
    finally:
        consumer.close()


def test_a_broker_takes_them_and_the_newest_remain(kafka_wire: str) -> None:
    producer = Producer({"bootstrap.servers": kafka_wire})
    for partition in range(2):
        producer.produce(TOPIC, b"makes the topic", partition=partition)
    assert producer.flush(20) == 0
    offsets = GroupOffsets({"bootstrap.servers": kafka_wire}, GROUP, SILENT, 20)
    for at in (3, 5):
        offsets.send(TOPIC, {0: at, 1: 10 * at}).result(20)
    assert committed(kafka_wire) == [5, 50]


def test_a_broker_that_says_nothing_is_given_up_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = {"bootstrap.servers": f"127.0.0.1:{silent.getsockname()[1]}"}
        sent = GroupOffsets(config, GROUP, SILENT, 3.0).send(TOPIC, {0: 1})
        assert not sent.done(), "a mirror waits for nothing"
        with pytest.raises(TimeoutError):
            sent.result(0)
        with pytest.raises(KafkaException) as refused:
            sent.result(60)
        # Ours or librdkafka's word for it, whichever is first.
        assert isinstance(translate(refused.value, "mirroring"), KafkaUnavailableError)
        assert sent.done()
        # Closed here, and not while garbage of another test is collected.
        give_up_at = until(5)
        del sent, refused
        gc.collect()
        assert time.monotonic() < give_up_at, "its client waited on after it was given up"
