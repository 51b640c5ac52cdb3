"""Reading ranges on the mock cluster: what one call brings, cut into chunks."""

import json
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, Producer

from iot_pipeline.clients import kafka_source
from iot_pipeline.clients.kafka_source import KafkaRangeSource
from iot_pipeline.core.proof.dead_letters import HEADERS_LOST
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import KafkaUnavailableError, SchemaMismatchError, TopicChangedError
from iot_pipeline_tests.foreign_headers import send_foreign_header


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


class _MuteAboutWatermarks:
    """A consumer whose first questions for watermarks fail; the rest is the real one's.

    None: they are answered, with what stands for no offset.
    """

    def __init__(self, inner: Any, *failures: int | None) -> None:
        self._inner, self._failures = inner, list(failures)

    def get_watermark_offsets(self, *args: Any, **kwargs: Any) -> Any:
        if self._failures:
            if (failure := self._failures.pop(0)) is None:
                return OFFSET_INVALID, OFFSET_INVALID
            raise KafkaException(KafkaError(failure))
        return self._inner.get_watermark_offsets(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _beyond_the_log(brokers: str, topic: str, *failures: int | None) -> KafkaRangeSource:
    _produce(brokers, topic, 1, 10)
    source = KafkaRangeSource(
        {"bootstrap.servers": brokers, "log_level": 0}, topic, [OffsetRange(0, 50, 60)]
    )
    source._consumer = _MuteAboutWatermarks(source._consumer, *failures)
    return source


def _poll_until_it_fails(source: KafkaRangeSource) -> None:
    while True:
        assert source.poll(0.2) == []


def _poll_until_it_stops(source: KafkaRangeSource) -> None:
    while not source.stopped:
        assert source.poll(0.2) == []


def test_a_lost_offset_is_asked_about_again_until_kafka_says_where_its_log_is(
    kafka_wire: str,
) -> None:
    source = _beyond_the_log(
        kafka_wire, "source_lost", KafkaError._TRANSPORT, None, KafkaError._TIMED_OUT
    )
    try:
        for _ in range(3):
            with pytest.raises(KafkaUnavailableError, match=r"source_lost\[0\] at 50.*no such"):
                _poll_until_it_fails(source)
        _poll_until_it_stops(source)
        assert isinstance(source.stopped[0], TopicChangedError)
        assert "the log ends at 10" in str(source.stopped[0])
    finally:
        source.close()


def test_a_lost_offset_is_asked_about_again_while_brokers_do_not_agree_on_who_leads(
    kafka_wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispute = {0: KafkaUnavailableError("brokers do not agree")}
    monkeypatch.setattr(kafka_source, "in_dispute", lambda *_: dispute)
    source = _beyond_the_log(kafka_wire, "source_disputed")
    try:
        with pytest.raises(KafkaUnavailableError, match="do not agree"):
            _poll_until_it_stops(source)
        assert source.stopped == {}
        dispute.clear()
        _poll_until_it_stops(source)
        assert isinstance(source.stopped[0], TopicChangedError)
    finally:
        source.close()


def test_a_lost_offset_of_a_topic_that_is_gone_is_no_reason_to_try_again(kafka_wire: str) -> None:
    source = _beyond_the_log(kafka_wire, "source_gone", KafkaError.UNKNOWN_TOPIC_OR_PART)
    try:
        with pytest.raises(SchemaMismatchError, match="source_gone"):
            _poll_until_it_fails(source)
    finally:
        source.close()


def test_a_header_whose_name_is_no_text_stops_no_reading(kafka_wire: str) -> None:
    topic = "source_headers"
    _produce(kafka_wire, topic, 1, 100)
    send_foreign_header(kafka_wire, topic, b"7")
    _produce(kafka_wire, topic, 1, 2)
    source = _source(kafka_wire, topic, {0: 103})
    chunks: list[RecordChunk] = []
    try:
        while not source.finished:
            chunks += source.poll_chunks(0.2)
    finally:
        source.close()
    (chunk,) = chunks
    assert list(chunk.values)[99:] == [b"99", b"7", b"0", b"1"]
    assert [record.headers for record in chunk][99] == [("n", b"99")]
    # Asked twice, and through parts: the client's second answer would be a null pointer.
    lost = [(HEADERS_LOST, b"the name of a header is not UTF-8: none is kept")]
    for found in (chunk.record(100), *chunk.part(100, 101), *chunk.part(99, 102).part(1, 2)):
        assert found.headers == lost
    assert [record.headers for record in chunk.part(101, 103)] == [None, [("n", b"1")]]
