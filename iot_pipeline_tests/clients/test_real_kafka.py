"""Exact ranges, watermarks, identity and holes, on a real broker."""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.kafka_source import KafkaRangeSource
from iot_pipeline.clients.schema_store import KafkaTopics
from iot_pipeline.core.checks.topics import TopicPlan
from iot_pipeline.core.reading.messages import Record
from iot_pipeline.core.reading.offsets import OffsetRange, Watermarks
from iot_pipeline.errors import (
    OffsetsExpiredError,
    PermanentError,
    SchemaMismatchError,
    TopicChangedError,
)
from iot_pipeline.settings import Settings
from iot_pipeline_tests.load import produce, produce_in_transaction
from iot_pipeline_tests.patience import until

pytestmark = pytest.mark.services

APPEND = {"message.timestamp.type": "LogAppendTime"}


@pytest.fixture
def log(settings: Settings) -> KafkaLog:
    return KafkaLog(settings)


@pytest.fixture
def make_topic(settings: Settings) -> Callable[..., str]:
    def make(partitions: int = 1, **config: str) -> str:
        name = f"iot_test_{uuid.uuid4().hex[:10]}"
        named = {key.replace("_", "."): value for key, value in config.items()}
        assert KafkaTopics(settings).create(TopicPlan(name, partitions, 1, APPEND | named))
        return name

    return make


def numbers(count: int, start: int = 0) -> list[tuple[bytes | None, bytes | None]]:
    return [(None, str(number).encode()) for number in range(start, start + count)]


def read(source: KafkaRangeSource, partitions: int = 1, seconds: float = 20) -> list[Record]:
    records: list[Record] = []
    deadline = until(seconds)
    while len(source.finished) < partitions:
        assert time.monotonic() < deadline, (
            f"{len(records)} records, not finished: {source.trouble}"
        )
        records += source.poll(0.1)
        for why in source.stopped.values():
            raise why
    source.close()
    return records


def read_range(log: KafkaLog, topic: str, *ranges: OffsetRange) -> list[int]:
    return [r.offset for r in read(log.open_ranges(topic, ranges), len(ranges))]


def test_a_range_is_read_exactly_and_ends_by_itself(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(2)
    for partition in (0, 1):
        produce(kafka, topic, numbers(2500), partition=partition)
    source = log.open_ranges(topic, [OffsetRange(0, 7, 1203), OffsetRange(1, 2499, 2500)])
    records = read(source, 2)
    assert [r.offset for r in records if r.partition == 0] == list(range(7, 1203))
    assert [r.offset for r in records if r.partition == 1] == [2499]
    assert all(r.value == str(r.offset).encode() for r in records)
    assert source.finished == {0, 1}


def test_holes_are_jumped_over_and_the_range_ends_even_in_one(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    produce(kafka, topic, numbers(3))  # 0 1 2
    produce_in_transaction(kafka, topic, [b"a", b"b"], commit=True)  # 3 4, marker 5
    produce_in_transaction(kafka, topic, [b"x", b"y"], commit=False)  # 6 7 aborted, marker 8
    produce(kafka, topic, numbers(1))  # 9
    produce_in_transaction(kafka, topic, [b"c"], commit=True)  # 10, marker 11
    assert log.watermarks(topic) == [Watermarks(0, 0, 12)]
    assert read_range(log, topic, OffsetRange(0, 0, 12)) == [0, 1, 2, 3, 4, 9, 10]
    # The end is a hole with a record beyond it, a hole alone, the marker that ends the log.
    assert read_range(log, topic, OffsetRange(0, 2, 8)) == [2, 3, 4]
    assert read_range(log, topic, OffsetRange(0, 6, 9)) == []
    assert read_range(log, topic, OffsetRange(0, 11, 12)) == []


def test_a_committed_record_that_was_taken_for_a_hole_is_found_and_an_aborted_one_is_not(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    produce(kafka, topic, numbers(3))  # 0 1 2
    produce_in_transaction(kafka, topic, [b"x", b"y"], commit=False)  # 3 4 aborted, marker 5
    produce(kafka, topic, numbers(1))  # 6
    assert log.find_skipped(topic, [OffsetRange(0, 3, 6)]) == []
    assert log.find_skipped(topic, [OffsetRange(0, 1, 2), OffsetRange(0, 4, 7)]) == [(0, 1), (0, 6)]


def test_compacted_records_are_holes(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(
        cleanup_policy="compact",
        segment_ms="50",
        min_cleanable_dirty_ratio="0.001",
        min_compaction_lag_ms="0",
        max_compaction_lag_ms="100",
    )
    produce(kafka, topic, [(b"same", str(number).encode()) for number in range(20)])
    deadline = until(60)
    while True:
        # Each record rolls the segment before it, which the cleaner may then take.
        produce(kafka, topic, [(b"other", b"tick")])
        end = log.watermarks(topic)[0].last_stable
        offsets = read_range(log, topic, OffsetRange(0, 0, end))
        if offsets[0] == 19:
            break
        assert time.monotonic() < deadline, "the cleaner did not come in a minute"
        time.sleep(0.5)
    assert log.find_skipped(topic, [OffsetRange(0, 0, 19)]) == []
    assert read_range(log, topic, OffsetRange(0, 0, 19)) == []
    assert read_range(log, topic, OffsetRange(0, 0, 20)) == [19]


def test_an_open_transaction_is_not_below_the_last_stable_offset(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:

    topic = make_topic()
    produce(kafka, topic, numbers(2))
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    assert producer.flush(30) == 0
    produce(kafka, topic, numbers(1))
    assert log.watermarks(topic) == [Watermarks(0, 0, 2)]
    producer.commit_transaction(30)
    deadline = until(10)
    while log.watermarks(topic) != [Watermarks(0, 0, 5)]:
        assert time.monotonic() < deadline
    assert read_range(log, topic, OffsetRange(0, 0, 5)) == [0, 1, 2, 3]


def test_records_deleted_meanwhile_are_an_error_that_counts_them(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    produce(kafka, topic, numbers(10))
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.delete_records([TopicPartition(topic, 0, 6)]).values():
        future.result(20)
    assert log.watermarks(topic) == [Watermarks(0, 6, 10)]
    with pytest.raises(OffsetsExpiredError, match="low watermark is 6 now, up to 4 records"):
        read(log.open_ranges(topic, [OffsetRange(0, 2, 10)]))


def test_a_log_that_ends_before_the_range_is_another_topic(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    produce(kafka, topic, numbers(3))
    with pytest.raises(TopicChangedError, match="the log ends at 3"):
        read(log.open_ranges(topic, [OffsetRange(0, 7, 9)]))


def test_a_topic_made_again_has_another_uuid(
    log: KafkaLog, kafka: str, settings: Settings, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    before = log.topic_id(topic)
    assert before == log.topic_id(topic) == log.describe(topic).topic_id
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(20)
    deadline = until(20)
    made = after = None
    # Both the deletion and the new topic reach the broker's metadata a moment later.
    while after in (None, before) and time.monotonic() < deadline:
        try:
            made = made or KafkaTopics(settings).create(TopicPlan(topic, 1, 1, APPEND))
            after = log.topic_id(topic)
        except PermanentError:
            time.sleep(0.1)
    assert made
    assert after not in (None, before)


def test_a_topic_that_is_not_there_is_said_so(log: KafkaLog) -> None:
    for ask in (log.describe, log.topic_id, log.watermarks):
        with pytest.raises(SchemaMismatchError, match="iot setup"):
            ask("iot_test_nobody_made_this")


def test_offsets_at_a_time_are_the_first_that_arrived_then(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(2)
    produce(kafka, topic, numbers(3), partition=0)
    time.sleep(0.02)
    between = datetime.now(UTC)
    time.sleep(0.02)
    produce(kafka, topic, numbers(2), partition=0)
    assert log.offsets_at(topic, between) == {0: 3, 1: 0}
    assert log.offsets_at(topic, datetime(2000, 1, 1, tzinfo=UTC)) == {0: 0, 1: 0}
    assert log.offsets_at(topic, datetime(2099, 1, 1, tzinfo=UTC)) == {0: 5, 1: 0}


def test_a_record_stamped_by_its_producer_is_refused(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(message_timestamp_type="CreateTime")
    produce(kafka, topic, numbers(1))
    with pytest.raises(SchemaMismatchError, match="stamped by its producer"):
        read(log.open_ranges(topic, [OffsetRange(0, 0, 1)]))


def test_single_records_are_read_again_by_their_offsets(
    log: KafkaLog, kafka: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    produce(kafka, topic, numbers(20), headers=[("h", b"1"), ("n", None)])
    records = log.read_offsets(topic, [(0, 17), (0, 3)])
    assert [(r.offset, r.value, r.headers) for r in records] == [
        (3, b"3", [("h", b"1"), ("n", None)]),
        (17, b"17", [("h", b"1"), ("n", None)]),
    ]


def test_the_mirror_is_what_kafkas_own_lag_tools_read(
    settings: Settings, kafka: str, make_topic: Callable[..., str]
) -> None:

    topic = make_topic(2)
    log = KafkaLog(settings)
    for at in range(1, 6):
        log.mirror(topic, {0: at, 1: 10 * at})
    log.close()
    admin = AdminClient({"bootstrap.servers": kafka})
    group = settings.consumer_group
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    found = {p.partition: p.offset for p in asked[group].result(20).topic_partitions}
    assert found == {0: 5, 1: 50}
