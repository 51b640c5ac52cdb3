"""The key `groups` of a declaration: what it may say, and the groups that it makes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from iot_pipeline.core.reading.groups import DeviceGroup, DeviceLimits
from iot_pipeline.core.reading.quantities import RANGES, QuantityType, setting_of

_Text = Annotated[str, Meta(min_length=1)]


def _bounded(kind: Any, bounds: Mapping[str, Any], **about: Any) -> Any:
    return Annotated[kind, Meta(**bounds, **about)] | UnsetType


class GroupJump(msgspec.Struct, forbid_unknown_fields=True):
    at_once: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    per_minute: Annotated[float, Meta(ge=0)] | UnsetType = UNSET


class GroupQuantity(msgspec.Struct, forbid_unknown_fields=True):
    plausible: Annotated[list[float], Meta(min_length=2, max_length=2)] | UnsetType = UNSET
    jump: GroupJump | UnsetType = UNSET
    apart: Annotated[float, Meta(gt=0)] | UnsetType = UNSET


_LIMITS = [
    (item.name, _bounded(item.type, item.metadata["bounds"], description=item.metadata["meaning"]))
    for item in fields(DeviceLimits)
]
Group: Any = msgspec.defstruct(
    "Group",
    [
        ("name", _Text),
        (
            "devices",
            Annotated[
                _Text | Annotated[list[_Text], Meta(min_length=1)],
                Meta(description="* and ? stand for anything"),
            ],
        ),
        ("quantities", dict[str, GroupQuantity], msgspec.field(default_factory=dict)),
        *((name, kind, UNSET) for name, kind in _LIMITS),
        (
            "retention_days",
            _bounded(float, {"ge": 0, "le": 7300}, description="of the rows; 0: for ever"),
            UNSET,
        ),
    ],
    forbid_unknown_fields=True,
)


def made_groups(said: Sequence[Any]) -> tuple[DeviceGroup, ...]:
    """The groups of a file without problems, in its order."""
    return tuple(
        DeviceGroup(
            group.name,
            (group.devices,) if isinstance(group.devices, str) else tuple(group.devices),
            tuple(_limits_of(group)),
            None if group.retention_days is UNSET else group.retention_days,
        )
        for group in said
    )


def _limits_of(group: Any) -> Iterator[tuple[str, float]]:
    for name, _ in _LIMITS:
        if (value := getattr(group, name)) is not UNSET:
            yield name, value
    for name, said in group.quantities.items():
        jump = GroupJump() if said.jump is UNSET else said.jump
        ends = (UNSET, UNSET) if said.plausible is UNSET else said.plausible
        for limit, value in (
            ("plausible_least", ends[0]),
            ("plausible_greatest", ends[1]),
            ("jump", jump.at_once),
            ("jump_per_minute", jump.per_minute),
            ("apart", said.apart),
        ):
            if value is not UNSET:
                yield setting_of(name, limit), value


def group_problems(
    said: Sequence[Any], types: Mapping[str, QuantityType]
) -> Iterator[tuple[str, str]]:
    """(Path in the file, what is expected) of what does not fit; `types` by quantity."""
    names: set[str] = set()
    for number, group in enumerate(said):
        path = f"$.groups[{number}]"
        if group.name in names:
            yield f"{path}.name", f"{group.name} is a group already; expected another name"
        names.add(group.name)
        for name, limits in group.quantities.items():
            at = f"{path}.quantities.{name}"
            if name not in types:
                yield at, f"there is no such quantity; expected {', '.join(types)}"
            elif types[name] not in RANGES:
                yield at, f"a {types[name]} has no limits: they are for numbers"
            elif limits.plausible is not UNSET and not limits.plausible[0] < limits.plausible[1]:
                yield f"{at}.plausible", "expected two numbers, the lower one first"
