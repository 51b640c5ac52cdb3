"""The drain's way to read Avro and Protobuf: what a schema promises is asked of the schema, once.

A message becomes a tuple of what the declaration asks for, by libraries in C: fastavro's and
Google's. A schema of which a declared path is not there, or has another type, has no such form,
and its messages are read by path (`by_path`, by code of ours), as is any message that this form
refuses. Limits are checked on columns (`read_chunk`).
"""

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from iot_pipeline.core.reading.contents import find_schema
from iot_pipeline.core.reading.declaration import Declaration, Path, TimeUnit
from iot_pipeline.core.reading.formats import (
    FRAME_BYTES,
    SchemaBook,
    UndecodableError,
    WriterSchema,
    is_frame,
)
from iot_pipeline.core.reading.quantities import Quantity

Read = Callable[[bytes], Any]
# What reading raises for bytes that are no message of the schema.
_BROKEN = (
    EOFError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
_WHOLE = frozenset(("int", "long"))
_NUMBERS = frozenset(("int", "long", "float", "double", "decimal"))
_TEXT = frozenset(("string", "enum"))
_COMPARED = frozenset(("long", "double", "string", "boolean"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a message is asked for: a path, and the kinds that the schema may have there.

    `kinds` are Avro's words. None: whatever it is, and it may be absent. What is optional may be
    absent, too, and is None then.
    """

    path: Path
    kinds: frozenset[str] | None
    is_optional: bool = False


def wanted_of(declared: Declaration) -> list[Wanted]:
    """Device, time, quantities and what is compared, each that is in the message, in this order."""
    found = [Wanted(path, _TEXT) for path in declared.device.paths[:1]]
    found += [Wanted(path, _kinds_of_time(declared.time.unit)) for path in declared.time.paths[:1]]
    # What is not at the first path may be at another: such a message is read by path.
    found += [
        Wanted(item.places[0], _kinds_of(item), item.optional and len(item.places) == 1)
        for item in declared.quantities
    ]
    return found + [Wanted(rule.path, None) for rule in declared.ignore]


def _kinds_of_time(unit: TimeUnit) -> frozenset[str]:
    if unit == "iso8601":
        return _TEXT
    return _WHOLE | {"float", "double"} if unit == "seconds" else _WHOLE


def _kinds_of(quantity: Quantity) -> frozenset[str]:
    if quantity.type in ("int", "bigint"):
        return _WHOLE
    if quantity.is_number:
        return _NUMBERS
    return frozenset(("boolean",)) if quantity.type == "boolean" else _TEXT


def compile_format(declared: Declaration, schemas: SchemaBook) -> Read:
    """What reads a message into a tuple, in the order of `wanted_of`.

    It raises msgspec.DecodeError for what it does not read, and TypeError for a tombstone.
    """
    wanted = wanted_of(declared)
    # A rule that asks whether something is there: what has it is read by path.
    none_of = frozenset(rule.path for rule in declared.ignore if not rule.equals)
    compiled = partial(_compile_schema, wanted=wanted, none_of=none_of)
    if declared.format.schema is not None:
        return compiled(declared.format.schema, is_framed=False)
    readers: dict[bytes, Read] = {}
    name = declared.format.name

    def learn(frame: bytes) -> Read:
        schema_id = int.from_bytes(frame[1:], "big")
        if not is_frame(frame) or not isinstance(schemas.find(schema_id), WriterSchema):
            return _refuse
        # Also that it has no such form: compiling it takes as long as reading a hundred messages.
        try:
            found = compiled(find_schema(schemas, schema_id, name), is_framed=True)
        except UndecodableError:
            found = _refuse
        readers[frame] = found
        return found

    def read(value: bytes) -> Any:
        frame = value[:FRAME_BYTES]
        return (readers.get(frame) or learn(frame))(value)

    return read


def _refuse(_value: bytes) -> Any:
    raise msgspec.DecodeError


def _compile_schema(
    schema: WriterSchema, *, wanted: Sequence[Wanted], none_of: frozenset[Path], is_framed: bool
) -> Read:
    if schema.kind == "AVRO":
        return _compile_avro(schema, wanted, none_of, FRAME_BYTES if is_framed else 0)
    return _compile_protobuf(schema, wanted, none_of, is_framed=is_framed)


def _picker(getters: Sequence[Callable[[Any], Any]]) -> Callable[[Any], tuple[Any, ...]]:
    def pick(message: Any) -> tuple[Any, ...]:
        return tuple([get(message) for get in getters])

    return pick


# Avro.


def _compile_avro(
    schema: WriterSchema, wanted: Sequence[Wanted], none_of: frozenset[Path], start: int
) -> Read:
    import fastavro

    from iot_pipeline.core.reading import avro

    root = avro.parse_schema(schema)
    if avro.can_run_away(root):
        return _refuse
    must_have, must_lack = [], []
    for at, one in enumerate(wanted):
        nodes, is_nullable = avro.find(root, one.path)
        if one.kinds is None:
            if one.path in none_of:
                must_lack.append(at)
            continue
        kinds = {"decimal" if node.scale is not None else node.kind for node in nodes}
        if not kinds <= one.kinds or not (kinds or one.is_optional):
            return _refuse
        if is_nullable and not one.is_optional:
            must_have.append(at)
    is_flat = all(len(one.path) == 1 and not _may_lack(one) for one in wanted)
    if is_flat and len(wanted) > 1:
        pick: Callable[[Any], Any] = itemgetter(*(one.path[0] for one in wanted))
    else:
        pick = _picker(list(map(_getter, wanted)))
    names: dict[str, Any] = {}
    try:
        for text in schema.references:
            fastavro.parse_schema(_plain(json.loads(text)), names)
        parsed = fastavro.parse_schema(_plain(json.loads(schema.text)), names)
    except (ValueError, LookupError, TypeError, fastavro.schema.SchemaParseException):
        return _refuse
    read_one = fastavro.schemaless_reader

    def read(value: bytes) -> Any:
        stream = BytesIO(value)
        if start:
            stream.seek(start)
        try:
            found = pick(read_one(stream, parsed, None))
        except _BROKEN:
            raise msgspec.DecodeError from None
        # Another schema wrote what is longer than this one's message.
        if stream.tell() != len(value):
            raise msgspec.DecodeError
        for at in must_have:
            if found[at] is None:
                raise msgspec.DecodeError
        for at in must_lack:
            if found[at] is not None:
                raise msgspec.DecodeError
        return found

    return read


def _may_lack(one: Wanted) -> bool:
    return one.kinds is None or one.is_optional


def _getter(one: Wanted) -> Callable[[Any], Any]:
    path = one.path
    if _may_lack(one):
        return partial(_at_or_none, path)
    if len(path) == 1:
        return itemgetter(path[0])
    if len(path) == 2:
        first, second = path
        return lambda message: message[first][second]
    return partial(_at, path)


def _at(path: Path, message: Any) -> Any:
    for name in path:
        message = message[name]
    return message


def _at_or_none(path: Path, message: Any) -> Any:
    for name in path:
        if not isinstance(message, dict):
            return None
        if name not in message:
            return None
        message = message[name]
    return message


def _plain(told: Any) -> Any:
    """A schema without logical types but decimals: times stay the numbers that they are kept as."""
    if isinstance(told, list):
        return [_plain(one) for one in told]
    if not isinstance(told, dict):
        return told
    kept = {name: _plain(one) for name, one in told.items() if name != "default"}
    if kept.get("logicalType") != "decimal":
        kept.pop("logicalType", None)
    return kept


# Protobuf.


def _compile_protobuf(
    schema: WriterSchema, wanted: Sequence[Wanted], none_of: frozenset[Path], *, is_framed: bool
) -> Read:
    from google.protobuf.message import DecodeError

    from iot_pipeline.core.reading import protobuf

    file = protobuf.parse_file(schema)
    broken = (DecodeError, *_BROKEN)
    if schema.message:
        compiled = _of_message(file.named(schema.message), wanted, none_of)
        return partial(_read_protobuf, compiled, broken, 0)
    if not is_framed:
        raise UndecodableError("no message is named")
    # The indexes in their usual form, where the message begins and what reads it.
    usual = _of_message(file.message((0,)), wanted, none_of)
    others: dict[tuple[int, ...], Read] = {}

    def read(value: bytes) -> Any:
        if value[FRAME_BYTES : FRAME_BYTES + 1] == b"\0":
            return _read_protobuf(usual, broken, FRAME_BYTES + 1, value)
        try:
            indexes, start = protobuf.read_indexes(value, FRAME_BYTES)
            reader = others.get(indexes)
            if reader is None:
                message = file.message(indexes)
                reader = others[indexes] = _of_message(message, wanted, none_of)
        except UndecodableError:
            raise msgspec.DecodeError from None
        return _read_protobuf(reader, broken, start, value)

    return read


def _read_protobuf(reader: Read, broken: Any, start: int, value: bytes) -> Any:
    try:
        return reader(value[start:])
    except broken:
        raise msgspec.DecodeError from None


def _of_message(message: Any, wanted: Sequence[Wanted], none_of: frozenset[Path]) -> Read:
    from google.protobuf import message_factory

    from iot_pipeline.core.reading.protobuf import TIMESTAMP

    parse = message_factory.GetMessageClass(message).FromString
    getters: list[Callable[[Any], Any]] = []
    # What has to be there, and what may not: the message that has it, and its field.
    needed: dict[Path, None] = {}
    refused: dict[Path, None] = {}
    is_flat = True
    for one in wanted:
        fields = _fields_at(message, one.path)
        if one.kinds is None:
            is_flat = False
            if fields and one.path in none_of:
                if not fields[-1].has_presence:
                    return _refuse
                refused[one.path] = None
            elif fields and _kind_of(fields[-1]) not in _COMPARED:
                return _refuse
            getters.append(partial(_present_or_none, one.path, fields))
            continue
        if not fields:
            if not one.is_optional:
                return _refuse
            is_flat = False
            getters.append(_nothing)
            continue
        last = fields[-1]
        is_time = last.message_type is not None and last.message_type.full_name == TIMESTAMP
        if ("long" if is_time else _kind_of(last)) not in one.kinds:
            return _refuse
        if one.is_optional:
            is_flat = False
            getters.append(partial(_present_or_none, one.path, fields))
            continue
        for depth, field in enumerate(fields, 1):
            if field.has_presence:
                needed[one.path[:depth]] = None
        get = attrgetter(".".join(one.path))
        getters.append(partial(_nanoseconds, get) if is_time else get)
        is_flat &= not is_time
    if is_flat and len(getters) > 1:
        pick: Callable[[Any], Any] = attrgetter(*(".".join(one.path) for one in wanted))
    else:
        pick = _picker(getters)
    has = [_presence(path) for path in needed]
    has_not = [_presence(path) for path in refused]

    def read(body: bytes) -> Any:
        found = parse(body)
        for owner, name in has:
            if not owner(found).HasField(name):
                raise msgspec.DecodeError
        for owner, name in has_not:
            if owner(found).HasField(name):
                raise msgspec.DecodeError
        return pick(found)

    return read


def _fields_at(message: Any, path: Iterable[str]) -> list[Any]:
    """The fields on the way to a path; none where the message has no such path.

    None inside of a Timestamp either: that is one number (`protobuf.read_message`).
    """
    from iot_pipeline.core.reading.protobuf import TIMESTAMP

    found = []
    at = message
    for name in path:
        field = at.fields_by_name.get(name) if at is not None else None
        if field is None or field.is_repeated or at.full_name == TIMESTAMP:
            return []
        found.append(field)
        at = field.message_type
    return found


def _kind_of(field: Any) -> str:
    """A field's type in Avro's words; others have their number's."""
    if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
        return "double"
    if field.type == field.TYPE_STRING:
        return "string"
    if field.type == field.TYPE_BOOL:
        return "boolean"
    # Of 64 bits without a sign, and enums, messages and bytes: read by path.
    whole = ("INT32", "INT64", "SINT32", "SINT64", "SFIXED32", "SFIXED64", "UINT32", "FIXED32")
    is_whole = field.type in {getattr(field, f"TYPE_{name}") for name in whole}
    return "long" if is_whole else f"type {field.type}"


def _nothing(_message: Any) -> None:
    return None


def _itself(message: Any) -> Any:
    return message


def _presence(path: Path) -> tuple[Callable[[Any], Any], str]:
    return (attrgetter(".".join(path[:-1])) if len(path) > 1 else _itself), path[-1]


def _present_or_none(path: Path, fields: Sequence[Any], message: Any) -> Any:
    if not fields:
        return None
    for name, field in zip(path, fields, strict=True):
        if field.has_presence and not message.HasField(name):
            return None
        message = getattr(message, name)
    return message


def _nanoseconds(get: Callable[[Any], Any], message: Any) -> int:
    told = get(message)
    return int(told.seconds * 1_000_000_000 + told.nanos)
