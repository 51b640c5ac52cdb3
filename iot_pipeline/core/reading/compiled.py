"""The drain's way to read Avro and Protobuf: a schema is looked at once, its messages need not be.

There are three ways, the cheapest first, and a message takes the first that can read it:

1. together (`avro_together`, `protobuf_together`): the messages of a chunk that have one schema
   become columns, one for each thing that the declaration asks for;
2. one by one (`compiled_avro`, `compiled_protobuf`): fastavro or Google's library, both in C, make
   a tuple of what is asked for. For messages with something rare in them, and for schemas in which
   something that is asked for has a rare type;
3. by path (`by_path`, our own code): for schemas that lack a declared path or have another type
   there, and for messages that the other two refuse. It says in words what is wrong.

Limits are checked on columns (`read_chunk`).
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from iot_pipeline.core.reading.columns import Ints
from iot_pipeline.core.reading.contents import find_schema
from iot_pipeline.core.reading.declaration import Declaration, Path, TimeUnit
from iot_pipeline.core.reading.formats import (
    FRAME_BYTES,
    SchemaBook,
    UndecodableError,
    WriterSchema,
    is_frame,
)
from iot_pipeline.core.reading.joined import Joined
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.told_columns import Kind, ReadMany, ToldColumns, Want

Read = Callable[[bytes], Any]
# What reading raises for bytes that are no message of the schema.
BROKEN = (
    EOFError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
# Fewer messages of one schema are read one by one: numpy takes as long for one as for a hundred,
# and Google's library half as long as fastavro.
LEAST_TOGETHER = {"AVRO": 100, "PROTOBUF": 200}
# They are copied for it.
_MOST_BYTES = 8 << 20
_WHOLE = frozenset(("int", "long"))
_NUMBERS = frozenset(("int", "long", "float", "double", "decimal"))
_TEXT = frozenset(("string", "enum"))
_FRAME = (1 << 8 * FRAME_BYTES) - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a message is asked for: a path, and the kinds that the schema may have there.

    `kinds` are Avro's words. None: whatever it is, and it may be absent. What is optional may be
    absent, too, and is None then. `kept_as` is how a column of it is kept.
    """

    path: Path
    kinds: frozenset[str] | None
    is_optional: bool = False
    kept_as: Kind = "any"

    @property
    def may_lack(self) -> bool:
        return self.kinds is None or self.is_optional


class Forms(NamedTuple):
    """How messages of one schema are read: one of them, and `least` of them or more.

    Without `read_many` it is one by one, however many.
    """

    read: Read
    read_many: ReadMany | None = None
    least: int = 0


def wanted_of(declared: Declaration) -> list[Wanted]:
    """Device, time, quantities and what is compared, each that is in the message, in this order."""
    unit = declared.time.unit
    kept: Kind = "text" if unit == "iso8601" else "float64" if unit == "seconds" else "int64"
    found = [Wanted(path, _TEXT, kept_as="text") for path in declared.device.paths[:1]]
    found += [Wanted(path, _kinds_of_time(unit), kept_as=kept) for path in declared.time.paths[:1]]
    # What is not at the first path may be at another: such a message is read by path.
    found += [
        Wanted(
            item.places[0],
            _kinds_of(item),
            item.optional and len(item.places) == 1,
            _kept_as(item),
        )
        for item in declared.quantities
    ]
    # What has what a rule asks for is read by path.
    return found + [
        Wanted(rule.path, None, kept_as="any" if rule.equals else "presence")
        for rule in declared.ignore
    ]


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


def _kept_as(quantity: Quantity) -> Kind:
    if quantity.type in ("int", "bigint") and not quantity.is_converted:
        return "int64"
    if quantity.is_number:
        return "float64"
    return "bool" if quantity.type == "boolean" else "text"


def wants_of(wanted: Sequence[Wanted]) -> list[Want]:
    """The same, for messages that are read together."""
    return [
        Want(
            number,
            one.path,
            one.kept_as,
            False if one.kept_as == "presence" else None if one.may_lack else True,
        )
        for number, one in enumerate(wanted)
    ]


@dataclass(slots=True)
class FormatReader:
    """Reads messages of a declaration, in the order of `wanted_of`, each by its own schema."""

    declared: Declaration
    schemas: SchemaBook
    wanted: list[Wanted] = field(init=False)
    _forms: dict[bytes, Forms] = field(default_factory=dict)
    _own: Forms | None = None

    def __post_init__(self) -> None:
        self.wanted = wanted_of(self.declared)
        own = self.declared.format.schema
        if own is not None:
            self._own = _compile_schema(own, wanted=self.wanted, is_framed=False)

    def read(self, value: bytes) -> Any:
        """A message as a tuple.

        Raises:
            msgspec.DecodeError: it is not read this way.
            TypeError: it is a tombstone.
        """
        if self._own is not None:
            return self._own.read(value)
        frame = value[:FRAME_BYTES]
        return (self._forms.get(frame) or self._learn(frame)).read(value)

    def read_together(
        self, values: Sequence[bytes]
    ) -> tuple[list[tuple[Ints, ToldColumns]], Ints | None]:
        """Messages as columns.

        Returns:
            The places of those that were read, ascending, and what they tell: once per schema. And
            the places of those that are to be read one by one, ascending; None: all of them.
        """
        least = min(LEAST_TOGETHER.values())
        if len(values) < least or sum(map(len, values)) > _MOST_BYTES:
            return [], None
        joined = Joined(values)
        groups: list[tuple[Ints, ToldColumns]] = []
        left: list[Ints] = []
        for forms, rows in self._by_schema(joined):
            if forms.read_many is None or len(rows) < forms.least:
                left.append(rows)
                continue
            read, told, others = forms.read_many(joined, rows)
            groups.append((read, told))
            left.append(others)
        return groups, np.sort(np.concatenate(left)) if groups else None

    def _by_schema(self, joined: Joined) -> list[tuple[Forms, Ints]]:
        rows = np.arange(len(joined.starts))
        if self._own is not None:
            return [(self._own, rows)]
        is_short = joined.ends - joined.starts < FRAME_BYTES
        frames = joined.words(joined.starts) & _FRAME
        frames[is_short] = _FRAME
        found = []
        kinds = frames[:1] if (frames == frames[0]).all() else np.unique(frames)
        for kind in kinds.tolist():
            frame = kind.to_bytes(FRAME_BYTES, "little")
            forms = self._forms.get(frame) or self._learn(frame)
            found.append((forms, rows[frames == kind] if len(kinds) > 1 else rows))
        return found

    def _learn(self, frame: bytes) -> Forms:
        schema_id = int.from_bytes(frame[1:], "big")
        if not is_frame(frame) or not isinstance(self.schemas.find(schema_id), WriterSchema):
            return Forms(refuse)
        # Also that it has no such form: compiling it takes as long as reading a hundred messages.
        try:
            schema = find_schema(self.schemas, schema_id, self.declared.format.name)
            found = _compile_schema(schema, wanted=self.wanted, is_framed=True)
        except UndecodableError:
            found = Forms(refuse)
        self._forms[frame] = found
        return found


def refuse(_value: bytes) -> Any:
    raise msgspec.DecodeError


def picker(getters: Sequence[Callable[[Any], Any]]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives a tuple of all that these give."""

    def pick(message: Any) -> tuple[Any, ...]:
        return tuple([get(message) for get in getters])

    return pick


def _compile_schema(schema: WriterSchema, *, wanted: Sequence[Wanted], is_framed: bool) -> Forms:
    least = LEAST_TOGETHER[schema.kind]
    # Here, as each of them imports a library that not every installation has.
    if schema.kind == "AVRO":
        from iot_pipeline.core.reading.compiled_avro import compile_avro

        found = compile_avro(schema, wanted, FRAME_BYTES if is_framed else 0)
        return found._replace(least=least)
    from iot_pipeline.core.reading.compiled_protobuf import compile_protobuf

    return compile_protobuf(schema, wanted, is_framed=is_framed)._replace(least=least)
