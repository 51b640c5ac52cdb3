"""The drain's way to read messages: the declaration compiled once, checked in C while JSON is read.

Only the most common shape of a declared message goes this way: each thing at its first path, a
time as the declaration says it. Any other message is read by `by_path`, which can read all of it,
and says what is wrong with it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Literal, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from iot_pipeline.core.reading.by_path import PathReader, Told
from iot_pipeline.core.reading.columns import Ints
from iot_pipeline.core.reading.contents import JSON_TYPES
from iot_pipeline.core.reading.declaration import Declaration, IgnoreRule, Path, TimeUnit
from iot_pipeline.core.reading.declared_times import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    PER_SECOND,
)
from iot_pipeline.core.reading.formats import FRAME_BYTES, SchemaBook
from iot_pipeline.core.reading.messages import (
    Headers,
    ReadingRules,
    Record,
    values_getter,
)
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.told_columns import Getter, ToldColumns

# What decoding raises for a message that is no reading; TypeError is a tombstone's.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


# The places of messages that were read, and what they tell, by schema; the places of those that are
# left, None: all.
Together = tuple[list[tuple[Ints, ToldColumns]], Ints | None]
# The greatest bigint.
_LAST = (1 << 63) - 1
# No message says it, so any value at all is refused by it.
_NEVER = Literal["\0 no message says this"]


@dataclass(slots=True)
class _Leaf:
    """What stands at a path: how it is read, and which it is when nothing stands there."""

    kind: Any
    default: Any = msgspec.NODEFAULT


@dataclass(slots=True)
class Shape:
    """The plain form of a message: what a decoded one gives, each of it by a function in C.

    `device` is None where it is not in the message, `time` where it is Kafka's. Where it
    `leaves_limits`, times and values are of their types, and within no limits yet. `together` reads
    many messages at once, where the format lets it.
    """

    decode: Callable[[bytes | None], Any]
    device: Getter | None
    time: Getter | None
    columns: list[Getter]
    ignored: list[tuple[IgnoreRule, Getter]] = field(default_factory=list)
    leaves_limits: bool = False
    together: Callable[[Sequence[bytes]], Together] | None = None


class ReadingDecoder:
    """Decodes messages by one set of rules, and counts those that carry unknown fields.

    Unknown fields are ignored, of two equal fields the last counts, an integer is a number.
    """

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules
        self.unknown_fields = 0
        self.values_of = values_getter(rules.quantities)
        self._by_path = PathReader(rules)
        declared = rules.declaration
        # The fast way of the drain: numbers and limits are checked while the JSON is read, in C.
        # Raises UNREADABLE for any other message; `decode` then says what it is. It checks neither
        # the device_id nor the message's size (`are_small`), nor values that are converted.
        is_json, counts = declared.format.name in ("json", "json-schema"), declared.counts_unknown
        self.shape = (
            _compile(declared, forbid_unknown=counts)
            if is_json
            else _shape_by_schema(declared, rules.schemas)
        )
        self._among_others = (
            _compile(declared, forbid_unknown=False) if counts and is_json else None
        )

    def decode_plain(self, value: bytes | None) -> Any:
        """A message of the plain form; raises UNREADABLE for any other."""
        if self.shape is None:
            raise msgspec.DecodeError
        return self.shape.decode(value)

    def read_together(self, values: Sequence[bytes | None]) -> Together:
        """What can be read of all messages at once, in columns; `decode_plain` reads the others."""
        together = None if self.shape is None else self.shape.together
        if together is None:
            return [], None
        if self.are_small(values):
            return together(cast(Sequence[bytes], values))
        most = self.rules.max_value_bytes
        small = [(at, one) for at, one in enumerate(values) if one is not None and len(one) <= most]
        places = np.array([at for at, _ in small], np.int64)
        found = [(places[rows], told) for rows, told in together([one for _, one in small])[0]]
        read = [rows for rows, _ in found]
        return found, np.setdiff1d(np.arange(len(values)), np.concatenate(read)) if read else None

    def decode_small(self, value: bytes | None) -> Any:
        """`decode_plain` where `are_small` is not true of all: raises for those that are not."""
        if value is None or len(value) > self.rules.max_value_bytes:
            raise msgspec.DecodeError
        return self.decode_plain(value)

    def decode_among_others(self, value: bytes | None) -> Any:
        """A message of the plain form with unknown fields, which are counted; None: it is none."""
        others = self._among_others
        if others is None or value is None or len(value) > self.rules.max_value_bytes:
            return None
        try:
            found = others.decode(value)
        except UNREADABLE:
            return None
        self.unknown_fields += 1
        return found

    def decode(
        self,
        value: bytes | None,
        message_key: bytes | None = None,
        headers: Headers | None = None,
        produced_ms: int = 0,
    ) -> Told:
        """Read one message, whatever its form; slower than the plain way.

        Returns:
            The reading, every rule met; or the first rule broken; or that it is known and none.
        """
        return self._by_path.read(value, message_key, headers, produced_ms)

    def decode_record(self, record: Record) -> Told:
        """`decode` of a record's message."""
        return self._by_path.read_record(record)

    def are_small(self, values: Sequence[bytes | None]) -> bool:
        """Whether all messages have a value, none of them too large: `decode_plain` may try."""
        return None not in values and max(map(len, cast(Sequence[bytes], values)), default=0) <= (
            self.rules.max_value_bytes
        )


# The plain form, compiled.


def _compile(declared: Declaration, *, forbid_unknown: bool) -> Shape | None:
    """None: the paths cross each other, and every message is read by path."""
    leaves: dict[Path, _Leaf] = {}

    def add(path: Path, leaf: _Leaf) -> bool:
        for other in leaves:
            shared = min(len(path), len(other))
            if path[:shared] == other[:shared]:
                return False
        leaves[path] = leaf
        return True

    wanted = [(path, _Leaf(str)) for path in declared.device.paths[:1]]
    wanted += [(path, _time_leaf(declared.time.unit)) for path in declared.time.paths[:1]]
    wanted += [(item.places[0], _quantity_leaf(item)) for item in declared.quantities]
    # A rule that asks whether something is there lets nothing through; the others are compared.
    wanted += [
        (rule.path, _Leaf(Any if rule.equals else _NEVER | None | UnsetType, UNSET))
        for rule in declared.ignore
    ]
    if not all(add(path, leaf) for path, leaf in wanted):
        return None
    places: dict[Path, str] = {}
    struct = _struct_of(leaves, (), "", places, forbid_unknown)

    def getter(path: Path) -> Getter:
        return attrgetter(places[path])

    decode: Callable[[Any], Any] = msgspec.json.Decoder(struct).decode
    return Shape(
        # None raises TypeError, as what cannot be read does.
        partial(_framed, decode) if declared.format.is_framed else decode,
        getter(declared.device.paths[0]) if declared.device.paths else None,
        getter(declared.time.paths[0]) if declared.time.paths else None,
        [getter(item.places[0]) for item in declared.quantities],
        [(rule, getter(rule.path)) for rule in declared.ignore if rule.equals],
    )


def _framed(decode: Callable[[Any], Any], value: bytes | None) -> Any:
    """JSON behind a registry's five bytes."""
    if value is None or value[:1] != b"\0":
        raise msgspec.DecodeError
    return decode(value[FRAME_BYTES:])


def _shape_by_schema(declared: Declaration, schemas: SchemaBook) -> Shape:
    """Avro's and Protobuf's: a tuple of all that is asked for."""
    # Here, as every import is a part of what loading definitions takes.
    from iot_pipeline.core.reading.compiled import FormatReader

    reader = FormatReader(declared, schemas)
    at = iter(map(itemgetter, range(len(reader.wanted))))
    return Shape(
        cast(Callable[[bytes | None], Any], reader.read),
        next(at) if declared.device.paths else None,
        next(at) if declared.time.paths else None,
        [next(at) for _ in declared.quantities],
        [(rule, getter) for rule, getter in zip(declared.ignore, at, strict=True) if rule.equals],
        leaves_limits=True,
        together=reader.read_together,
    )


def _struct_of(
    leaves: dict[Path, _Leaf], at: Path, before: str, places: dict[Path, str], forbid_unknown: bool
) -> type[msgspec.Struct]:
    """The object at a path; `places` gets the attribute behind each leaf's path."""
    here = [path for path in leaves if path[: len(at)] == at]
    names = list(dict.fromkeys(path[len(at)] for path in here))
    fields: list[tuple[str, Any, Any]] = []
    for number, name in enumerate(names):
        path, place = (*at, name), f"{before}f{number}"
        leaf = leaves.get(path)
        if leaf is not None:
            places[path] = place
            item = msgspec.field(name=name, default=leaf.default)
            fields.append((f"f{number}", leaf.kind, item))
            continue
        kind = _struct_of(leaves, path, f"{place}.", places, forbid_unknown)
        below = [leaves[other] for other in here if other[: len(path)] == path]
        if all(one.default is UNSET for one in below):
            item = msgspec.field(name=name, default_factory=partial(_same, kind()))
        else:
            item = msgspec.field(name=name)
        fields.append((f"f{number}", kind, item))
    return msgspec.defstruct(
        "_Message",
        fields,
        kw_only=True,
        frozen=True,
        gc=False,
        forbid_unknown_fields=forbid_unknown,
    )


def _same(one: msgspec.Struct) -> msgspec.Struct:
    return one


def _time_leaf(unit: TimeUnit) -> _Leaf:
    if unit == "iso8601":
        return _Leaf(str)
    if unit == "seconds":
        return _Leaf(Annotated[float, Meta(ge=EARLIEST_SECONDS, lt=LATEST_SECONDS)])
    per_second = PER_SECOND[unit]
    first, end = int(EARLIEST_SECONDS) * per_second, int(LATEST_SECONDS) * per_second
    return _Leaf(Annotated[int, Meta(ge=first, lt=end)])


def exact_ends(quantity: Quantity) -> tuple[float, float]:
    """`ends`, as whole numbers where its values are."""
    least, greatest = quantity.ends
    if quantity.type not in ("int", "bigint"):
        return least, greatest
    # 2.0**63 is one more than a bigint holds.
    return math.ceil(least), min(math.floor(greatest), _LAST)


def _quantity_leaf(quantity: Quantity) -> _Leaf:
    kind = JSON_TYPES[quantity.type]
    if quantity.is_number and not quantity.is_converted:
        least, greatest = exact_ends(quantity)
        whole = quantity.type in ("int", "bigint")
        limits = Meta(ge=least, le=greatest)
        kind = Annotated[int, limits] if whole else Annotated[float, limits]
    elif quantity.is_converted:
        kind = float
    # Where it may be elsewhere, absent here says nothing yet.
    if quantity.optional and len(quantity.places) == 1:
        return _Leaf(kind | None | UnsetType, UNSET)
    return _Leaf(kind)
