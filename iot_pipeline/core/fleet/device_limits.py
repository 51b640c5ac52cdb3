"""Which devices have limits of their own: what the file that IOT_DEVICE_LIMITS names may say.

    limits:
      - devices: [meter_*, boiler_room/*]
        silent_seconds: 7200
        late_share: 0.2

A limit is called as its setting, in lower case without IOT_. Of several entries that name a device
the first holds; what it does not say is as for every device. Does not belong here: hard limits,
outside of which a record is a dead letter, because a reading is judged before its device is known.
"""

import re
import types
from dataclasses import fields, replace
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from iot_pipeline.core.fleet.quality import DeviceLimits, QualityLimits
from iot_pipeline.core.reading.quantities import LIMITS, Quantity, setting_of
from iot_pipeline.core.yaml_lines import find_line, path_and_message, read_yaml
from iot_pipeline.errors import ConfigurationError

# Of the fleet as a whole: for how many days back devices are looked for.
_OF_ALL = {"expected_days"}
_HARD = {"least", "greatest"}
# What msgspec calls things, and what a person does.
_WORDS = {"Expected": "expected", "`array`": "a list", "`str`": "text", "`int`": "a whole number"}
_WORDS |= {"`float`": "a number", "`object`": "keys and values", "`null`": "nothing"}
_SOFT = [name for name in LIMITS if name not in _HARD]


def _bounded(kind: Any, bounds: Any) -> Any:
    return Annotated[kind, Meta(**bounds)] | UnsetType


@cache
def _types_of(names: tuple[str, ...]) -> tuple[type[msgspec.Struct], Any]:
    """What an entry of a file and the file may say, by the names of the quantities."""
    of_devices = [
        (item.name, _bounded(item.type, item.metadata["bounds"]), UNSET)
        for item in fields(QualityLimits)
        if item.metadata and item.name not in _OF_ALL
    ]
    of_quantities = [
        (setting_of(name, limit), _bounded(float, LIMITS[limit]["bounds"]), UNSET)
        for name in names
        for limit in _SOFT
    ]
    patterns = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    entry = msgspec.defstruct(
        "_Entry",
        [("devices", patterns), *of_devices, *of_quantities],
        forbid_unknown_fields=True,
    )
    file = msgspec.defstruct(
        "_File", [("limits", types.GenericAlias(list, (entry,)))], forbid_unknown_fields=True
    )
    return entry, file


def parse_device_limits(text: str, source: str, limits: QualityLimits) -> QualityLimits:
    """The limits, with those that a file gives some devices.

    Args:
        source: the file's name, for messages.
        limits: those of every device.

    Raises:
        ConfigurationError: `source:line: key: what is expected`, for the first thing that is wrong.
    """
    value, node = read_yaml(text, source, "limits of some devices")
    names = tuple(quantity.name for quantity in limits.quantities if quantity.is_number)
    entry_type, file_type = _types_of(names)
    try:
        entries = msgspec.convert(value, file_type).limits
    except msgspec.ValidationError as exc:
        path, message = path_and_message(exc)
        unknown = re.search(r"unknown field `([^`]*)`", message)
        if unknown is not None:
            known = file_type if path == "$" else entry_type
            choices = ", ".join(item.encode_name for item in msgspec.structs.fields(known))
            path, message = f"{path}.{unknown[1]}", f"no such limit; expected one of {choices}"
        for word, plain in _WORDS.items():
            message = message.replace(word, plain)
        line, _ = find_line(node, path)
        where = path.removeprefix("$").lstrip(".") or "the file"
        raise ConfigurationError(f"{source}:{line}: {where}: {message}") from None
    own = []
    for number, entry in enumerate(entries):
        of_entry = _with(entry, limits)
        for quantity in of_entry.quantities:
            if not quantity.plausible_least < quantity.plausible_greatest:
                line, _ = find_line(node, f"$.limits[{number}]")
                low, high = map(quantity.setting_of, ("plausible_least", "plausible_greatest"))
                raise ConfigurationError(
                    f"{source}:{line}: {low} is {quantity.plausible_least:g}; expected less than "
                    f"{high}, {quantity.plausible_greatest:g}"
                )
        own.append(DeviceLimits(tuple(entry.devices), of_entry))
    return replace(limits, own=tuple(own))


def named_limits(limits: QualityLimits) -> dict[str, float]:
    """The limits of one device that a file may set, by their names there."""
    named = {
        item.name: getattr(limits, item.name)
        for item in fields(limits)
        if item.metadata and item.name not in _OF_ALL
    }
    for quantity in limits.quantities:
        if not quantity.is_number:
            continue
        named |= {quantity.setting_of(limit): getattr(quantity, limit) for limit in _SOFT}
    return named


def _with(entry: msgspec.Struct, limits: QualityLimits) -> QualityLimits:
    given = {
        name: value for name, value in msgspec.structs.asdict(entry).items() if value is not UNSET
    }
    own = {item.name: given[item.name] for item in fields(limits) if item.name in given}
    quantities = tuple(_quantity_with(given, quantity) for quantity in limits.quantities)
    return replace(limits, quantities=quantities, **own)


def _quantity_with(given: dict[str, Any], quantity: Quantity) -> Quantity:
    named = {limit: quantity.setting_of(limit) for limit in _SOFT}
    return replace(
        quantity, **{limit: given[name] for limit, name in named.items() if name in given}
    )
