"""Dead letters through a real broker: whole, however large, in order, acknowledged."""

import os

import pytest

from iot_pipeline.clients.dead_letters import PART_BYTES, KafkaDeadLetters
from iot_pipeline.core.proof.dead_letters import LetterReader, StoredLetter
from iot_pipeline.core.reading.messages import DeadLetter, Reason, Record
from iot_pipeline.errors import KafkaUnavailableError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline_tests.foreign_headers import send_foreign_header
from iot_pipeline_tests.load import ORIGIN_SECONDS, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import free_ports

pytestmark = pytest.mark.services


def letter(offset: int, value: bytes | None, message: str = "why") -> DeadLetter:
    record = Record(3, offset, 1_735_444_918_316, b"key", value, [("trace", b"1"), ("n", None)])
    return DeadLetter(record, Reason.NOT_JSON, message)


def delivered(pipeline: Pipeline) -> list[StoredLetter]:
    topic = pipeline.settings.dead_letter_topic
    (marks,) = pipeline.log.watermarks(topic)
    places = [(0, offset) for offset in range(marks.low, marks.last_stable)]
    reader = LetterReader()
    records = pipeline.log.read_offsets(topic, places)
    return [found for record in records if (found := reader.add(record))]


def test_a_letter_arrives_with_its_bytes_headers_and_reason(pipeline: Pipeline) -> None:
    sink = pipeline.connections.dead_letters
    values = [b"\x00\xff\xfe", b"", None, b"{}"]
    sink.deliver(pipeline.topic, "uuid", [letter(n, v) for n, v in enumerate(values)])
    found = delivered(pipeline)
    assert [item.value for item in found] == values
    for number, item in enumerate(found):
        assert (item.source.topic, item.source.topic_id) == (pipeline.topic, "uuid")
        assert (item.source.partition, item.source.offset) == (3, number)
        assert (item.reason, item.message, item.message_key) == ("not_json", "why", b"key")
        assert item.headers == (("trace", b"1"), ("n", None))
        assert item.produced_ms == 1_735_444_918_316


def test_what_does_not_fit_is_sent_in_parts_and_joined_to_the_same_bytes(
    pipeline: Pipeline,
) -> None:
    value = os.urandom(2 * PART_BYTES + 1)
    sink = pipeline.connections.dead_letters
    sink.deliver(pipeline.topic, "uuid", [letter(1, value), letter(2, value[:PART_BYTES])])
    (marks,) = pipeline.log.watermarks(pipeline.settings.dead_letter_topic)
    assert marks.last_stable == 4
    assert [item.value for item in delivered(pipeline)] == [value, value[:PART_BYTES]]


def test_a_letter_delivered_again_is_one_letter(pipeline: Pipeline) -> None:
    for _ in range(2):
        pipeline.connections.dead_letters.deliver(pipeline.topic, "uuid", [letter(1, b"x")])
    assert len(delivered(pipeline)) == 1


def test_a_long_message_is_cut_and_the_value_is_not(pipeline: Pipeline) -> None:
    sink = pipeline.connections.dead_letters
    sink.deliver(pipeline.topic, "uuid", [letter(1, b"v" * 5000, "é" * 5000)])
    (found,) = delivered(pipeline)
    assert len(found.value or b"") == 5000
    assert 400 < len(found.message) <= 512


def test_strangers_in_the_topic_are_no_letters(pipeline: Pipeline) -> None:
    produce(pipeline.brokers, pipeline.settings.dead_letter_topic, [(b"k", b"hello")])
    assert delivered(pipeline) == []


def test_delivery_to_nobody_fails_in_its_time_and_says_what_was_tried(settings: Settings) -> None:
    (port,) = free_ports(1)
    nobody = settings.model_copy(update={"bootstrap_servers": f"127.0.0.1:{port}"})
    sink = KafkaDeadLetters(nobody, delivery_seconds=1.0)
    with pytest.raises(KafkaUnavailableError, match="delivering 1 dead letters to"):
        sink.deliver("t", "uuid", [letter(1, b"x")])
    sink.close()


def test_delivery_to_a_topic_that_is_not_there_is_said_so(settings: Settings) -> None:
    sink = KafkaDeadLetters(settings, delivery_seconds=5.0)
    with pytest.raises((SchemaMismatchError, KafkaUnavailableError), match="delivering 1"):
        sink.deliver("t", "uuid", [letter(1, b"x")])
    sink.close()


def test_a_letter_of_a_record_with_unreadable_headers_keeps_the_rest_and_says_so(
    pipeline: Pipeline,
) -> None:
    for value in (b"nonsense", reading_json("cafe", ORIGIN_SECONDS)):
        send_foreign_header(pipeline.brokers, pipeline.topic, value)
    send_foreign_header(pipeline.brokers, pipeline.settings.dead_letter_topic, b"a stranger's")
    pipeline.drain()
    assert len(pipeline.rows("cafe")) == 1
    (found,) = pipeline.iot("dead-letters", "show", "0:0", "--json")
    assert (found["value"], found["headers"]) == (
        "nonsense",
        [["iot.headers_lost", "the name of a header is not UTF-8: none is kept"]],
    )
    assert pipeline.iot("dead-letters", "list", "--json")["foreign"] == 1
    assert pipeline.iot("dead-letters", "replay", "--json")["still_rejected"] == {"not_json": 1}
    assert pipeline.iot("trace", "cafe", str(ORIGIN_SECONDS), "--json")
    assert pipeline.iot("audit", "--all", "--json")["lost"] == 0
    assert pipeline.iot("lag", "--json")["lag"] == 0
