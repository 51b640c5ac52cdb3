"""Reading ranges on the mock cluster: what one call brings, cut into chunks."""

import json

from confluent_kafka import Producer

from iot_pipeline.clients.kafka_source import KafkaRangeSource
from iot_pipeline.core.chunks import RecordChunk
from iot_pipeline.core.offsets import OffsetRange


def _produce(brokers: str, topic: str, partitions: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": brokers, "log_level": 0})
    for number in range(count * partitions):
        producer.produce(
            topic,
            json.dumps(number).encode(),
            b"k" if number % 3 else None,
            partition=number % partitions,
            headers=[("n", b"%d" % number)] if number % 2 else None,
        )
    assert producer.flush(20) == 0


def _source(brokers: str, topic: str, ends: dict[int, int]) -> KafkaRangeSource:
    ranges = [OffsetRange(partition, 0, end) for partition, end in ends.items()]
    # The mock cluster keeps the producer's timestamps.
    return KafkaRangeSource(
        {"bootstrap.servers": brokers, "log_level": 0},
        topic,
        ranges,
        accept_producer_timestamps=True,
    )


def test_chunks_hold_each_partition_in_order_and_the_logs_ends_are_no_records(
    kafka_wire: str,
) -> None:
    topic = "source_chunks"
    _produce(kafka_wire, topic, 3, 500)
    # Ends: inside the log, at its end, beyond it.
    source = _source(kafka_wire, topic, {0: 400, 1: 500, 2: 600})
    chunks: list[RecordChunk] = []
    try:
        while source.finished != {0, 1} or source.at_end.get(2) != 500:
            chunks += source.poll_chunks(0.2)
            # An end of a partition is an error among the messages, which looked at carelessly
            # leaves a TypeError behind for the next thing that happens.
            assert sum(range(3)) == 3
    finally:
        source.close()
    for partition, end in {0: 400, 1: 500, 2: 500}.items():
        records = [item for chunk in chunks if chunk.partition == partition for item in chunk]
        assert [item.offset for item in records] == list(range(end))
        for item in records:
            number = item.offset * 3 + partition
            assert item.value == json.dumps(number).encode()
            assert item.message_key == (b"k" if number % 3 else None)
            assert item.headers == ([("n", b"%d" % number)] if number % 2 else None)
            assert item.produced_ms > 0


def test_polling_for_records_gives_those_of_the_chunks(kafka_wire: str) -> None:
    _produce(kafka_wire, "source_records", 2, 50)
    source = _source(kafka_wire, "source_records", {0: 50, 1: 50})
    records = []
    try:
        while len(source.finished) < 2:
            records += source.poll(0.2)
    finally:
        source.close()
    places = {(item.partition, item.offset) for item in records}
    assert places == {(partition, offset) for partition in (0, 1) for offset in range(50)}
