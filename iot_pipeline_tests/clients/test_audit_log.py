"""What the audit's reading of the log makes of a poll."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from iot_pipeline.clients.audit_log import KafkaAuditLog, _are_all_inside
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.settings import Settings


def record(offset: int, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=offset)


def test_a_poll_is_taken_whole_when_no_partition_ends_in_it() -> None:
    ends = {0: 10, 1: 10}
    assert _are_all_inside([record(5), record(8), record(3, 1)], ends, {0, 1})
    assert not _are_all_inside([record(9)], ends, {0, 1}), "the last one wanted"
    assert not _are_all_inside([record(12)], ends, {0, 1}), "beyond it"
    assert not _are_all_inside([record(5, 1)], ends, {0}), "of a partition that is done"


def test_an_error_among_the_records_leaves_no_exception_behind() -> None:
    end = Message(topic="t", partition=0, offset=6, error=KafkaError(KafkaError._PARTITION_EOF))
    assert not _are_all_inside([record(5), end], {0: 10}, {0})
    # Compared with None by ==, the error would leave a TypeError that this call raises.
    assert TopicPartition("t", 0).partition == 0


class Scripted:
    """A consumer that says what it is told to say."""

    def __init__(self, *script: Sequence[Message]) -> None:
        self._script = list(script)

    def consume(self, count: int, timeout_seconds: float) -> Sequence[Message]:
        return self._script.pop(0)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        pass


def test_a_bad_batch_behind_a_range_is_no_trouble_of_the_range() -> None:
    bad = Message(topic="t", partition=0, offset=2, error=KafkaError(KafkaError._BAD_COMPRESSION))
    # Fetched ahead: it may come with the last record wanted, or while another partition is read.
    consumer = Scripted([record(0), record(1), bad], [bad, record(0, 1)])
    log = KafkaAuditLog(Settings(topic="t"))
    found = list(log._until_finished(consumer, "t", {0: 0, 1: 0}, {0: 2, 1: 1}))
    places = [(m.partition(), m.offset()) for part in found for m in part]
    assert places == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("device", "keys", "headers"),
    [
        ("key", [b"a/1"], []),
        ("{header: id}", [], [[("id", b"a/2")]]),
        ("{path: d}", [], []),
    ],
)
def test_keys_and_headers_are_read_where_they_name_the_device(
    device: str, keys: list, headers: list, kafka_wire: str, wire_topic: str, tmp_path: Path
) -> None:
    sender = Producer({"bootstrap.servers": kafka_wire, "log_level": 0})
    placed: list[Message] = []
    sender.produce(
        wire_topic,
        b"{}",
        b"a/1",
        headers=[("id", b"a/2")],
        on_delivery=lambda _, message: placed.append(message),
    )
    assert sender.flush(10) == 0
    partition, offset = placed[0].partition() or 0, placed[0].offset() or 0
    reading = tmp_path / "reading.yaml"
    reading.write_text(f"version: 1\ndevice: {device}\ntime: kafka\nquantities: {{x: {{}}}}\n")
    settings = Settings.from_env(
        {
            "IOT_READING": str(reading),
            "IOT_TOPIC": wire_topic,
            "IOT_BOOTSTRAP_SERVERS": kafka_wire,
        }
    )
    found = list(
        KafkaAuditLog(settings).read(wire_topic, [OffsetRange(partition, offset, offset + 1)])
    )
    assert [value for part in found for value in part.values] == [b"{}"]
    assert [key for part in found for key in part.message_keys] == keys
    assert [one for part in found for one in part.headers] == headers
