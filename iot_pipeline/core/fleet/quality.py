"""When a device is well: every limit that a decision on devices uses, and no decision.

One owner: checks, report, pictures and `iot devices` all decide by these, and the settings are made
from them.
"""

from dataclasses import dataclass, field

from iot_pipeline.core.reading.quantities import QUANTITIES, Quantity, as_setting


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What is fine; each is the setting of its name, and docs/data-quality.md says why.

    What is fine of one quantity is in `quantities`.
    """

    quantities: tuple[Quantity, ...] = QUANTITIES
    late_seconds: float = field(
        default=60,
        metadata=as_setting("a reading is late when it takes longer from event to broker", gt=0),
    )
    late_share: float = field(
        default=0.05,
        metadata=as_setting("a device is late when more than this share is", ge=0, lt=1),
    )
    backfill_hours: float = field(
        default=24,
        metadata=as_setting("what arrives later than this was backfilled, and is not late", gt=0),
    )
    clock_ahead_seconds: float = field(
        default=5,
        metadata=as_setting("how far a device's clock may be ahead of the broker's", gt=0),
    )
    stuck_readings: int = field(
        default=30,
        metadata=as_setting("equal readings after which a sensor is stuck", ge=2, le=4_000),
    )
    stuck_seconds: float = field(
        default=60, metadata=as_setting("and for how long they must be equal", gt=0)
    )
    silent_seconds: float = field(
        default=60, metadata=as_setting("a device may always be silent this long", gt=0)
    )
    silent_intervals: float = field(
        default=5,
        metadata=as_setting("or for so many of its usual intervals, if that is longer", gt=1),
    )
    expected_days: int = field(
        default=7,
        metadata=as_setting(
            "a device that was silent for so long is not expected any more", ge=1, le=90
        ),
    )
    complete_share: float = field(
        default=0.95,
        metadata=as_setting("share of the readings expected that an hour must have", gt=0, le=1),
    )

    @property
    def late_ms(self) -> float:
        return self.late_seconds * 1000

    @property
    def ahead_ms(self) -> float:
        return self.clock_ahead_seconds * 1000

    @property
    def backfill_ms(self) -> float:
        return self.backfill_hours * 3_600_000

    # Until the fleet asks `quantities` itself.
    @property
    def temperature_low(self) -> float:
        return self.quantities[0].plausible_least

    @property
    def temperature_high(self) -> float:
        return self.quantities[0].plausible_greatest

    @property
    def humidity_low(self) -> float:
        return self.quantities[1].plausible_least

    @property
    def humidity_high(self) -> float:
        return self.quantities[1].plausible_greatest

    @property
    def jump_celsius(self) -> float:
        return self.quantities[0].jump

    @property
    def jump_celsius_per_minute(self) -> float:
        return self.quantities[0].jump_per_minute

    @property
    def jump_humidity(self) -> float:
        return self.quantities[1].jump

    @property
    def jump_humidity_per_minute(self) -> float:
        return self.quantities[1].jump_per_minute

    @property
    def deviation_celsius(self) -> float:
        return self.quantities[0].apart

    @property
    def deviation_humidity(self) -> float:
        return self.quantities[1].apart
