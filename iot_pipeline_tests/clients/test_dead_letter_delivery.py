"""Dead letters over the real protocol: an attempt that was cut short vouches for nothing."""

import pytest
from confluent_kafka import Consumer, TopicPartition

from iot_pipeline.clients.dead_letters import KafkaDeadLetters
from iot_pipeline.core.reading.messages import DeadLetter, Reason, Record
from iot_pipeline.settings import Settings


class _Interrupted(BaseException):
    pass


def _letters(first: int, count: int) -> list[DeadLetter]:
    return [
        DeadLetter(Record(0, at, 1, b"k", b"{", None), Reason.NOT_JSON, "bad")
        for at in range(first, first + count)
    ]


@pytest.fixture
def sink(kafka_wire: str, wire_topic: str) -> KafkaDeadLetters:
    settings = Settings(bootstrap_servers=kafka_wire, topic=wire_topic)
    return KafkaDeadLetters(settings, delivery_seconds=5.0)


def _delivered(servers: str, source: str) -> int:
    topic = f"{source}.dlq"
    asker = Consumer({"bootstrap.servers": servers, "group.id": "asker"})
    partitions = asker.list_topics(topic, timeout=10).topics[topic].partitions
    ends = [asker.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in partitions]
    asker.close()
    return sum(end - low for low, end in ends)


def test_what_deliver_returned_for_is_in_the_topic(sink, kafka_wire, wire_topic):
    sink.deliver("t", "id", _letters(0, 50))
    sink.deliver("t", "id", _letters(50, 50))
    assert _delivered(kafka_wire, wire_topic) == 100


def test_messages_of_an_attempt_cut_short_do_not_count_for_the_next(sink, kafka_wire, wire_topic):
    sink.deliver("t", "id", _letters(0, 1))
    before = sink._producer

    def letters_then_terminate():
        yield from _letters(1, 40)
        raise _Interrupted

    class Cut(list):
        def __iter__(self):
            return letters_then_terminate()

    with pytest.raises(_Interrupted):
        sink.deliver("t", "id", Cut())
    assert sink._producer is not before, "what was queued is gone with its producer"
    sink.deliver("t", "id", _letters(100, 3))
    assert _delivered(kafka_wire, wire_topic) >= 4
