"""When a device is well: every limit that a decision on devices uses, and no decision.

One owner: checks, report, pictures and `iot devices` all decide by these, and the settings are made
from them.
"""

from dataclasses import dataclass

from iot_pipeline.core.reading.quantities import QUANTITIES, Quantity, limit
from iot_pipeline.core.times import MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What is fine; each is the setting of its name, and docs/data-quality.md says why.

    What is fine of one quantity is in `quantities`.
    """

    quantities: tuple[Quantity, ...] = QUANTITIES
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

    @property
    def late_ms(self) -> float:
        return self.late_seconds * 1000

    @property
    def ahead_ms(self) -> float:
        return self.clock_ahead_seconds * 1000

    @property
    def backfill_ms(self) -> float:
        return self.backfill_hours * MS_PER_HOUR
