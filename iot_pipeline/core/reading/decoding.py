"""A message of the topic is a reading, or a dead letter with a reason."""

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
from msgspec import Meta

from iot_pipeline.core.reading.declaration import SEED, Declaration
from iot_pipeline.core.reading.payloads import time_unit, what_it_is
from iot_pipeline.core.reading.quantities import QUANTITIES, Quantity

# 2000-01-01 and 2100-01-01 UTC. Milliseconds since 1970 sent as seconds land far above.
EARLIEST_SECONDS = 946_684_800.0
LATEST_SECONDS = 4_102_444_800.0
MAX_DEVICE_ID_BYTES = 256
# A Record, its two bytes objects and its integers: sys.getsizeof of each, added up.
RECORD_OVERHEAD_BYTES = 300

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


if TYPE_CHECKING:

    class Reading(msgspec.Struct, frozen=True):
        """What a sensor measured: its name, its clock, and a value of each of QUANTITIES.

        `timestamp` is the device's clock: seconds since 1970, UTC. The names are the original
        contract of the topic and the table. Unknown fields are forbidden so that the common case is
        decoded in one pass; `ReadingDecoder` tolerates them.
        """

        device_id: str
        timestamp: float

        def __init__(
            self, device_id: str, timestamp: float, *values: float, **named: float
        ) -> None: ...

        def __getattr__(self, quantity: str) -> float: ...
else:
    Reading = msgspec.defstruct(
        "Reading",
        [
            ("device_id", str),
            ("timestamp", float),
            *((quantity.name, float) for quantity in QUANTITIES),
        ],
        module=__name__,
        frozen=True,
        gc=False,
        forbid_unknown_fields=True,
    )

# A reading's values in the order of QUANTITIES.
values_of: Callable[[Reading], tuple[float, ...]] = attrgetter(
    *(quantity.name for quantity in QUANTITIES)
)
_VALUE_OF_EACH = [attrgetter(quantity.name) for quantity in QUANTITIES]


def columns_of(readings: Sequence[Reading]) -> list[Iterator[float]]:
    """The values of each quantity, in the order of QUANTITIES; each can be walked once."""
    return [map(value_of, readings) for value_of in _VALUE_OF_EACH]


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
    headers: list[tuple[str, bytes | None]] | None = None

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


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What a reading is at all: how a message is read, and how large it may be."""

    declaration: Declaration = SEED
    max_value_bytes: int = 65_536

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """All quantities, with their limits."""
        return self.declaration.quantities


class Rejection(msgspec.Struct, frozen=True):
    reason: Reason
    message: str


_encode = msgspec.json.Encoder().encode


def encode_reading(reading: Reading) -> bytes:
    """The JSON of the topic's contract, UTF-8, in the order of the fields."""
    return _encode(reading)


def timestamp_ms(seconds: float) -> int:
    """Milliseconds since 1970 of a float timestamp, as the table keeps it.

    Rounded to microseconds first, then floored: `int(seconds * 1000)` is one millisecond low
    for many values, because 0.001 has no exact double.
    """
    return round(seconds * 1e6) // 1000


# What decoding raises for a message that is no reading; TypeError is a tombstone's.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


def _limited_decoder(
    rules: ReadingRules, *, forbid_unknown: bool
) -> Callable[[bytes | None], Reading]:
    limited = msgspec.defstruct(
        "_LimitedReading",
        [
            ("device_id", str),
            ("timestamp", Annotated[float, Meta(ge=EARLIEST_SECONDS, lt=LATEST_SECONDS)]),
            *(
                (item.name, Annotated[float, Meta(ge=item.least, le=item.greatest)])
                for item in rules.quantities
            ),
        ],
        frozen=True,
        gc=False,
        forbid_unknown_fields=forbid_unknown,
    )
    # A struct of the same fields: a class made at run time has no name to type it by.
    return cast(Callable[[bytes | None], Reading], msgspec.json.Decoder(limited).decode)


class _LooseReading(Reading, frozen=True, gc=False, forbid_unknown_fields=False):
    """A reading among other fields. It never leaves the decoder: structs of two classes differ."""


class ReadingDecoder:
    """Decodes messages by one set of rules, and counts those that carry unknown fields.

    Unknown fields are ignored, of two equal fields the last counts, an integer is a number.
    """

    # device_ids that passed already: a fleet repeats its names, checking them again is a
    # third of the cost of a message. All are forgotten at once when a producer sends random names.
    # At most 256 bytes each: 60 MB of them, well inside what a drain may take.
    _MAX_KNOWN = 200_000

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules
        self.unknown_fields = 0
        self._known: set[str] = set()
        self._decode_exact = msgspec.json.Decoder(Reading).decode
        self._decode_loose = msgspec.json.Decoder(_LooseReading).decode
        # The fast way of the drain: numbers and limits are checked while the JSON is read, in C.
        # Raises UNREADABLE for any other message; `decode_odd` then says what it is. It checks
        # neither the device_id (`is_device`) nor the message's size (`are_small`).
        self.decode_plain = _limited_decoder(rules, forbid_unknown=True)
        self._decode_among_others = _limited_decoder(rules, forbid_unknown=False)

    def decode(self, value: bytes | None) -> Reading | Rejection:
        """Read one message.

        Returns:
            The reading, every rule met; or the first rule broken.
        """
        try:
            return self._check_device(self.decode_small(value))
        except UNREADABLE:
            return self.decode_odd(value)

    def decode_odd(self, value: bytes | None) -> Reading | Rejection:
        """`decode` of a message that `decode_plain` or `decode_small` refused."""
        if value is None:
            return Rejection(Reason.NO_VALUE, "the record has no value (a tombstone)")
        most = self.rules.max_value_bytes
        if len(value) > most:
            return Rejection(Reason.TOO_LARGE, f"{len(value)} bytes, at most {most} are read")
        try:
            found = self._check_device(self._decode_among_others(value))
        except UNREADABLE:
            return self._reject(value)
        if isinstance(found, Reading):
            self.unknown_fields += 1
        return found

    def decode_all(self, values: Sequence[bytes | None]) -> list[Reading] | None:
        """`decode` of each message, when every one is plainly a reading; None: ask one by one.

        Compares each quantity's least and greatest with the rules, apart from `decode_plain`.
        """
        if not values or not self.are_small(values):
            return None
        try:
            readings = list(map(self._decode_exact, cast(Sequence[bytes], values)))
        except UNREADABLE:
            return None
        seconds = [reading.timestamp for reading in readings]
        columns = map(list, columns_of(readings))
        # JSON has no nan, so least and greatest are those of all.
        is_plain = (
            min(seconds) >= EARLIEST_SECONDS
            and max(seconds) < LATEST_SECONDS
            and all(
                item.least <= min(values) and max(values) <= item.greatest
                for item, values in zip(self.rules.quantities, columns, strict=True)
            )
            and all(map(self.is_device, {reading.device_id for reading in readings}))
        )
        return readings if is_plain else None

    def are_small(self, values: Sequence[bytes | None]) -> bool:
        """Whether all messages have a value, none of them too large: `decode_plain` may try."""
        return None not in values and max(map(len, cast(Sequence[bytes], values)), default=0) <= (
            self.rules.max_value_bytes
        )

    def decode_small(self, value: bytes | None) -> Reading:
        """`decode_plain` where `are_small` is not true of all: raises for those that are not."""
        if value is None or len(value) > self.rules.max_value_bytes:
            raise msgspec.DecodeError
        return self.decode_plain(value)

    def is_device(self, device_id: str) -> bool:
        """Whether a device_id meets its rules; ask once per device and remember the answer."""
        if device_id in self._known:
            return True
        if find_device_id_problem(device_id) is not None:
            return False
        if len(self._known) >= self._MAX_KNOWN:
            self._known.clear()
        self._known.add(device_id)
        return True

    def _check_device(self, found: Reading) -> Reading | Rejection:
        if not self.is_device(found.device_id):
            problem = find_device_id_problem(found.device_id)
            return Rejection(Reason.OUT_OF_RANGE, problem or "")
        return Reading(found.device_id, found.timestamp, *values_of(found))

    def _reject(self, value: bytes) -> Rejection:
        try:
            problem = find_problem(self._decode_loose(value), self.rules)
        except msgspec.ValidationError as exc:
            return Rejection(_reason_of(str(exc)), _with_hint(str(exc), _what_is_sent(value)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return Rejection(Reason.NOT_JSON, _with_hint(str(exc), what_it_is(value)))
        assert problem is not None, "refused with limits, fine without"
        return Rejection(Reason.OUT_OF_RANGE, problem)


def find_problem(reading: Reading, rules: ReadingRules) -> str | None:
    """The first limit that its time or a value breaks, in words; None when all are kept."""
    # Chained comparisons are False for nan, so nan is refused without a test of its own; 0.0 is a
    # reading, so nothing here asks for truth.
    if not _is_time(reading.timestamp):
        return _with_hint(
            f"timestamp {reading.timestamp!r} is not a second between 2000 and 2100",
            time_unit(reading.timestamp, _is_time),
        )
    for quantity, value in zip(rules.quantities, values_of(reading), strict=True):
        if not quantity.least <= value <= quantity.greatest:
            return (
                f"{quantity.name} {value!r} is not within {quantity.least:g} to "
                f"{quantity.greatest:g} {quantity.unit}"
            )
    return None


def _is_time(seconds: float) -> bool:
    return EARLIEST_SECONDS <= seconds < LATEST_SECONDS


def _with_hint(message: str, hint: str) -> str:
    return f"{message}; {hint}" if hint else message


def _what_is_sent(value: bytes) -> str:
    return "one message is one reading: send each by itself" if value.lstrip()[:1] == b"[" else ""


def find_device_id_problem(device_id: str) -> str | None:
    """What is wrong with a device_id, in words; None when nothing is."""
    length = len(device_id.encode())
    if not 1 <= length <= MAX_DEVICE_ID_BYTES:
        return f"device_id has {length} bytes, expected 1 to {MAX_DEVICE_ID_BYTES}"
    if _CONTROL_CHARACTER.search(device_id):
        return "device_id contains a control character"
    return None


def _reason_of(message: str) -> Reason:
    # msgspec has one exception for all of these; its wording is pinned by a test.
    if "missing required field" in message:
        return Reason.MISSING_FIELD
    if "out of range" in message:
        return Reason.OUT_OF_RANGE
    return Reason.WRONG_TYPE
