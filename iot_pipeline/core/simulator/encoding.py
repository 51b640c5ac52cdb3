"""Simulated messages as Avro and Protobuf, and the schema of a topic that has none yet."""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from io import BytesIO
from typing import Any

from iot_pipeline.core.reading import avro
from iot_pipeline.core.reading.declaration import Declaration, Path, path_text
from iot_pipeline.core.reading.formats import SchemaBook, UndecodableError, WriterSchema, frame
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.errors import ConfigurationError

Message = Mapping[str, Any]
Encode = Callable[[Message], bytes]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What stands where a message has nothing to say, and has to.
_NOTHING: dict[str, Any] = {
    "boolean": False, "int": 0, "long": 0, "float": 0.0, "double": 0.0, "bytes": b"", "string": "",
    "array": [], "map": {},
}  # fmt: skip
# By a quantity's type: Avro's, Protobuf's, JSON Schema's.
_TYPES = {
    "double": ("double", "double", "number"),
    "float": ("float", "float", "number"),
    "int": ("int", "sint32", "integer"),
    "bigint": ("long", "sint64", "integer"),
    "boolean": ("boolean", "bool", "boolean"),
    "text": ("string", "string", "string"),
}
_LOGICAL = {"milliseconds": "timestamp-millis", "microseconds": "timestamp-micros"}


def encoder_of(declared: Declaration, schemas: SchemaBook) -> Encode:
    """What makes a message's bytes of its dict, in a format that is not plain JSON.

    Raises:
        ConfigurationError: the schema is unknown, or has no place for what is declared.
    """
    form = declared.format
    beginning, schema = b"", form.schema
    if schema is None:
        if schemas.writing is None:
            raise ConfigurationError(
                f"format: {form.name}: no schema to simulate messages by: set IOT_REGISTRY_URL"
            )
        schema_id, schema = schemas.writing
        beginning = frame(schema_id)
    if form.name == "json-schema":
        as_json = json.dumps
        return lambda told: beginning + as_json(told, ensure_ascii=False).encode()
    try:
        if schema.kind == "AVRO":
            return _avro_encoder(declared, schema, beginning)
        return _protobuf_encoder(declared, schema, beginning)
    except UndecodableError as exc:
        raise ConfigurationError(f"simulating by the schema of the topic: {exc}") from None


def _avro_encoder(declared: Declaration, schema: WriterSchema, beginning: bytes) -> Encode:
    import fastavro

    root = avro.parse_schema(schema)
    for path in written_paths(declared):
        if not avro.find(root, path)[0]:
            raise UndecodableError(f"it has no {path_text(path)}")
    names: dict[str, Any] = {}
    for text in schema.references:
        fastavro.parse_schema(json.loads(text), names)
    parsed = fastavro.parse_schema(json.loads(schema.text), names)
    write = fastavro.schemaless_writer

    def encode(told: Message) -> bytes:
        stream = BytesIO(beginning)
        stream.seek(len(beginning))
        write(stream, parsed, _filled(root, told))
        return stream.getvalue()

    return encode


def _filled(node: avro.Node, told: Any) -> Any:
    """What is told, and where it has to be something, nothing in its type.

    So an optional quantity for which the schema has no null is 0 in the messages that lack it.
    """
    if node.kind == "union":
        if told is None and any(one.kind == "null" for one in node.parts):
            return None
        node = next(one for one in node.parts if one.kind != "null")
    if node.kind == "record":
        told = told or {}
        return {name: _filled(inner, told.get(name)) for name, inner in node.fields.items()}
    if node.scale is not None:
        return round(Decimal(told or 0), node.scale)
    if told is not None:
        return told
    if node.kind == "enum":
        return node.symbols[0]
    return bytes(node.size) if node.kind == "fixed" else _NOTHING[node.kind]


def _protobuf_encoder(declared: Declaration, schema: WriterSchema, beginning: bytes) -> Encode:
    from google.protobuf import message_factory

    from iot_pipeline.core.reading import protobuf

    file = protobuf.parse_file(schema)
    message = file.named(schema.message) if schema.message else file.message((0,))
    times = []
    for path in written_paths(declared):
        at: Any = message
        for name in path:
            found = at.fields_by_name.get(name) if at is not None else None
            if found is None or found.is_repeated:
                raise UndecodableError(f"its message {message.full_name} has no {path_text(path)}")
            at = found.message_type
        if at is not None and at.full_name == protobuf.TIMESTAMP:
            times.append(path)
    if beginning:
        beginning += protobuf.write_indexes(protobuf.indexes_of(message))
    make = message_factory.GetMessageClass(message)

    def encode(told: Message) -> bytes:
        for path in times:
            told = _with_timestamp(told, path)
        body: bytes = make(**told).SerializeToString()
        return beginning + body

    return encode


def _with_timestamp(told: Message, path: Path) -> Message:
    name, rest = path[0], path[1:]
    if rest:
        return {**told, name: _with_timestamp(told[name], rest)}
    seconds, nanos = divmod(told[name], 1_000_000_000)
    return {**told, name: {"seconds": seconds, "nanos": nanos}}


# The schema of a topic that has none.


def written_paths(declared: Declaration) -> list[Path]:
    """The places of a simulated message: device and time, where they are in it, and quantities."""
    return [
        *declared.device.paths[:1],
        *declared.time.paths[:1],
        *(quantity.places[0] for quantity in declared.quantities),
    ]


def first_schema(declared: Declaration) -> str:
    """A schema whose messages the declaration reads, as a registry takes it.

    Raises:
        ConfigurationError: a declared name is none that the format knows.
    """
    column = {"avro": 0, "protobuf": 1, "json-schema": 2}[declared.format.name]
    kinds: dict[Path, Any] = dict.fromkeys(declared.device.paths[:1], _TYPES["text"][column])
    for path in declared.time.paths[:1]:
        kinds[path] = _kind_of_time(declared, column)
    for quantity in declared.quantities:
        kinds[quantity.places[0]] = _kind_of(quantity, column)
    if column < 2:
        for path in kinds:
            if not all(map(_NAME.fullmatch, path)):
                raise ConfigurationError(
                    f"{path_text(path)}: no name of {declared.format.name.capitalize()}: expected "
                    "letters, digits and _ in each part"
                )
    optional = {item.places[0] for item in declared.quantities if item.optional}
    tree: dict[str, Any] = {}
    for path, kind in kinds.items():
        at = tree
        for name in path[:-1]:
            at = at.setdefault(name, {})
        # Avro's logical types are mappings: a list tells a leaf from what is nested.
        at[path[-1]] = [kind, path in optional]
    if column == 0:
        return json.dumps(_avro_record("Message", tree))
    if column == 1:
        return f'syntax = "proto3";\n{_proto_message("Message", tree, "")}'
    return json.dumps(_json_object(tree))


def _kind_of_time(declared: Declaration, column: int) -> Any:
    unit = declared.time.unit
    if unit == "iso8601":
        return _TYPES["text"][column]
    if unit == "seconds":
        return _TYPES["double"][column]
    if column == 0 and unit in _LOGICAL:
        return {"type": "long", "logicalType": _LOGICAL[unit]}
    return ("long", "int64", "integer")[column]


def _kind_of(quantity: Quantity, column: int) -> str:
    return _TYPES["double" if quantity.is_converted else quantity.type][column]


def _avro_record(name: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    fields: list[dict[str, Any]] = []
    for one, inner in tree.items():
        if not isinstance(inner, list):
            fields.append({"name": one, "type": _avro_record(f"{name}_{one}", inner)})
        elif inner[1]:
            fields.append({"name": one, "type": ["null", inner[0]], "default": None})
        else:
            fields.append({"name": one, "type": inner[0]})
    return {"type": "record", "name": name, "fields": fields}


def _proto_message(name: str, tree: Mapping[str, Any], indent: str) -> str:
    lines, inner = [], indent + "  "
    for number, (one, below) in enumerate(tree.items(), 1):
        kind = below[0] if isinstance(below, list) else f"M_{one}"
        if not isinstance(below, list):
            lines.append(_proto_message(kind, below, inner))
        label = "optional " if isinstance(below, list) and below[1] else ""
        lines.append(f"{inner}{label}{kind} {one} = {number};\n")
    return f"{indent}message {name} {{\n{''.join(lines)}{indent}}}\n"


def _json_object(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            one: {"type": inner[0]} if isinstance(inner, list) else _json_object(inner)
            for one, inner in tree.items()
        },
        "required": [
            one for one, inner in tree.items() if not (isinstance(inner, list) and inner[1])
        ],
    }
