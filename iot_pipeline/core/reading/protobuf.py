"""Protobuf by its wire format: a message read field by field, by descriptors.

For an audit, and for what the drain's form (`compiled_protobuf`, by Google's library) refuses: it
says in words what is wrong, and where. https://protobuf.dev/programming-guides/encoding/
"""

import struct
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from iot_pipeline.core.reading.formats import UndecodableError, WriterSchema

TIMESTAMP = "google.protobuf.Timestamp"
# Google's library reads 100.
_DEEPEST = 128
_VARINT, _FIXED64, _BYTES, _START, _END, _FIXED32 = range(6)
_BITS = 64
_MASK = (1 << 64) - 1

Indexes = tuple[int, ...]


@dataclass(slots=True)
class File:
    """A schema's messages: by full name, and by the indexes that come before a message."""

    pool: DescriptorPool
    top: list[Descriptor]

    def named(self, name: str) -> Descriptor:
        """The message of this full name, or the only one.

        Raises:
            UndecodableError: there is none; says which there are.
        """
        try:
            return self.pool.FindMessageTypeByName(name)
        except LookupError:
            known = ", ".join(one.full_name for one in self.top)
            raise UndecodableError(f"it has no message {name}; it has {known}") from None

    def message(self, indexes: Indexes) -> Descriptor:
        """The message that indexes lead to.

        Raises:
            UndecodableError: there is none.
        """
        found, inner = None, self.top
        for index in indexes:
            if not 0 <= index < len(inner):
                raise UndecodableError(f"its schema has no message {list(indexes)}")
            found = inner[index]
            # As they are declared: a map's entry is a message, too.
            inner = list(found.nested_types)
        if found is None:
            raise UndecodableError("no index says which message it is")
        return found


def parse_file(schema: WriterSchema) -> File:
    """The messages of a schema.

    Raises:
        UndecodableError: it is no Protobuf schema, in words.
    """
    pool = DescriptorPool()
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(schema.text).file
        for one in files:
            pool.Add(one)
        own = files[-1]
        space = f"{own.package}." if own.package else ""
        top = [pool.FindMessageTypeByName(space + item.name) for item in own.message_type]
    except (TypeError, LookupError, DecodeError) as exc:
        raise UndecodableError(f"its schema is no Protobuf schema ({exc})") from None
    return File(pool, top)


def read_indexes(value: bytes, start: int) -> tuple[Indexes, int]:
    """Which message it is, and where it begins: a count and as many indexes; 0 stands for [0].

    Raises:
        UndecodableError: the bytes end within them, or say too many.
    """
    try:
        count, at = _varint(value, start)
        count = _zigzag(count)
        if not count:
            return (0,), at
        if not 0 < count <= _DEEPEST:
            raise UndecodableError(f"{count} message indexes before it")
        found = []
        for _ in range(count):
            index, at = _varint(value, at)
            found.append(_zigzag(index))
    except IndexError:
        raise UndecodableError("it ends before the message, in its message indexes") from None
    return tuple(found), at


def write_indexes(indexes: Indexes) -> bytes:
    if indexes == (0,):
        return b"\0"
    return b"".join(_write_varint(one << 1) for one in (len(indexes), *indexes))


def indexes_of(message: Descriptor) -> Indexes:
    """Which message of its file it is."""
    outer = message.containing_type
    if outer is None:
        return (list(message.file.message_types_by_name).index(message.name),)
    names = [one.name for one in outer.nested_types]
    return (*indexes_of(outer), names.index(message.name))


def write_tag(number: int, wire: int) -> bytes:
    """What a field begins with."""
    return _write_varint(number << 3 | wire)


def _write_varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def read_message(message: Descriptor, value: bytes, start: int) -> dict[str, Any]:
    """The message in the bytes from `start` on: dicts, lists, numbers, text and bytes.

    A field that has no presence and is not sent is its default; another one that is not sent is
    absent. An enum is its name; a Timestamp is nanoseconds since 1970.

    Raises:
        UndecodableError: they are no message of this type.
    """
    return _read(_layout(message), value, start, len(value), "", 0)


@dataclass(slots=True)
class _Field:
    name: str
    type: int
    is_repeated: bool
    message: Descriptor | None
    names: dict[int, str]


@dataclass(slots=True)
class _Layout:
    full_name: str
    fields: dict[int, _Field]
    defaults: dict[str, Any] = field(default_factory=dict)
    # Of fields of which one alone can be there: what leaves when one comes.
    rivals: dict[str, list[str]] = field(default_factory=dict)


@cache
def _layout(message: Descriptor) -> _Layout:
    found = _Layout(message.full_name, {})
    for one in message.fields:
        names = {item.number: item.name for item in one.enum_type.values} if one.enum_type else {}
        found.fields[one.number] = _Field(
            one.name, one.type, one.is_repeated, one.message_type, names
        )
        if one.is_repeated:
            found.defaults[one.name] = []
        elif not one.has_presence:
            value = one.default_value
            found.defaults[one.name] = names.get(value, value) if names else value
        if one.containing_oneof is not None:
            others = [item.name for item in one.containing_oneof.fields]
            found.rivals[one.name] = [name for name in others if name != one.name]
    return found


def _read(
    layout: _Layout, value: bytes, at: int, end: int, path: str, depth: int
) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise UndecodableError(f"{path}: more than {_DEEPEST} messages in each other")
    found: dict[str, Any] = {}
    parts: dict[str, tuple[_Layout, list[bytes]]] = {}
    while at < end:
        where = path or "the message"
        try:
            tag, at = _varint(value, at)
            number, wire = tag >> 3, tag & 7
            raw, at = _raw(value, at, wire, number, depth)
        except IndexError:
            at = end + 1
        if at > end:
            raise UndecodableError(f"{where}: it ends within a field")
        if not number:
            raise UndecodableError(f"{where}: a field with the number 0")
        one = layout.fields.get(number)
        if one is None or one.is_repeated or wire != WIRES.get(one.type, _VARINT):
            # Unknown to this schema, or of no interest: lists are not read.
            continue
        for rival in layout.rivals.get(one.name, ()):
            found.pop(rival, None)
            parts.pop(rival, None)
        if one.message is not None:
            # Told in parts, a message is all of them one behind the other.
            parts.setdefault(one.name, (_layout(one.message), []))[1].append(raw)
        else:
            found[one.name] = _value(one, raw, f"{path}.{one.name}" if path else one.name)
    for name, (inner, pieces) in parts.items():
        whole = b"".join(pieces)
        below = f"{path}.{name}" if path else name
        told: Any = _read(inner, whole, 0, len(whole), below, depth + 1)
        if inner.full_name == TIMESTAMP:
            told = told["seconds"] * 1_000_000_000 + told["nanos"]
        found[name] = told
    return {**layout.defaults, **found}


def _raw(value: bytes, at: int, wire: int, number: int, depth: int) -> tuple[Any, int]:
    if wire == _VARINT:
        return _varint(value, at)
    if wire == _FIXED64:
        return value[at : at + 8], at + 8
    if wire == _FIXED32:
        return value[at : at + 4], at + 4
    if wire == _BYTES:
        size, at = _varint(value, at)
        return value[at : at + size], at + size
    if wire != _START or depth > _DEEPEST:
        raise UndecodableError(f"field {number} has the wire type {wire}: it is no Protobuf")
    while True:
        tag, at = _varint(value, at)
        if tag & 7 == _END:
            if tag >> 3 != number:
                raise UndecodableError(f"group {number} ends as group {tag >> 3}")
            return b"", at
        _, at = _raw(value, at, tag & 7, tag >> 3, depth + 1)


_F = FieldDescriptor
# How a field of a type is written; those that are not here are numbers of a length of their own.
WIRES: dict[int, int] = {
    _F.TYPE_DOUBLE: _FIXED64,
    _F.TYPE_FIXED64: _FIXED64,
    _F.TYPE_SFIXED64: _FIXED64,
    _F.TYPE_FLOAT: _FIXED32,
    _F.TYPE_FIXED32: _FIXED32,
    _F.TYPE_SFIXED32: _FIXED32,
    _F.TYPE_STRING: _BYTES,
    _F.TYPE_BYTES: _BYTES,
    _F.TYPE_MESSAGE: _BYTES,
    _F.TYPE_GROUP: _START,
}
_STRUCTS = {
    _F.TYPE_DOUBLE: struct.Struct("<d"),
    _F.TYPE_FIXED64: struct.Struct("<Q"),
    _F.TYPE_SFIXED64: struct.Struct("<q"),
    _F.TYPE_FLOAT: struct.Struct("<f"),
    _F.TYPE_FIXED32: struct.Struct("<I"),
    _F.TYPE_SFIXED32: struct.Struct("<i"),
}


def _value(one: _Field, raw: Any, path: str) -> Any:
    if (packed := _STRUCTS.get(one.type)) is not None:
        return packed.unpack(raw)[0]
    if one.type == _F.TYPE_STRING:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise UndecodableError(f"{path}: it is not UTF-8") from None
    if one.type == _F.TYPE_BYTES:
        return raw
    if one.type == _F.TYPE_BOOL:
        return bool(raw)
    if one.type == _F.TYPE_UINT64:
        return raw
    if one.type == _F.TYPE_UINT32:
        return raw & 0xFFFF_FFFF
    if one.type in (_F.TYPE_SINT32, _F.TYPE_SINT64):
        return _zigzag(raw if one.type == _F.TYPE_SINT64 else raw & 0xFFFF_FFFF)
    if one.type == _F.TYPE_INT64:
        return _signed(raw, 64)
    number = _signed(raw & 0xFFFF_FFFF, 32)
    return one.names.get(number, number) if one.type == _F.TYPE_ENUM else number


def _varint(value: bytes, at: int) -> tuple[int, int]:
    told = shift = 0
    while True:
        byte = value[at]
        at += 1
        told |= (byte & 0x7F) << shift
        if byte < 0x80:
            return told & _MASK, at
        shift += 7
        if shift >= _BITS + 6:
            raise UndecodableError("a number of more than ten bytes")


def _zigzag(told: int) -> int:
    return (told >> 1) ^ -(told & 1)


def _signed(told: int, bits: int) -> int:
    return told - (1 << bits) if told >> (bits - 1) else told
