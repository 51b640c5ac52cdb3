"""What a message of the topic is: where it has its device, its time and its quantities.

A team writes it as YAML, which `declaration_file` reads; SEED is the original contract, and holds
where nothing is declared. Does not belong here: how a message is read by it (`decoding`, and for
the audit `by_path`).
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal

from iot_pipeline.core.reading.formats import JSON, Format
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.quantities import QUANTITIES, Quantity

# The names on the way to a value, from the message on: ("values", "temp_c").
Path = tuple[str, ...]
TimeUnit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds", "iso8601"]
# What of a quantity decides what a message becomes.
_PARTS = ("name", "type", "unit", "optional")
_NUMBERS = ("least", "greatest", "scale", "shift")


def path_text(path: Path) -> str:
    """A path as a person writes it in a declaration."""
    if any(not name or set(name) & set(".[],'\"") for name in path):
        return json.dumps(list(path), ensure_ascii=False)
    return ".".join(path)


@dataclass(frozen=True, slots=True)
class DeviceSource:
    """Where the device_id is: at the first path that leads to something, or in the record.

    Without paths it is the header of that name; without a header, too, the message key.
    """

    paths: tuple[Path, ...] = ()
    header: str = ""

    @property
    def is_key(self) -> bool:
        """Whether it is the record's message key."""
        return not self.paths and not self.header

    def __str__(self) -> str:
        if self.paths:
            return " or ".join(map(path_text, self.paths))
        return f"the header {self.header}" if self.header else "the message key"


@dataclass(frozen=True, slots=True)
class TimeSource:
    """Where the time is, and what its number or text means; without paths it is Kafka's."""

    paths: tuple[Path, ...] = ()
    unit: TimeUnit = "seconds"

    def __str__(self) -> str:
        return " or ".join(map(path_text, self.paths)) or "Kafka's timestamp"


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """Messages that are known and no readings: a path leads to something, or to one of `equals`."""

    path: Path
    equals: tuple[str | int | bool, ...] = ()

    def __str__(self) -> str:
        if not self.equals:
            return f"{path_text(self.path)} is there"
        return f"{path_text(self.path)} is {' or '.join(map(json.dumps, self.equals))}"


@dataclass(frozen=True, slots=True)
class Declaration:
    """How each message of a topic is read.

    `counts_unknown`: whether messages with fields that are not declared are counted; they are read
    all the same. `groups` of devices have limits, or a retention, of their own: the first that
    names a device has it.
    """

    device: DeviceSource
    time: TimeSource
    quantities: tuple[Quantity, ...]
    ignore: tuple[IgnoreRule, ...] = ()
    counts_unknown: bool = False
    format: Format = JSON
    groups: tuple[DeviceGroup, ...] = ()

    def with_quantities(self, quantities: tuple[Quantity, ...]) -> "Declaration":
        """The same with other limits."""
        return replace(self, quantities=quantities)

    def canonical(self) -> str:
        """All that decides what a message becomes, in one form; without what only checks ask."""
        told: dict[str, object] = {
            "version": 1,
            "format": self.format.name,
            "device": {"paths": self.device.paths, "header": self.device.header},
            "time": {"paths": self.time.paths, "unit": self.time.unit},
            "ignore": [{"path": rule.path, "equals": rule.equals} for rule in self.ignore],
            "quantities": [
                {"paths": quantity.places}
                | {name: getattr(quantity, name) for name in _PARTS}
                | {name: float(getattr(quantity, name)) for name in _NUMBERS}
                for quantity in self.quantities
            ],
        }
        if (schema := self.format.schema) is not None:
            texts = b"\0".join((*schema.references, schema.text, schema.message.encode()))
            told["schema"] = hashlib.sha256(texts).hexdigest()
        return json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @property
    def fingerprint(self) -> str:
        """Equal ones read every message alike; 16 hexadecimal digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


SEED = Declaration(
    DeviceSource((("device_id",),)),
    TimeSource((("timestamp",),)),
    QUANTITIES,
    counts_unknown=True,
)
