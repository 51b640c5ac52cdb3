"""A record of the topic, and what reading its message gives: a reading, or why it is none."""

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import msgspec

from iot_pipeline.core.reading.declaration import SEED, Declaration
from iot_pipeline.core.reading.formats import SchemaBook
from iot_pipeline.core.reading.quantities import QUANTITIES, Quantity

MAX_DEVICE_ID_BYTES = 256
# A Record, its two bytes objects and its integers: sys.getsizeof of each, added up.
RECORD_OVERHEAD_BYTES = 300

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Headers = list[tuple[str, bytes | None]]

if TYPE_CHECKING:

    class Reading(msgspec.Struct, frozen=True):
        """What a sensor measured: its name, its clock, and a value of each declared quantity.

        `timestamp` is the device's clock: seconds since 1970, UTC. Of the original message these
        are the names of its fields. Readings of other quantities have another type
        (`reading_type`), so ask whether one is a Rejection or Ignored, not whether it is a Reading.
        """

        device_id: str
        timestamp: float

        def __init__(
            self, device_id: str, timestamp: float, *values: float | None, **named: float | None
        ) -> None: ...

        def __getattr__(self, quantity: str) -> float: ...


def _reading_of(names: Sequence[str]) -> "type[Reading]":
    made = msgspec.defstruct(
        "Reading",
        [("device_id", str), ("timestamp", float), *((name, float) for name in names)],
        module=__name__,
        frozen=True,
        gc=False,
        forbid_unknown_fields=True,
    )
    # A struct that is made at run time has no name to type it by.
    return cast("type[Reading]", made)


if not TYPE_CHECKING:
    # That of the original message.
    Reading = _reading_of([quantity.name for quantity in QUANTITIES])


@cache
def reading_type(quantities: tuple[Quantity, ...]) -> type[Reading]:
    """Readings of these quantities: their values by name, in their order."""
    names = [quantity.name for quantity in quantities]
    if names == [quantity.name for quantity in QUANTITIES]:
        return Reading
    return _reading_of(names)


@cache
def values_getter(quantities: tuple[Quantity, ...]) -> Callable[[Reading], tuple[Any, ...]]:
    """What gives a reading's values in the order of its quantities."""
    names = [quantity.name for quantity in quantities]
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda reading: (only(reading),)
    return attrgetter(*names)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of the topic, as Kafka keeps it.

    `produced_ms` is the record's Kafka timestamp (LogAppendTime: the broker's arrival time), in
    milliseconds since 1970. `value` is None for a tombstone.
    """

    partition: int
    offset: int
    produced_ms: int
    message_key: bytes | None
    value: bytes | None
    headers: Headers | None = None

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory: its bytes and the objects that hold them."""
        size = RECORD_OVERHEAD_BYTES + len(self.value or b"") + len(self.message_key or b"")
        if self.headers:
            size += sum(len(name) + len(content or b"") for name, content in self.headers)
        return size


class Reason(enum.StrEnum):
    """Why a record could not be a reading. Few and stable: people alert on them."""

    NOT_JSON = "not_json"
    UNDECODABLE = "undecodable"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    TOO_LARGE = "too_large"
    NO_VALUE = "no_value"
    REJECTED_BY_CASSANDRA = "rejected_by_cassandra"


class DeadLetter(msgspec.Struct, frozen=True):
    """A record we could not read, kept whole, with the reason."""

    record: Record
    reason: Reason
    message: str


class Rejection(msgspec.Struct, frozen=True):
    """Why a message is no reading."""

    reason: Reason
    message: str


class Ignored(msgspec.Struct, frozen=True):
    """A message that is known and no reading; `rule` is what it is known by."""

    rule: str


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What a reading is at all: how a message is read, and how large it may be.

    `schemas` grow while messages are read: a schema's id always means the same.
    """

    declaration: Declaration = SEED
    max_value_bytes: int = 65_536
    # What is known of schemas so far; who reads messages has them asked for first.
    schemas: SchemaBook = field(default_factory=SchemaBook, compare=False, repr=False)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """All quantities, with their limits."""
        return self.declaration.quantities


def find_device_id_problem(device_id: str) -> str | None:
    """What is wrong with a device_id, in words; None when nothing is."""
    length = len(device_id.encode())
    if not 1 <= length <= MAX_DEVICE_ID_BYTES:
        return f"device_id has {length} bytes, expected 1 to {MAX_DEVICE_ID_BYTES}"
    if _CONTROL_CHARACTER.search(device_id):
        return "device_id contains a control character"
    return None
