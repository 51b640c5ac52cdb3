"""Messages by a schema are read the fast way, many at once, and by the audit's own code."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from iot_pipeline.core.reading import compiled
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.declaration_file import parse_declaration
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.formats import WriterSchema, frame
from iot_pipeline.core.reading.messages import (
    ReadingRules,
    Record,
    Rejection,
)
from iot_pipeline.core.reading.read_chunk import read_chunk
from iot_pipeline.core.reading.unknown_fields import UnknownFields
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings_reading import load_declaration
from iot_pipeline_tests.core.reading.messages_by_schema import (
    AT_MS,
    AVRO,
    DECIMALS,
    FIRST,
    GOOD,
    MESSAGE,
    NULLS,
    PROTO,
    PROTOBUF,
    ROW,
    SECOND,
    VENDOR,
    _drained,
    audited,
    avro,
    drained,
    goes_the_fast_way,
    write,
    write_proto,
)


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
