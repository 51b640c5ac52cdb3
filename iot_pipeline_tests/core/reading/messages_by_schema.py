"""Messages by schemas in Avro and Protobuf, and what the drain and the audit make of them."""

import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro
import pytest
from google.protobuf import message_factory

from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.reading import compiled, protobuf
from iot_pipeline.core.reading.chunks import chunk_records
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
from iot_pipeline.proto_files import compile_texts

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
GOOD = write(FIRST, MESSAGE, 1)
