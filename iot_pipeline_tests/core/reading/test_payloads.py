"""A dead letter's message says what was sent instead of a reading."""

import gzip
import json
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules, Reason, Rejection
from iot_pipeline.core.reading.payloads import what_it_is

SENT = {"device_id": "a/1", "timestamp": 1735444918.5, "temperature": 21.5, "humidity": 40}
JSON = json.dumps(SENT).encode()


def rejected(value: bytes) -> Rejection:
    found = ReadingDecoder(ReadingRules()).decode(value)
    assert isinstance(found, Rejection)
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (gzip.compress(JSON, mtime=0), "compressed with gzip"),
        (zlib.compress(JSON), "compressed with zlib"),
        (b"\x28\xb5\x2f\xfd" + JSON, "compressed with zstd"),
        (b"\0\0\0\0\x11" + JSON, "of a schema registry does (schema 17, then JSON)"),
        (b"\0\0\1\0\x11\x06a/1", "(schema 65553, then Avro or Protobuf)"),
        (JSON.decode().encode("utf-16"), "it is UTF-16: send UTF-8"),
        (JSON.decode().encode("utf-16-be"), "it is UTF-16: send UTF-8"),
        (b"\xef\xbb\xbf" + JSON, "byte order mark"),
        (msgspec.msgpack.encode(SENT), "it is MessagePack (device_id, humidity, temperature, "),
        (b"<reading/>", "it is XML or HTML"),
        (b"", "it is empty"),
    ],
    ids=lambda one: one[:12] if isinstance(one, str) else "",
)
def test_what_else_it_is_is_said(value: bytes, said: str) -> None:
    found = rejected(value)
    assert found.reason is Reason.NOT_JSON
    assert said in found.message
    assert said in what_it_is(value)


@pytest.mark.parametrize(
    "value",
    [b"{", b"caf\xe9", b"\0" * 20, b"\0abc", b"\x80", b"\x8fzzz", b"\0", b"\x81\xa3\0\0\x80"],
)
def test_of_what_is_not_known_nothing_is_said(value: bytes) -> None:
    assert what_it_is(value) == ""
    assert ";" not in rejected(value).message


@pytest.mark.parametrize(
    ("unit", "sent"),
    [
        ("milliseconds", 1735444918500),
        ("microseconds", 1735444918500000),
        ("nanoseconds", 1735444918500000000),
    ],
)
def test_a_time_in_another_unit_is_named_with_the_moment_it_means(unit: str, sent: int) -> None:
    found = rejected(json.dumps(SENT | {"timestamp": sent}).encode())
    assert found.reason is Reason.OUT_OF_RANGE
    assert found.message.endswith(
        f"; as {unit} it is 2024-12-29T04:01:58Z: send seconds, or declare "
        f"`time: {{path: timestamp, as: {unit}}}`"
    )


def test_a_list_of_readings_is_told_to_be_one() -> None:
    found = rejected(b"[" + JSON + b"]")
    assert found.reason is Reason.WRONG_TYPE
    assert found.message.endswith("one message is one reading: send each by itself")


@given(st.binary(max_size=64))
def test_any_bytes_are_said_something_of_or_nothing(value: bytes) -> None:
    assert isinstance(what_it_is(value), str)
