"""Groups of devices that a declaration names, and what may hold for them instead of for all.

    groups:
    - name: halls
      devices: [hall_*, "foyer/?"]
      quantities: {co2: {plausible: [300, 900]}}
      silent_seconds: 7200
      retention_days: 30

Of several groups that name a device the first has it; what that one does not say is as for every
device. Does not belong here: limits outside of which a record is a dead letter, because a message
is judged before its device is known; and what becomes of the limits (`core.fleet.quality`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from iot_pipeline.core.reading.quantities import LIMITS, limit

# Of a quantity, what a group may change: all but what makes a dead letter.
SOFT_LIMITS = tuple(name for name in LIMITS if name not in ("least", "greatest"))
_NUMBER_AT_END = re.compile(r"[\W_]*\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLimits:
    """When a device is well, apart from its values; a group may have others, each by its name."""

    late_seconds: float = limit(
        "a reading is late when it takes longer from event to broker", 60, gt=0
    )
    late_share: float = limit("a device is late when more than this share is", 0.05, ge=0, lt=1)
    backfill_hours: float = limit(
        "what arrives later than this was backfilled, and is not late", 24, gt=0
    )
    clock_ahead_seconds: float = limit(
        "how far a device's clock may be ahead of the broker's", 5, gt=0
    )
    stuck_readings: int = limit("equal readings after which a sensor is stuck", 30, ge=2, le=4_000)
    stuck_seconds: float = limit("and for how long they must be equal", 60, gt=0)
    silent_seconds: float = limit("a device may always be silent this long", 60, gt=0)
    silent_intervals: float = limit(
        "or for this many of its usual intervals, if that is longer", 5, gt=1
    )
    complete_share: float = limit(
        "share of the readings expected that an hour must have", 0.95, gt=0, le=1
    )


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """The devices that one of `patterns` names (`*` and `?` stand for anything), and their limits.

    `limits` are those that it says, by the name of their setting: `silent_seconds`,
    `plausible_co2_min`. `retention_days` is how long rows live after they arrived in Kafka:
    0 for ever, None as those of every device.
    """

    name: str
    patterns: tuple[str, ...]
    limits: tuple[tuple[str, float], ...] = ()
    retention_days: float | None = None

    def has(self, device_id: str) -> bool:
        """Whether a pattern names the device; an earlier group may have it all the same."""
        return is_named(device_id, *self.patterns)


def find_group(groups: Sequence[DeviceGroup], device_id: str) -> DeviceGroup | None:
    """The group that has a device: the first that names it."""
    return next((group for group in groups if group.has(device_id)), None)


def group_of(groups: Sequence[DeviceGroup], device_id: str) -> str:
    """The kind or place of a device: its group's name, else its own without the number at its end.

    `kitchen_12` is of `kitchen`.
    """
    group = find_group(groups, device_id)
    return _without_number(device_id) if group is None else group.name


def is_named(device_id: str, *patterns: str) -> bool:
    """Whether one of the patterns names a device."""
    return _any_of(patterns).match(device_id) is not None


@lru_cache(maxsize=65_536)
def _without_number(device_id: str) -> str:
    return _NUMBER_AT_END.sub("", device_id) or device_id


@lru_cache(maxsize=1_024)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns))
