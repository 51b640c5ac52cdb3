"""In which format messages are, by whose schema, and the five bytes a schema registry puts first.

Confluent's wire format: a zero, the schema's id in four bytes, the message; before a Protobuf
message which of the schema's messages it is.
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format

Belongs here: what a format is, and which schemas are known. Does not belong here: reading by one
(`avro`, `protobuf`), asking a registry (`clients.registry`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

FormatName = Literal["json", "json-schema", "avro", "protobuf"]
# As registries call them.
KINDS: dict[FormatName, str] = {"json-schema": "JSON", "avro": "AVRO", "protobuf": "PROTOBUF"}
FRAME_BYTES = 5


class UndecodableError(ValueError):
    """The bytes are not what format and schema say; the message says in what, in words."""


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """A schema that messages are written by.

    Args:
        kind: one of KINDS' values.
        text: Avro's JSON; of Protobuf a serialized FileDescriptorSet, the schema's own file last.
        references: texts of Avro's that this one names types of, those that are named first.
        message: which of Protobuf's messages it is, by its full name; empty: each message says it.
    """

    kind: str
    text: bytes
    references: tuple[bytes, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An id that the registry has no schema of, or none that can be read; `why` in words."""

    why: str


@dataclass(frozen=True, slots=True)
class Format:
    """Of a declaration. Without a schema of its own each message names its writer's."""

    name: FormatName = "json"
    schema: WriterSchema | None = None

    def __str__(self) -> str:
        if self.schema is None:
            return f"{self.name}, by a registry's schemas" if self.is_framed else self.name
        message = f", message {self.schema.message}" if self.schema.message else ""
        return f"{self.name}, by a schema of its own{message}"

    @property
    def is_framed(self) -> bool:
        """Whether messages begin with a registry's five bytes."""
        return self.name != "json" and self.schema is None

    @property
    def asks_registry(self) -> bool:
        """Whether the schema that a message was written by has to be asked for."""
        return self.is_framed and self.name != "json-schema"


JSON = Format()


@dataclass(slots=True)
class SchemaBook:
    """The schemas that were asked for, by their ids: an id never means another schema.

    What the registry did not know is forgotten from time to time (`forget_unknown`). `writing` is
    the schema, and its id, by which messages are simulated.
    """

    writing: tuple[int, WriterSchema] | None = None
    _known: dict[int, WriterSchema | Unknown] = field(default_factory=dict)

    def missing(self, values: Iterable[bytes | None]) -> list[int]:
        """The ids in these messages that were not asked for yet, in ascending order."""
        frames = {value[:FRAME_BYTES] for value in values if value}
        ids = {int.from_bytes(one[1:], "big") for one in frames if is_frame(one)}
        return sorted(ids - self._known.keys())

    def add(self, schema_id: int, schema: WriterSchema | Unknown) -> None:
        self._known[schema_id] = schema

    def find(self, schema_id: int) -> WriterSchema | Unknown | None:
        """None: it was not asked for."""
        return self._known.get(schema_id)

    def forget_unknown(self) -> None:
        """Have the registry asked again for what it did not know."""
        known = self._known.items()
        self._known = {key: one for key, one in known if not isinstance(one, Unknown)}


def is_frame(beginning: bytes) -> bool:
    return len(beginning) >= FRAME_BYTES and beginning[0] == 0


def frame(schema_id: int) -> bytes:
    """The five bytes before a message."""
    return b"\0" + schema_id.to_bytes(4, "big")


def read_frame(value: bytes, format_name: str) -> int:
    """The id of the schema that a message was written by.

    Raises:
        UndecodableError: it does not begin as a message of a registry does.
    """
    if is_frame(value):
        return int.from_bytes(value[1:FRAME_BYTES], "big")
    if value.lstrip()[:1] == b"{":
        raise UndecodableError(
            "it is plain JSON, without a registry's five bytes; send it by the schema, or declare "
            "`format: json`"
        )
    if len(value) < FRAME_BYTES:
        raise UndecodableError(
            f"{len(value)} bytes, and a registry's five bytes come before a message"
        )
    raise UndecodableError(
        f"it begins with byte {value[0]}, expected 0 and a schema's id, as a registry's serializer "
        f"writes before {format_name}"
    )
