"""Avro as the drain reads it: a message by fastavro, the messages of a chunk together."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from operator import itemgetter
from typing import Any

import fastavro
import msgspec

from iot_pipeline.core.reading import avro
from iot_pipeline.core.reading.avro_together import compile_together
from iot_pipeline.core.reading.compiled import BROKEN, Forms, Wanted, picker, refuse, wants_of
from iot_pipeline.core.reading.declaration import Path
from iot_pipeline.core.reading.formats import WriterSchema


def compile_avro(schema: WriterSchema, wanted: Sequence[Wanted], start: int) -> Forms:
    """How messages of a schema are read; their values begin at byte `start`."""
    root = avro.parse_schema(schema)
    if avro.can_run_away(root):
        return Forms(refuse)
    must_have, must_lack = [], []
    for at, one in enumerate(wanted):
        nodes, is_nullable = avro.find(root, one.path)
        if one.kinds is None:
            if one.kept_as == "presence":
                must_lack.append(at)
            continue
        kinds = {"decimal" if node.scale is not None else node.kind for node in nodes}
        if not kinds <= one.kinds or not (kinds or one.is_optional):
            return Forms(refuse)
        if is_nullable and not one.is_optional:
            must_have.append(at)
    is_flat = all(len(one.path) == 1 and not one.may_lack for one in wanted)
    if is_flat and len(wanted) > 1:
        pick: Callable[[Any], Any] = itemgetter(*(one.path[0] for one in wanted))
    else:
        pick = picker(list(map(_getter, wanted)))
    names: dict[str, Any] = {}
    try:
        for text in schema.references:
            fastavro.parse_schema(_plain(json.loads(text)), names)
        parsed = fastavro.parse_schema(_plain(json.loads(schema.text)), names)
    except (ValueError, LookupError, TypeError, fastavro.schema.SchemaParseException):
        return Forms(refuse)
    read_one = fastavro.schemaless_reader

    def read(value: bytes) -> Any:
        stream = BytesIO(value)
        if start:
            stream.seek(start)
        try:
            found = pick(read_one(stream, parsed, None))
        except BROKEN:
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

    return Forms(read, compile_together(root, wants_of(wanted), start))


def _getter(one: Wanted) -> Callable[[Any], Any]:
    path = one.path
    if one.may_lack:
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
