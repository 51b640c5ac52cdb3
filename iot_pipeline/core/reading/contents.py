"""What stands at the declared paths of a message, for each format, one value at a time.

JSON is left raw until it is asked for; Avro and Protobuf are read as a whole by code of ours, by
the schema of the message's writer. Does not belong here: what a value means (`by_path`), and the
drain's form (`decoding`, `compiled`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from iot_pipeline.core.reading.declaration import Declaration, Path
from iot_pipeline.core.reading.formats import (
    FRAME_BYTES,
    KINDS,
    Format,
    FormatName,
    SchemaBook,
    UndecodableError,
    Unknown,
    WriterSchema,
    read_frame,
)
from iot_pipeline.core.reading.quantities import RANGES

# What a value of each type is in JSON.
JSON_TYPES: dict[str, Any] = {
    "double": float,
    "float": Annotated[float, Meta(ge=RANGES["float"][0], le=RANGES["float"][1])],
    "int": Annotated[int, Meta(ge=-(1 << 31), le=(1 << 31) - 1)],
    "bigint": Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)],
    "boolean": bool,
    "text": str,
}
# What a time may be at all.
_TIME: Any = int | float | str

Decode = Callable[[Any], Any]


class Contents(Protocol):
    """A format. The decoders raise msgspec.ValidationError for a value of another type."""

    values: Mapping[str, Decode]
    as_text: Decode
    as_time: Decode
    as_anything: Decode

    def read(self, value: bytes) -> dict[Path, Any]:
        """What stands at each path, as far as there is something.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no JSON, or no object.
            UndecodableError: it is not what format and schema say.
        """
        ...

    def is_null(self, found: Any) -> bool: ...


def contents_of(declared: Declaration, schemas: SchemaBook) -> Contents:
    """How messages of the declared format are read."""
    paths = [
        *declared.device.paths,
        *declared.time.paths,
        *(rule.path for rule in declared.ignore),
        *(path for quantity in declared.quantities for path in quantity.places),
    ]
    if declared.format.name == "json":
        return _Json(paths)
    if declared.format.name == "json-schema":
        return _FramedJson(paths)
    return _BySchema(paths, declared.format, schemas)


class _Json:
    values: Mapping[str, Decode] = {
        name: msgspec.json.Decoder(kind).decode for name, kind in JSON_TYPES.items()
    }
    as_text = staticmethod(msgspec.json.Decoder(str).decode)
    as_time = staticmethod(msgspec.json.Decoder(_TIME).decode)
    as_anything = staticmethod(msgspec.json.Decoder().decode)

    def __init__(self, paths: Iterable[Path]) -> None:
        self._level = _Level(paths)

    def read(self, value: bytes) -> dict[Path, Any]:
        found: dict[Path, Raw] = {}
        self._level.read(value, found)
        return found

    def is_null(self, found: Raw) -> bool:
        return bytes(found).strip() == b"null"


class _FramedJson(_Json):
    """JSON behind a registry's five bytes; which schema it is checked by changes no value."""

    def read(self, value: bytes) -> dict[Path, Any]:
        read_frame(value, "JSON")
        return super().read(value[FRAME_BYTES:])


class _Level:
    """One object of a message: of the names that are asked for what stands there, unread.

    What is not asked for is passed over unread, as the drain's form does.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        below: dict[str, list[Path]] = {}
        for path in paths:
            below.setdefault(path[0], []).append(path[1:])
        self._places = {name: f"at_{number}" for number, name in enumerate(below)}
        shape = msgspec.defstruct(
            "_Level",
            [
                (place, Raw | UnsetType, msgspec.field(name=name, default=UNSET))
                for name, place in self._places.items()
            ],
            gc=False,
        )
        self._decode = msgspec.json.Decoder(shape).decode
        deeper = {name: [path for path in rest if path] for name, rest in below.items()}
        self._below = {name: _Level(rest) for name, rest in deeper.items() if rest}

    def read(self, value: bytes | Raw, found: dict[Path, Raw], before: Path = ()) -> None:
        """Add what stands at each path, as far as there is something.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no JSON, or no object.
        """
        read = self._decode(value)
        for name, place in self._places.items():
            raw = getattr(read, place)
            if raw is UNSET:
                continue
            found[*before, name] = raw
            below = self._below.get(name)
            if below is not None and bytes(raw).lstrip()[:1] == b"{":
                below.read(raw, found, (*before, name))


class _BySchema:
    """Avro or Protobuf, by the schema that a message was written by."""

    values: Mapping[str, Decode] = {
        name: partial(msgspec.convert, type=kind) for name, kind in JSON_TYPES.items()
    }
    as_text = staticmethod(partial(msgspec.convert, type=str))
    as_time = staticmethod(partial(msgspec.convert, type=_TIME))
    as_anything = staticmethod(partial(msgspec.convert, type=Any))

    def __init__(self, paths: Iterable[Path], declared: Format, schemas: SchemaBook) -> None:
        self._paths = list(dict.fromkeys(paths))
        self._format, self._schemas = declared, schemas
        self._by_id: dict[int, Callable[[bytes, int], Any]] = {}
        self._own = _reader_of(declared.schema) if declared.schema is not None else None

    def is_null(self, found: Any) -> bool:
        return found is None

    def read(self, value: bytes) -> dict[Path, Any]:
        return self._at_paths(self.message(value))

    def message(self, value: bytes) -> dict[str, Any]:
        """All of a message.

        Raises:
            UndecodableError: it is not what its schema says.
        """
        message = self._decoded(value)
        if not isinstance(message, dict):
            raise UndecodableError("it is no record")
        return message

    def _decoded(self, value: bytes) -> Any:
        if self._own is not None:
            return self._own(value, 0)
        schema_id = read_frame(value, self._format.name.capitalize())
        try:
            reader = self._by_id.get(schema_id)
            if reader is None:
                schema = find_schema(self._schemas, schema_id, self._format.name)
                reader = self._by_id[schema_id] = _reader_of(schema)
            return reader(value, FRAME_BYTES)
        except UndecodableError as exc:
            raise UndecodableError(f"schema {schema_id}: {exc}") from None

    def _at_paths(self, message: dict[str, Any]) -> dict[Path, Any]:
        found = {}
        for path in self._paths:
            at: Any = message
            for name in path:
                if not isinstance(at, dict) or name not in at:
                    break
                at = at[name]
            else:
                found[path] = at
        return found


def message_reader(schemas: SchemaBook, ids: Iterable[int]) -> tuple[FormatName, Decode]:
    """The format that most of these schemas have, and what reads a whole message of it.

    What is bytes comes as words about them.
    """
    found = [schemas.find(one) for one in ids]
    kinds = Counter(one.kind for one in found if isinstance(one, WriterSchema))
    names = {kind: name for name, kind in KINDS.items()}
    form = names[kinds.most_common(1)[0][0]] if kinds else "avro"
    return form, reader_of(Format(form), schemas)


def reader_of(declared: Format, schemas: SchemaBook) -> Decode:
    """What reads a whole message of a format; it raises as `Contents.read` does."""
    if declared.name == "json":
        return _Json.as_anything
    if declared.name == "json-schema":
        return lambda value: _Json.as_anything(value[FRAME_BYTES:])
    reader = _BySchema((), declared, schemas)
    return lambda value: _told(reader.message(value))


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items()}
    return f"{len(value)} bytes" if isinstance(value, bytes) else value


def find_schema(schemas: SchemaBook, schema_id: int, format_name: FormatName) -> WriterSchema:
    """The schema that messages with this id were written by.

    Raises:
        UndecodableError: the registry has none, or one of another format.
    """
    schema = schemas.find(schema_id)
    assert schema is not None, "schemas are asked for before messages are read"
    if isinstance(schema, Unknown):
        raise UndecodableError(schema.why)
    if schema.kind != KINDS[format_name]:
        lines = [f", or declare `format: {name}`" for name in KINDS if KINDS[name] == schema.kind]
        raise UndecodableError(f"it is {schema.kind}: send {KINDS[format_name]}{''.join(lines)}")
    return schema


def checked_schema(schema: WriterSchema) -> WriterSchema:
    """A declaration's own schema, with the name of its message where it has one alone.

    Raises:
        UndecodableError: it cannot be read; the message says what is wrong.
    """
    if schema.kind == "AVRO":
        from iot_pipeline.core.reading import avro

        if avro.parse_schema(schema).kind != "record":
            raise UndecodableError("expected a schema of a record")
        return schema
    from iot_pipeline.core.reading import protobuf

    file = protobuf.parse_file(schema)
    if not schema.message and len(file.top) == 1:
        return replace(schema, message=file.top[0].full_name)
    file.named(schema.message)
    return schema


def _reader_of(schema: WriterSchema) -> Callable[[bytes, int], Any]:
    # Each of them costs every other command a moment.
    if schema.kind == "AVRO":
        from iot_pipeline.core.reading import avro

        return partial(avro.read_message, avro.parse_schema(schema))
    from iot_pipeline.core.reading import protobuf

    file = protobuf.parse_file(schema)
    if schema.message:
        return partial(protobuf.read_message, file.named(schema.message))

    def read(value: bytes, start: int) -> Any:
        indexes, start = protobuf.read_indexes(value, start)
        return protobuf.read_message(file.message(indexes), value, start)

    return read
