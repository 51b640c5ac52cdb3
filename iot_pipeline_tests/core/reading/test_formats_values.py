"""Values and times of messages by a schema, as they are kept, and schemas asked for by id."""

import json
import struct

import pytest

from iot_pipeline.core.reading.formats import SchemaBook, Unknown, frame
from iot_pipeline.core.reading.messages import (
    Reason,
    Rejection,
)
from iot_pipeline_tests.core.reading.messages_by_schema import (
    AT_MS,
    DESCRIPTORS,
    FIRST,
    GOOD,
    KIND,
    MESSAGE,
    ROW,
    VENDOR,
    as_schema,
    audited,
    avro,
    drained,
    goes_the_fast_way,
    rules_of,
    write,
    write_proto,
)

# Numbers as they are kept.

KINDS = """
version: 1
format: avro
device: {path: d}
time: {path: t, as: seconds}
quantities:
  small: {path: small, type: float}
  far: {path: far, type: bigint}
  is_open: {path: open, type: boolean}
  word: {path: word, type: text}
  warm: {path: warm, scale: 0.5, shift: -1}
"""


def test_values_of_each_type_are_the_same_by_both_ways() -> None:
    enum = {"type": "enum", "name": "E", "symbols": ["low", "high"]}
    fields = {"d": enum, "t": "double", "small": "float", "far": "long", "open": "boolean"}
    fields |= {"word": "E", "warm": "int"}
    told = {
        "type": "record",
        "name": "R",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }
    rules = rules_of("avro", {1: as_schema(told)}, KINDS)
    message = {"d": "low", "t": 1_795_000_000.25, "small": 0.1, "far": 2**63 - 1, "open": True}
    value = write(told, message | {"word": "high", "warm": 7}, 1)
    small = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    expected = ("low", 1_795_000_000_250, small, 2**63 - 1, True, "high", 2.5)
    assert goes_the_fast_way(rules, value)
    assert drained(rules, value) == [expected] == [audited(rules, value)]


@pytest.mark.parametrize("seconds", [float("nan"), 1e300, 4e8, 946_684_799.9999999, 4_102_444_800])
def test_a_time_that_is_none_is_refused_by_both_ways(seconds: float) -> None:
    told = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "d", "type": "string"}, {"name": "t", "type": "double"}, KIND],
    }
    text = KINDS[: KINDS.index("quantities")] + "quantities: {x: {path: t}}"
    rules = rules_of("avro", {1: as_schema(told)}, text)
    value = write(told, {"d": "a", "t": seconds}, 1)
    (found,) = drained(rules, value)
    assert isinstance(found, Rejection)
    assert (found.reason, audited(rules, value)) == (Reason.OUT_OF_RANGE, found)


def test_a_timestamp_of_protobuf_is_read_as_nanoseconds() -> None:
    text = VENDOR.replace("{path: ts, as: milliseconds}", "{path: at, as: nanoseconds}")
    rules = rules_of("protobuf", {1: DESCRIPTORS}, text)
    at = {"seconds": AT_MS // 1000, "nanos": AT_MS % 1000 * 1_000_000}
    value = write_proto({**MESSAGE, "at": at})
    assert goes_the_fast_way(rules, value)
    assert drained(rules, value) == [ROW] == [audited(rules, value)]
    missing = drained(rules, write_proto(MESSAGE))
    assert missing == [Rejection(Reason.MISSING_FIELD, "at is missing")]
    # More nanoseconds than 64 bits hold.
    far = write_proto({**MESSAGE, "at": {"seconds": 1 << 40}})
    (found,) = drained(rules, far)
    assert (found.reason, found) == (Reason.OUT_OF_RANGE, audited(rules, far))
    seen = text.replace("ignore:", "  seen: {path: at, type: bigint, optional: true}\nignore:")
    rules = rules_of("protobuf", {1: DESCRIPTORS}, seen)
    assert drained(rules, value) == [(*ROW, AT_MS * 1_000_000)] == [audited(rules, value)]
    inside = VENDOR.replace("{path: ts, as: milliseconds}", "{path: at.seconds, as: seconds}")
    rules = rules_of("protobuf", {1: DESCRIPTORS}, inside)
    (found,) = drained(rules, value)
    assert found == Rejection(Reason.MISSING_FIELD, "at.seconds is missing")
    assert audited(rules, value) == found


def test_a_message_that_would_never_end_is_refused_at_once() -> None:
    nothing = {"name": "list", "type": {"type": "array", "items": "null"}}
    inner = {"name": "next", "type": ["null", "a.b.Message"]}
    rules = rules_of("avro", {1: as_schema(avro(nothing)), 2: as_schema(avro(inner))})
    told = write(avro(nothing), {**MESSAGE, "list": []}, 1)
    assert drained(rules, told) == [ROW] == [audited(rules, told)]
    endless = told[:-1] + b"\xfe" * 8 + b"\x7e\0"
    (found,) = drained(rules, endless)
    assert found.message.startswith("schema 1: list: ")
    # Each of them holds the next.
    once = write(avro(inner), {**MESSAGE, "next": None}, 2)
    deep = once[:5] + (once[5:-1] + b"\2") * 1_000 + once[5:]
    (found,) = drained(rules, deep)
    assert "more than 128 records in each other" in found.message
    assert drained(rules, once) == [ROW]


def test_json_behind_a_registrys_bytes_is_json() -> None:
    rules = rules_of("json-schema", {})
    body = json.dumps(MESSAGE).encode()
    assert drained(rules, frame(5) + body) == [ROW] == [audited(rules, frame(5) + body)]
    (plain,) = drained(rules, body)
    assert plain.reason is Reason.UNDECODABLE
    assert plain.message.endswith("declare `format: json`")
    (broken,) = drained(rules, frame(5) + body[:-3])
    assert broken.reason is Reason.NOT_JSON


def test_ids_are_asked_for_once_and_what_was_unknown_again() -> None:
    book = SchemaBook()
    values = [GOOD, frame(3) + b"x", None, b"{}", b"\0\0"]
    assert book.missing(values) == [1, 3]
    book.add(1, as_schema(FIRST))
    book.add(3, Unknown("no"))
    assert book.missing(values) == []
    book.forget_unknown()
    assert book.missing(values) == [3]
