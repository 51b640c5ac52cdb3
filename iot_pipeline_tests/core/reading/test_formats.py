"""Avro and Protobuf: the drain's form and the audit's own code tell the same of every message."""

import io
import json
import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastavro
import pytest
from google.protobuf import message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.reading import compiled, protobuf
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.declaration_file import parse_declaration
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.formats import SchemaBook, Unknown, WriterSchema, frame
from iot_pipeline.core.reading.messages import (
    Ignored,
    Reading,
    ReadingRules,
    Reason,
    Record,
    Rejection,
    find_device_id_problem,
)
from iot_pipeline.core.reading.read_chunk import read_chunk
from iot_pipeline.core.reading.unknown_fields import UnknownFields
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.proto_files import compile_texts
from iot_pipeline.settings_reading import load_declaration

VENDOR = """
version: 1
format: FORMAT
device: {path: sensor}
time: {path: ts, as: milliseconds}
quantities:
  temperature: {path: values.temp_c, unit: "°C", min: -100, max: 150}
  co2: {path: values.co2_ppm, type: int, unit: ppm, min: 0, max: 10000}
ignore:
- {path: kind, equals: [status]}
- {path: heartbeat, exists: true}
"""
AT_MS = 1_795_000_000_123
MESSAGE: dict[str, Any] = {
    "sensor": "a/1", "ts": AT_MS, "values": {"temp_c": 21.5, "co2_ppm": 612}, "kind": "", "fw": "1",
}  # fmt: skip


def avro(*fields: Any, values: Any = None) -> dict[str, Any]:
    inner = values or [{"name": "temp_c", "type": "double"}, {"name": "co2_ppm", "type": "int"}]
    return {
        "type": "record",
        "name": "Message",
        "namespace": "a.b",
        "fields": [
            {"name": "sensor", "type": "string"},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "values", "type": {"type": "record", "name": "Values", "fields": inner}},
            *fields,
        ],
    }


KIND = {"name": "kind", "type": "string", "default": ""}
FW = {"name": "fw", "type": ["null", "string"], "default": None}
BEAT = {"name": "heartbeat", "type": ["null", "boolean"], "default": None}
FIRST = avro(KIND, FW)
SECOND = avro(BEAT, {"name": "more", "type": {"type": "array", "items": "a.b.Values"}}, KIND)
NULLS = avro(
    values=[
        {"name": "temp_c", "type": ["null", "double", "int"]},
        {"name": "co2_ppm", "type": ["null", "long"]},
    ]
)
DECIMALS = avro(
    values=[
        {
            "name": "temp_c",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        },
        {"name": "co2_ppm", "type": "int"},
    ]
)
PROTO = """
syntax = "proto3";
package a.b;
import "google/protobuf/timestamp.proto";
message Message {
  string sensor = 1; int64 ts = 2; Values values = 3; string kind = 4;
  optional bool heartbeat = 5; repeated Values more = 6; string fw = 7;
  google.protobuf.Timestamp at = 8;
}
message Values { double temp_c = 1; int32 co2_ppm = 2; }
message Other { string sensor = 1; int64 ts = 2; Values values = 3; }
"""
DESCRIPTORS = WriterSchema("PROTOBUF", compile_texts({"m.proto": PROTO}, "m.proto"))
PARSED = protobuf.parse_file(DESCRIPTORS)


def rules_of(form: str, schemas: Mapping[int, WriterSchema | Unknown], text: str = VENDOR) -> Any:
    book = SchemaBook()
    for schema_id, schema in schemas.items():
        book.add(schema_id, schema)
    return ReadingRules(parse_declaration(text.replace("FORMAT", form), "f"), schemas=book)


def as_schema(told: Any) -> WriterSchema:
    return WriterSchema("AVRO", json.dumps(told).encode())


AVRO = rules_of(
    "avro",
    {
        **{at: as_schema(one) for at, one in enumerate([FIRST, SECOND, NULLS, DECIMALS], 1)},
        7: Unknown("the registry has no schema of this id"),
        8: DESCRIPTORS,
        9: as_schema(avro(values=[{"name": "temp_c", "type": "string"}])),
        10: WriterSchema("AVRO", b"{"),
    },
)
PARTS = VENDOR.replace("max: 150}", "max: 150, optional: true}").replace(
    "max: 10000}", "max: 10000, optional: true}"
)
# A schema that has no CO2 at all, and one in which each thing may be null.
NO_CO2 = avro(KIND, values=[{"name": "temp_c", "type": ["null", "double"]}])
ALL_NULL = {
    **NULLS,
    "fields": [
        {**one, "type": ["null", one["type"]]} if one["name"] == "values" else one
        for one in NULLS["fields"]
    ],
}
PROTO_PARTS = """
syntax = "proto3";
package a.b;
message Values { optional double temp_c = 1; optional int32 co2_ppm = 2; }
message Message { string sensor = 1; int64 ts = 2; Values values = 3; }
"""
AVRO_PARTS = rules_of(
    "avro",
    {at: as_schema(one) for at, one in enumerate([FIRST, NULLS, NO_CO2, ALL_NULL], 1)},
    PARTS,
)
PROTOBUF_PARTS = rules_of(
    "protobuf",
    {1: WriterSchema("PROTOBUF", compile_texts({"p.proto": PROTO_PARTS}, "p.proto"))},
    PARTS,
)
PROTOBUF = rules_of("protobuf", {1: DESCRIPTORS, 7: Unknown("the registry has no such schema")})


def write(schema: Any, message: Mapping[str, Any], schema_id: int) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), message)
    return frame(schema_id) + stream.getvalue()


def write_proto(message: Mapping[str, Any], schema_id: int = 1, name: str = "a.b.Message") -> bytes:
    descriptor = PARSED.named(name)
    made = message_factory.GetMessageClass(descriptor)(**message)
    body: bytes = made.SerializeToString()
    return frame(schema_id) + protobuf.write_indexes(protobuf.indexes_of(descriptor)) + body


def drained(rules: ReadingRules, *values: bytes | None) -> list[Any]:
    """What the drain makes of messages: (device, ms, values), a rejection, or ignored.

    The same whether it reads them together or one by one.
    """
    told = []
    for least in (1, len(values) + 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "LEAST_TOGETHER", dict.fromkeys(("AVRO", "PROTOBUF"), least))
            told.append(_drained(rules, *values))
    assert repr(told[0]) == repr(told[1])
    return told[0]


def _drained(rules: ReadingRules, *values: bytes | None) -> list[Any]:
    records = [Record(0, at, AT_MS, b"k", value) for at, value in enumerate(values)]
    (chunk,) = chunk_records(records)
    found = read_chunk(ReadingDecoder(rules), chunk)
    rejected = dict(found.rejections)
    columns = [
        [value if mask is None or mask[at] else None for at, value in enumerate(column.tolist())]
        for column, mask in zip(found.values, found.has, strict=True)
    ]
    rows = map(_judged, zip(found.devices, found.ms.tolist(), *columns, strict=True))
    ignored = [at for at in found.left_out if at not in rejected]
    return [
        rejected[at] if at in rejected else "ignored" if at in ignored else next(rows)
        for at in range(len(records))
    ]


def _judged(row: tuple[Any, ...]) -> Any:
    """As the micro-batch does, which asks once per device."""
    problem = find_device_id_problem(row[0])
    return row if problem is None else Rejection(Reason.OUT_OF_RANGE, problem)


def audited(rules: ReadingRules, value: bytes | None) -> Any:
    told = LogReader(rules).read(value, b"k", None, AT_MS)
    if isinstance(told, Rejection):
        return told
    if isinstance(told, Ignored):
        return "ignored"
    reading: Reading = told
    values = [getattr(reading, quantity.name) for quantity in rules.quantities]
    return (reading.device_id, round(reading.timestamp * 1e6) // 1000, *values)


def goes_the_fast_way(rules: ReadingRules, value: bytes) -> bool:
    decoder = ReadingDecoder(rules)
    decoder.decode = None  # type: ignore[assignment]  # nothing is read by path
    try:
        (chunk,) = chunk_records([Record(0, 0, AT_MS, b"k", value)])
        return len(read_chunk(decoder, chunk).devices) == 1
    except TypeError:
        return False


ROW = ("a/1", AT_MS, 21.5, 612)


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        (AVRO, write(FIRST, MESSAGE, 1)),
        (AVRO, write(SECOND, {**MESSAGE, "more": [MESSAGE["values"]]}, 2)),
        (AVRO, write(NULLS, MESSAGE, 3)),
        (PROTOBUF, write_proto(MESSAGE)),
        (PROTOBUF, write_proto({**MESSAGE, "more": [{"temp_c": 1}]})),
    ],
)
def test_a_message_of_each_schema_is_read_the_fast_way_and_by_the_audit(
    rules: ReadingRules, value: bytes
) -> None:
    assert goes_the_fast_way(rules, value)
    assert drained(rules, value) == [ROW] == [audited(rules, value)]


def test_a_chunk_holds_messages_of_several_schemas_and_each_is_read_by_its_own() -> None:
    devices = [f"a/{at}" for at in range(300)]
    values: list[bytes | None] = []
    for at, device in enumerate(devices):
        message = {**MESSAGE, "sensor": device, "more": []}
        values.append(write((FIRST, SECOND)[at % 2], message, at % 2 + 1))
    # Between them what is none, what is known, and what is no message of any schema.
    values[7] = None
    values[8] = write(FIRST, {**MESSAGE, "kind": "status"}, 1)
    values[100] = frame(7) + b"x"
    values[-1] = b"{}"
    told = drained(AVRO, *values)
    wrong = {7, 8, 100, 299}
    assert [one for at, one in enumerate(told) if at not in wrong] == [
        (device, *ROW[1:]) for at, device in enumerate(devices) if at not in wrong
    ]
    assert [told[at] for at in sorted(wrong)] == [audited(AVRO, values[at]) for at in sorted(wrong)]


@pytest.mark.parametrize(
    ("rules", "value"), [(AVRO, write(FIRST, MESSAGE, 1)), (PROTOBUF, write_proto(MESSAGE))]
)
def test_a_chunk_of_one_schema_is_read_without_a_call_for_each_message(
    rules: ReadingRules, value: bytes
) -> None:
    decoder = ReadingDecoder(rules)
    assert decoder.shape is not None

    def never(_value: bytes | None) -> Any:
        raise AssertionError

    decoder.shape.decode = never
    assert sum(len(rows) for rows, _ in decoder.read_together([value] * 200)[0]) == 200
    (chunk,) = chunk_records([Record(0, at, AT_MS, b"k", value) for at in range(200)])
    assert read_chunk(decoder, chunk).devices == ["a/1"] * 200


@pytest.mark.parametrize(
    ("rules", "value", "fields"),
    [
        (AVRO, write(FIRST, MESSAGE, 1), {"fw"}),
        (PROTOBUF, write_proto(MESSAGE), {"fw", "more"}),
        (AVRO, write(FIRST, MESSAGE, 1)[:-3], set()),
        (AVRO, write(FIRST, MESSAGE, 7), set()),
    ],
)
def test_fields_that_are_not_declared_are_named(
    rules: ReadingRules, value: bytes, fields: set[str]
) -> None:
    unknown = UnknownFields(rules.declaration, rules.schemas)
    unknown.add(Record(0, 0, AT_MS, b"k", value))
    assert set(unknown.seen) == fields


def test_messages_of_two_types_of_one_file_are_each_read_as_their_own() -> None:
    values = []
    for at in range(400):
        told = {name: MESSAGE[name] for name in ("ts", "values")} | {"sensor": f"a/{at}"}
        values.append(write_proto(told, name="a.b.Message" if at % 3 else "a.b.Other"))
    # Nothing, an index alone, the indexes of a type that is none; then a message behind no index.
    values[5], values[6], values[9] = frame(1), frame(1) + b"\0", frame(1) + b"\2\x08"
    values[10] = frame(1) + b"\5" + write_proto(MESSAGE)[6:]
    groups, left = ReadingDecoder(PROTOBUF).read_together(values)
    assert sum(len(rows) for rows, _ in groups) > 200
    assert left is not None
    assert set(range(0, 400, 3)) | {5, 10} <= set(left.tolist())
    found = drained(PROTOBUF, *values)
    assert found == [audited(PROTOBUF, value) for value in values]
    wrong = {5, 6, 9, 10}
    assert [one for at, one in enumerate(found) if at not in wrong] == [
        (f"a/{at}", *ROW[1:]) for at in range(400) if at not in wrong
    ]
    assert all(isinstance(found[at], Rejection) for at in wrong)


def test_a_value_that_is_too_large_is_refused_among_others_that_are_read_together() -> None:
    large = write(FIRST, {**MESSAGE, "kind": "x" * 70_000}, 1)
    found = drained(AVRO, *[GOOD] * 150, large, *[GOOD] * 50)
    assert found == [ROW] * 150 + [audited(AVRO, large)] + [ROW] * 50
    assert isinstance(found[150], Rejection)


def _varint(number: int) -> bytes:
    told = bytearray()
    while number > 0x7F:
        told.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*told, number])


@pytest.mark.parametrize(
    ("rules", "before"), [(AVRO, frame(1)), (PROTOBUF, frame(1) + b"\0\x0a")], ids=["avro", "proto"]
)
def test_texts_as_long_as_half_the_chunk_take_no_memory(rules: ReadingRules, before: bytes) -> None:
    count, size = 400, 2_000
    said = count * size // 2
    value = (before + _varint(said << 1 if rules is AVRO else said)).ljust(size, b"a")
    (chunk,) = chunk_records([Record(0, at, AT_MS, b"k", value) for at in range(count)])
    decoder = ReadingDecoder(rules)
    tracemalloc.start()
    try:
        found = read_chunk(decoder, chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.rejections) == count
    assert peak < 10 * count * size


def test_a_schema_is_compiled_once_also_where_it_has_no_fast_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    compile_schema = compiled._compile_schema

    def counted(schema: WriterSchema, **how: Any) -> Any:
        seen.append(schema)
        return compile_schema(schema, **how)

    monkeypatch.setattr(compiled, "_compile_schema", counted)
    told = avro(values=[{"name": "temp_c", "type": "string"}])
    values = [write(told, {**MESSAGE, "values": {"temp_c": "21.5"}}, 9)] * 3
    assert len(_drained(AVRO, *values, *[write(FIRST, MESSAGE, 1)] * 3)) == 6
    assert len(seen) == 2


def test_a_decimal_is_its_number() -> None:
    value = write(
        DECIMALS,
        {**MESSAGE, "values": {"temp_c": __import__("decimal").Decimal("-3.25"), "co2_ppm": 1}},
        4,
    )
    assert goes_the_fast_way(AVRO, value)
    assert drained(AVRO, value) == [("a/1", AT_MS, -3.25, 1)] == [audited(AVRO, value)]


# What is wrong, and the words for it.

GOOD = write(FIRST, MESSAGE, 1)
_MS = "ts 1795000000 is not a millisecond between 2000 and 2100; as seconds it is"
WRONG = [
    (AVRO, None, Reason.NO_VALUE, "the record has no value (a tombstone)"),
    (AVRO, b"", Reason.UNDECODABLE, "0 bytes, and a registry's five bytes come before a message"),
    (
        AVRO,
        b'{"sensor": "a/1"}',
        Reason.UNDECODABLE,
        "it is plain JSON, without a registry's five bytes; send it by the schema, or declare "
        "`format: json`",
    ),
    (
        AVRO,
        b"\x01" + GOOD[1:],
        Reason.UNDECODABLE,
        "it begins with byte 1, expected 0 and a schema's id, as a registry's serializer writes "
        "before Avro",
    ),
    (
        AVRO,
        frame(7) + b"x",
        Reason.UNDECODABLE,
        "schema 7: the registry has no schema of this id",
    ),
    (
        AVRO,
        frame(8) + b"x",
        Reason.UNDECODABLE,
        "schema 8: it is PROTOBUF: send AVRO, or declare `format: protobuf`",
    ),
    (AVRO, frame(10) + b"x", Reason.UNDECODABLE, "schema 10: its schema is no Avro schema"),
    (AVRO, GOOD[:-12], Reason.UNDECODABLE, "schema 1: values.temp_c: it ends after 17 bytes"),
    (
        AVRO,
        GOOD + b"xy",
        Reason.UNDECODABLE,
        "schema 1: 2 bytes are left over behind it: another schema wrote it",
    ),
    (
        AVRO,
        GOOD[:6] + b"\xff\xff\xff" + GOOD[9:],
        Reason.UNDECODABLE,
        "schema 1: sensor: it is not UTF-8",
    ),
    (
        AVRO,
        write(
            avro(values=[{"name": "temp_c", "type": "string"}]),
            {**MESSAGE, "values": {"temp_c": "21.5"}},
            9,
        ),
        Reason.WRONG_TYPE,
        "Expected `float`, got `str` - at `$.values.temp_c`",
    ),
    (
        AVRO,
        write(NULLS, {**MESSAGE, "values": {"temp_c": 1.0, "co2_ppm": None}}, 3),
        Reason.WRONG_TYPE,
        "values.co2_ppm is null",
    ),
    (
        AVRO,
        write(FIRST, {**MESSAGE, "values": {"temp_c": float("nan"), "co2_ppm": 1}}, 1),
        Reason.OUT_OF_RANGE,
        "temperature (values.temp_c) nan is not within -100 to 150 °C",
    ),
    (
        AVRO,
        write(FIRST, {**MESSAGE, "values": {"temp_c": 1.0, "co2_ppm": 10_001}}, 1),
        Reason.OUT_OF_RANGE,
        "co2 (values.co2_ppm) 10001 is not within 0 to 10000 ppm",
    ),
    (AVRO, write(FIRST, {**MESSAGE, "ts": AT_MS // 1000}, 1), Reason.OUT_OF_RANGE, _MS),
    (
        AVRO,
        write(FIRST, {**MESSAGE, "sensor": ""}, 1),
        Reason.OUT_OF_RANGE,
        "device_id has 0 bytes, expected 1 to 256",
    ),
    (PROTOBUF, write_proto(MESSAGE)[:-2], Reason.UNDECODABLE, "schema 1: the message: it ends"),
    (PROTOBUF, frame(1) + b"\x02\x08", Reason.UNDECODABLE, "schema 1: its schema has no message"),
    (PROTOBUF, frame(7) + b"\0", Reason.UNDECODABLE, "schema 7: the registry has no such schema"),
    (
        PROTOBUF,
        write_proto({"sensor": "a/1", "ts": AT_MS}),
        Reason.MISSING_FIELD,
        "values.temp_c is missing",
    ),
    (
        PROTOBUF,
        write_proto(MESSAGE["values"], name="a.b.Values"),
        Reason.MISSING_FIELD,
        "sensor is missing",
    ),
    (PROTOBUF, write_proto({**MESSAGE, "ts": AT_MS // 1000}), Reason.OUT_OF_RANGE, _MS),
]


@pytest.mark.parametrize(("rules", "value", "reason", "message"), WRONG)
def test_what_is_wrong_is_said_and_said_alike_by_drain_and_audit(
    rules: ReadingRules, value: bytes | None, reason: Reason, message: str
) -> None:
    (told,) = drained(rules, value)
    assert isinstance(told, Rejection)
    assert told.reason is reason
    assert told.message.startswith(message)
    assert audited(rules, value) == told


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        (AVRO, write(FIRST, {**MESSAGE, "kind": "status"}, 1)),
        (AVRO, write(SECOND, {**MESSAGE, "more": [], "heartbeat": False}, 2)),
        (PROTOBUF, write_proto({**MESSAGE, "kind": "status"})),
        (PROTOBUF, write_proto({**MESSAGE, "heartbeat": False})),
    ],
)
def test_what_is_ignored_is_ignored_by_both(rules: ReadingRules, value: bytes) -> None:
    assert drained(rules, value) == ["ignored"] == [audited(rules, value)]


def write_part(at: int, values: Mapping[str, Any] | None) -> tuple[ReadingRules, bytes]:
    """A message of one of the schemas of parts, with what the schema has a place for."""
    message = {**MESSAGE, "values": values, "more": []}
    if at == 4:
        of_parts = protobuf.parse_file(PROTOBUF_PARTS.schemas.find(1))
        descriptor = of_parts.named("a.b.Message")
        made = message_factory.GetMessageClass(descriptor)(
            sensor=message["sensor"], ts=message["ts"], values=values
        )
        indexes = protobuf.write_indexes(protobuf.indexes_of(descriptor))
        return PROTOBUF_PARTS, frame(1) + indexes + made.SerializeToString()
    return AVRO_PARTS, write((FIRST, NULLS, NO_CO2, ALL_NULL)[at], message, at + 1)


@pytest.mark.parametrize(
    ("at", "values", "told"),
    [
        (0, {"temp_c": 21.5, "co2_ppm": 612}, [21.5, 612]),
        (1, {"temp_c": None, "co2_ppm": 612}, [None, 612]),
        (1, {"temp_c": 21.5, "co2_ppm": None}, [21.5, None]),
        (2, {"temp_c": 21.5}, [21.5, None]),
        (3, {"temp_c": 21.5, "co2_ppm": None}, [21.5, None]),
        (4, {"temp_c": 21.5}, [21.5, None]),
        (4, {"co2_ppm": 0}, [None, 0]),
    ],
)
def test_what_is_optional_may_be_absent_in_message_and_schema(
    at: int, values: Mapping[str, Any], told: list[Any]
) -> None:
    rules, value = write_part(at, values)
    assert goes_the_fast_way(rules, value)
    assert drained(rules, value) == [audited(rules, value)]
    assert audited(rules, value) == ("a/1", AT_MS, *told)


@pytest.mark.parametrize(
    ("at", "values"),
    [(1, {"temp_c": None, "co2_ppm": None}), (2, {"temp_c": None}), (3, None), (4, {}), (4, None)],
)
def test_a_reading_without_any_quantity_is_none(at: int, values: Mapping[str, Any] | None) -> None:
    rules, value = write_part(at, values)
    (told,) = drained(rules, value)
    assert isinstance(told, Rejection)
    assert told.reason is Reason.MISSING_FIELD
    assert audited(rules, value) == told


# Whatever is sent.

NUMBERS = st.floats(allow_nan=True) | st.floats(-200, 200) | st.integers(-(2**31), 2**31 - 1)
MESSAGES = st.fixed_dictionaries(
    {
        "sensor": st.sampled_from(["a/1", "", "é", "x" * 300]),
        "ts": st.integers(AT_MS - 10, AT_MS + 10) | st.integers(-(2**63), 2**63 - 1),
        "values": st.fixed_dictionaries(
            {"temp_c": NUMBERS.map(float), "co2_ppm": st.integers(-5, 20_000)}
        ),
        "kind": st.sampled_from(["", "status"]),
        "more": st.just([]),
    }
)


@st.composite
def _messages(draw: st.DrawFn) -> tuple[ReadingRules, bytes]:
    """A message of some schema, sometimes broken in one place."""
    message: dict[str, Any] = draw(MESSAGES)
    told: dict[str, Any] = message["values"]
    at = draw(st.integers(0, 8))
    if at > 3:
        parts = {name: draw(st.none() | st.just(value)) for name, value in told.items()}
        rules, value = write_part(at - 4, parts if at > 4 else told)
    elif at == 3:
        rules, value = PROTOBUF, write_proto(message)
    else:
        rules, value = AVRO, write((FIRST, SECOND, NULLS)[at], message, at + 1)
    broken = bytearray(value)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(broken) - 1))
        kind = draw(st.sampled_from(["change", "cut", "add"]))
        if kind == "change" and place > 4:
            broken[place] = draw(st.integers(0, 255))
        elif kind == "cut" and place > 4:
            del broken[place:]
        elif kind == "add":
            broken += draw(st.binary(max_size=3))
    return rules, bytes(broken)


@settings(max_examples=400, deadline=None)
@given(_messages())
def test_the_drain_and_the_audit_tell_the_same_of_whatever_is_sent(
    sent: tuple[ReadingRules, bytes],
) -> None:
    rules, value = sent
    assert repr(drained(rules, value)) == repr([audited(rules, value)])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 3))
def test_and_of_any_bytes_at_all(body: bytes, kind: int) -> None:
    rules = PROTOBUF if kind == 3 else AVRO
    value = frame(1 if kind == 3 else kind + 1) + body
    assert repr(drained(rules, value)) == repr([audited(rules, value)])


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


# The file.


def test_a_schema_lies_beside_the_declaration_and_messages_are_bare(tmp_path: Path) -> None:
    (tmp_path / "m.avsc").write_text(json.dumps(FIRST))
    (tmp_path / "m.proto").write_text(PROTO)
    for form, name, value in (
        ("avro", "m.avsc", GOOD[5:]),
        ("protobuf", "m.proto\nmessage: a.b.Message", write_proto(MESSAGE)[6:]),
    ):
        place = tmp_path / "r.yaml"
        place.write_text(VENDOR.replace("FORMAT", f"{form}\nschema: {name}"))
        declared = load_declaration(place, "r.yaml")
        rules = ReadingRules(declared)
        assert drained(rules, value) == [ROW] == [audited(rules, value)]
        other = _fingerprint(VENDOR.replace("FORMAT", form))
        assert declared.fingerprint != other


def _fingerprint(text: str) -> str:
    declared: Declaration = parse_declaration(text, "r.yaml")
    return declared.fingerprint


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("json\nschema: m.avsc", "r.yaml:4: schema: format: json has none"),
        ("avro\nschema: none.avsc", "schema: none.avsc: No such file or directory"),
        ("avro\nschema: bad.avsc", "schema: bad.avsc: its schema is no Avro schema"),
        ("avro\nmessage: a.b", "message: expected it beside `format: protobuf` and `schema`"),
        ("protobuf\nschema: m.proto", "schema: m.proto: it has no message ; it has a.b.Message"),
        ("protobuf\nschema: bad.proto", "r.yaml:4: schema: bad.proto:1:1: Expected top-level"),
        ("avro\nunknown_fields: count", "unknown_fields: format: avro has no unknown fields"),
        ("thrift", "expected json or json-schema or avro or protobuf"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(said: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "bad.avsc").write_text('{"type": "nothing"}')
    (tmp_path / "bad.proto").write_text("nothing")
    (tmp_path / "m.proto").write_text(PROTO)
    place = tmp_path / "r.yaml"
    place.write_text(VENDOR.replace("FORMAT", said))
    with pytest.raises(ConfigurationError) as caught:
        load_declaration(place, "r.yaml")
    assert why in str(caught.value)
