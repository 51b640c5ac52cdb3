"""When a device is well: every limit that a decision on devices uses, and no decision.

One owner: checks, report, pictures and `iot devices` all decide by these, and the settings are made
from them. A file may give some devices limits of their own (`core.fleet.device_limits`).
"""

import re
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from iot_pipeline.core.reading.quantities import Quantity, limit
from iot_pipeline.core.times import MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What is fine; each is the setting of its name, and docs/data-quality.md says why.

    What is fine of one quantity is in `quantities`. `own` are the devices for which other limits
    hold: ask `of` for those of one device.
    """

    quantities: tuple[Quantity, ...]
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
    expected_days: int = limit(
        "a device that was silent for this many days is not expected any more", 7, ge=1, le=90
    )
    complete_share: float = limit(
        "share of the readings expected that an hour must have", 0.95, gt=0, le=1
    )

    own: "tuple[DeviceLimits, ...]" = ()

    def of(self, device_id: str) -> "QualityLimits":
        """The limits that hold for a device: of the first entry that names it, else these."""
        for entry in self.own:
            if entry.names(device_id):
                return entry.limits
        return self

    @property
    def and_own(self) -> str:
        """What a sentence adds that told one of these limits."""
        return " Some devices have limits of their own (`IOT_DEVICE_LIMITS`)." if self.own else ""

    @property
    def late_ms(self) -> float:
        return self.late_seconds * 1000

    @property
    def ahead_ms(self) -> float:
        return self.clock_ahead_seconds * 1000

    @property
    def backfill_ms(self) -> float:
        return self.backfill_hours * MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """The limits of the devices that one of `patterns` names: `*` and `?` stand for anything."""

    patterns: tuple[str, ...]
    limits: QualityLimits

    def names(self, device_id: str) -> bool:
        return is_named(device_id, *self.patterns)


def is_named(device_id: str, *patterns: str) -> bool:
    """Whether one of the patterns names a device."""
    return _any_of(patterns).match(device_id) is not None


@lru_cache(maxsize=1_024)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns))
