"""When a device is well: every limit that a decision on devices uses, and no decision.

One owner: checks, report, pictures and `iot devices` all decide by these, and the settings are made
from them. Groups of the declaration may have limits of their own (`core.reading.groups`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from iot_pipeline.core.reading.groups import (
    SOFT_LIMITS,
    DeviceGroup,
    DeviceLimits,
    find_group,
    group_of,
)
from iot_pipeline.core.reading.quantities import Quantity, limit
from iot_pipeline.core.times import MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class QualityLimits(DeviceLimits):
    """What is fine; each is the setting of its name, and docs/data-quality.md says why.

    What is fine of one quantity is in `quantities`. In `groups` other limits may hold: `by_group`,
    in their order, or empty where no group has any. Ask `of` for those of one device.
    """

    quantities: tuple[Quantity, ...]
    expected_days: int = limit(
        "a device that was silent for this many days is not expected any more", 7, ge=1, le=90
    )

    groups: tuple[DeviceGroup, ...] = ()
    by_group: "tuple[QualityLimits, ...]" = ()

    def with_groups(self, groups: Sequence[DeviceGroup]) -> "QualityLimits":
        """The same, and what the groups say; what a group does not say is as here."""
        has_own = any(group.limits for group in groups)
        by_group = tuple(_with(self, dict(group.limits)) for group in groups if has_own)
        return replace(self, groups=tuple(groups), by_group=by_group)

    def of(self, device_id: str) -> "QualityLimits":
        """The limits that hold for a device: those of its group, else these."""
        for group, limits in zip(self.groups, self.by_group, strict=False):
            if group.has(device_id):
                return limits
        return self

    def group_of(self, device_id: str) -> str:
        """The kind or place of a device: its declared group, or what its name tells."""
        return group_of(self.groups, device_id)

    def group_with_other(self, names: Sequence[str], device_id: str) -> str:
        """The group that has the device and another one of these limits, or nothing.

        Args:
            names: of limits, as of a `Quantity` (of each quantity) and of `DeviceLimits`.
        """
        group = find_group(self.groups, device_id) if self.by_group else None
        if group is None:
            return ""
        own = self.by_group[self.groups.index(group)]
        return group.name if _those(own, names) != _those(self, names) else ""

    @property
    def and_own(self) -> str:
        """What a sentence adds that told one of these limits."""
        said = " Groups of devices have limits of their own (`iot reading show`)."
        return said if self.by_group else ""

    @property
    def late_ms(self) -> float:
        return self.late_seconds * 1000

    @property
    def ahead_ms(self) -> float:
        return self.clock_ahead_seconds * 1000

    @property
    def backfill_ms(self) -> float:
        return self.backfill_hours * MS_PER_HOUR


def named_limits(limits: QualityLimits) -> dict[str, float]:
    """The limits that a group may have, by the names of their settings."""
    named = {item.name: getattr(limits, item.name) for item in fields(DeviceLimits)}
    for quantity in limits.quantities:
        if quantity.is_number:
            named |= {quantity.setting_of(name): getattr(quantity, name) for name in SOFT_LIMITS}
    return named


def _with(limits: QualityLimits, given: dict[str, float]) -> QualityLimits:
    own: dict[str, Any] = {
        item.name: given[item.name] for item in fields(DeviceLimits) if item.name in given
    }
    quantities = tuple(_quantity_with(given, quantity) for quantity in limits.quantities)
    return replace(limits, quantities=quantities, **own)


def _quantity_with(given: dict[str, float], quantity: Quantity) -> Quantity:
    named = {name: quantity.setting_of(name) for name in SOFT_LIMITS}
    own: dict[str, Any] = {name: given[key] for name, key in named.items() if key in given}
    return replace(quantity, **own)


def _those(limits: QualityLimits, names: Sequence[str]) -> list[float]:
    of_device = [getattr(limits, name) for name in names if name not in SOFT_LIMITS]
    of_quantities = [name for name in names if name in SOFT_LIMITS]
    return of_device + [getattr(q, name) for q in limits.quantities for name in of_quantities]
