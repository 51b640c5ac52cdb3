"""What some messages show of their fields: names, types and values, beside the declaration."""

import enum
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from iot_pipeline.core.reading.by_path import PathReader
from iot_pipeline.core.reading.declaration import Path
from iot_pipeline.core.reading.messages import (
    Ignored,
    ReadingRules,
    Reason,
    Record,
    Rejection,
)
from iot_pipeline.core.reading.payloads import declared_line
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.unknown_fields import FieldSeen, UnknownFields

# As `by_path` says where a value stands; the rest of such a message repeats no value.
_AT_PATH = re.compile(r"at `\$[^`]*`|is null$")


class Kind(enum.Enum):
    """What of a field is not as declared: its name, or the type of what stands there."""

    FIELD = "field"
    TYPE = "type"


@dataclass(slots=True)
class MessagesSeen:
    """What `add` found of some messages, but for those that are ignored.

    `unread` counts offsets whose messages Kafka could not give out.
    `types` has what stands where another type is declared, in words; `lines` the line of the
    declaration that would take it in, where there is one. `values` are by quantity and device, as
    they would be stored, whatever their limits.
    """

    rules: ReadingRules
    records: int = 0
    ignored: int = 0
    unread: int = 0
    fields: UnknownFields = field(init=False)
    types: dict[str, FieldSeen] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    arrived_ms: dict[tuple[int, int], int] = field(default_factory=dict)
    parts: Counter[tuple[str, int]] = field(default_factory=Counter)
    _reader: PathReader = field(init=False)

    def __post_init__(self) -> None:
        self.fields = UnknownFields(self.rules.declaration, self.rules.schemas)
        self.values = {
            quantity.name: defaultdict(list)
            for quantity in self.rules.quantities
            if quantity.is_number
        }
        self._reader = PathReader(self.rules)

    def add(self, records: Iterable[Record]) -> None:
        """Look at messages, in the order of their offsets within each partition."""
        for record in records:
            read = self._reader.read_record(record)
            if isinstance(read, Ignored):
                self.ignored += 1
                continue
            self.records += 1
            self.arrived_ms[record.partition, record.offset] = record.produced_ms
            told = self.fields.add(record, self._device_of)
            if isinstance(read, Rejection):
                self._note_type(record, read, "" if told is None else self._device_of(record, told))
            if told is not None:
                self._note_values(record, told)

    def found(self, kind: Kind) -> Mapping[str, FieldSeen]:
        """Undeclared fields or other types, by name."""
        return self.fields.seen if kind is Kind.FIELD else self.types

    def _note_type(self, record: Record, rejection: Rejection, device_id: str) -> None:
        line = declared_line(rejection.message)
        if rejection.reason is not Reason.WRONG_TYPE and not line:
            return
        said = rejection.message.partition(";")[0]
        if not _AT_PATH.search(said):
            # This message has the value in it: the declared path takes its place.
            declared = self.rules.declaration.time
            said = f"{declared} is not in {declared.unit}" if line else str(rejection.reason)
        seen = self.types.setdefault(said, FieldSeen(0, record.partition, record.offset))
        seen.records += 1
        if device_id:
            seen.devices.add(device_id)
        if line:
            self.lines[said] = line

    def _note_values(self, record: Record, told: Mapping[str, Any]) -> None:
        device = self._device_of(record, told)
        if not device:
            return
        self.parts[device, record.partition] += 1
        for quantity in self.rules.quantities:
            value = _number_at(quantity, told)
            if value is not None:
                self.values[quantity.name][device].append(value)

    def _device_of(self, record: Record, told: Mapping[str, Any]) -> str:
        source = self.rules.declaration.device
        for path in source.paths:
            value = _stands_at(told, path)
            if value is not None:
                return value if isinstance(value, str) else ""
        if source.paths:
            return ""
        content = record.message_key
        if source.header:
            headers = reversed(record.headers or [])
            content = next((told for name, told in headers if name == source.header), None)
        return (content or b"").decode(errors="replace")


def _number_at(quantity: Quantity, told: Mapping[str, Any]) -> float | None:
    if not quantity.is_number:
        return None
    for path in quantity.places:
        value = _stands_at(told, path)
        if value is not None:
            is_number = type(value) in (int, float)
            return float(value) * quantity.scale + quantity.shift if is_number else None
    return None


def _stands_at(told: Mapping[str, Any], path: Path) -> Any:
    at: Any = told
    for name in path:
        at = at.get(name) if isinstance(at, Mapping) else None
    return at
