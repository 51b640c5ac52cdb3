"""Protobuf as the drain reads it: by Google's library, and the messages of a chunk together."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from iot_pipeline.core.reading import protobuf
from iot_pipeline.core.reading.compiled import BROKEN, Forms, Read, Wanted, picker, refuse, wants_of
from iot_pipeline.core.reading.declaration import Path
from iot_pipeline.core.reading.formats import FRAME_BYTES, UndecodableError, WriterSchema
from iot_pipeline.core.reading.protobuf_together import compile_together
from iot_pipeline.core.reading.told_columns import ReadMany

_COMPARED = frozenset(("long", "double", "string", "boolean"))


def compile_protobuf(schema: WriterSchema, wanted: Sequence[Wanted], *, is_framed: bool) -> Forms:
    """How messages of a schema are read, behind a registry's five bytes or bare."""
    file = protobuf.parse_file(schema)
    if schema.message:
        message = file.named(schema.message)
        reader = _of_message(message, wanted)
        return Forms(partial(_read_at, reader, 0), _together(reader, message, wanted, 0))
    if not is_framed:
        raise UndecodableError("no message is named")
    # The indexes in their usual form, where the message begins and what reads it.
    first = file.message((0,))
    usual = _of_message(first, wanted)
    others: dict[tuple[int, ...], Read] = {}

    def read(value: bytes) -> Any:
        if value[FRAME_BYTES : FRAME_BYTES + 1] == b"\0":
            return _read_at(usual, FRAME_BYTES + 1, value)
        try:
            indexes, start = protobuf.read_indexes(value, FRAME_BYTES)
            reader = others.get(indexes)
            if reader is None:
                message = file.message(indexes)
                reader = others[indexes] = _of_message(message, wanted)
        except UndecodableError:
            raise msgspec.DecodeError from None
        return _read_at(reader, start, value)

    return Forms(read, _together(usual, first, wanted, FRAME_BYTES))


def _together(
    reader: Read, message: Descriptor, wanted: Sequence[Wanted], start: int
) -> ReadMany | None:
    """What reads messages that begin with their index, which is 0, where `start` is not 0."""
    if reader is refuse:
        return None
    return compile_together(message, wants_of(wanted), start)


def _read_at(reader: Read, start: int, value: bytes) -> Any:
    try:
        return reader(value[start:])
    except (DecodeError, *BROKEN):
        raise msgspec.DecodeError from None


def _of_message(message: Descriptor, wanted: Sequence[Wanted]) -> Read:
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
            if fields and one.kept_as == "presence":
                if not fields[-1].has_presence:
                    return refuse
                refused[one.path] = None
            elif fields and _kind_of(fields[-1]) not in _COMPARED:
                return refuse
            getters.append(partial(_present_or_none, one.path, fields))
            continue
        if not fields:
            if not one.is_optional:
                return refuse
            is_flat = False
            getters.append(_nothing)
            continue
        last = fields[-1]
        is_time = (
            last.message_type is not None and last.message_type.full_name == protobuf.TIMESTAMP
        )
        if ("long" if is_time else _kind_of(last)) not in one.kinds:
            return refuse
        if one.is_optional:
            is_flat = False
            told = partial(_present_or_none, one.path, fields)
            getters.append(partial(_nanoseconds, told) if is_time else told)
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
        pick = picker(getters)
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
    found = []
    at = message
    for name in path:
        field = at.fields_by_name.get(name) if at is not None else None
        if field is None or field.is_repeated or at.full_name == protobuf.TIMESTAMP:
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


def _nanoseconds(get: Callable[[Any], Any], message: Any) -> int | None:
    told = get(message)
    if told is None:
        return None
    found = int(told.seconds * 1_000_000_000 + told.nanos)
    if found.bit_length() > 63:
        raise msgspec.DecodeError
    return found
