"""Guess from its bytes what a message is that could not be read, for the text of a dead letter.

Whether it is a reading is decided before, elsewhere.
"""

import re

import msgspec

# Ten thousand letters are looked at in a second: no more of a message than this is.
_LOOKED_AT = 4_096
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\xff\x06\x00\x00sNaPpY", "Snappy"),
    (b"\x78\x01", "zlib"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
)
# How a message of a Confluent-compatible registry begins: a zero, then its schema's id.
# https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format
_REGISTRY_BYTES = 5
# As `by_path` says it.
_DECLARED = re.compile(r"or declare (`[^`]+`)")
# Ids are counted from 1: any four bytes would be another number.
_MOST_SCHEMAS = 1 << 25


def what_it_is(value: bytes) -> str:
    """What else than JSON the bytes are and what its sender can do; empty where that is unknown."""
    found = (look(value[:_LOOKED_AT]) for look in _LOOKS)
    return next((said for said in found if said), "")


def declared_line(message: str) -> str:
    """The line that a dead letter's message advises to declare; empty where it advises none."""
    found = _DECLARED.search(message)
    return found[1] if found else ""


def _empty(value: bytes) -> str:
    return "" if value.strip() else "it is empty"


def _compressed(value: bytes) -> str:
    for beginning, name in _COMPRESSED:
        if value.startswith(beginning):
            return (
                f"it is compressed with {name}: send it plain, and let the producer compress "
                "batches (compression.type), which is unpacked by itself"
            )
    return ""


def _of_registry(value: bytes) -> str:
    schema = int.from_bytes(value[1:_REGISTRY_BYTES], "big")
    if len(value) <= _REGISTRY_BYTES or value[0] or not 0 < schema < _MOST_SCHEMAS:
        return ""
    is_json = value[_REGISTRY_BYTES:].lstrip()[:1] == b"{"
    what = "JSON" if is_json else "Avro or Protobuf"
    line = "`format: json-schema`" if is_json else "`format: avro` (or protobuf)"
    return (
        f"it begins as a message of a schema registry does (schema {schema}, then {what}): "
        f"send plain JSON, or declare {line}"
    )


def _other_text(value: bytes) -> str:
    if value.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark: JSON has none"
    # Of Latin letters every other byte is zero, on one side.
    is_text = any(value[:64:2]) != any(value[1:64:2])
    if value[:2] in (b"\xff\xfe", b"\xfe\xff") or (is_text and len(value) > _REGISTRY_BYTES):
        return "it is UTF-16: send UTF-8"
    if value.lstrip()[:1] == b"<":
        return "it is XML or HTML: send JSON"
    return ""


def _message_pack(value: bytes) -> str:
    # A map of up to 15 entries, or one with its length in two bytes.
    if not (0x80 < value[0] <= 0x8F or value[0] == 0xDE):
        return ""
    try:
        found = msgspec.msgpack.decode(value, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    names = ", ".join(sorted(found)[:4])
    return f"it is MessagePack ({names}): send JSON"


_LOOKS = (_empty, _compressed, _of_registry, _other_text, _message_pack)
