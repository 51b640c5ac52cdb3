"""When a device is well: every limit that a decision on devices uses, and no decision.

One owner: checks, report, pictures and `iot devices` all decide by these.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What is fine; each is the setting of its name, and docs/data-quality.md says why."""

    temperature_low: float = -40.0
    temperature_high: float = 50.0
    humidity_low: float = 1.0
    humidity_high: float = 100.0
    jump_celsius: float = 5.0
    jump_celsius_per_minute: float = 1.0
    jump_humidity: float = 15.0
    jump_humidity_per_minute: float = 4.0
    deviation_celsius: float = 12.0
    deviation_humidity: float = 35.0
    late_seconds: float = 60.0
    late_share: float = 0.05
    backfill_hours: float = 24.0
    clock_ahead_seconds: float = 5.0
    stuck_readings: int = 30
    stuck_seconds: float = 60.0
    silent_seconds: float = 60.0
    silent_intervals: float = 5.0
    expected_days: int = 7
    complete_share: float = 0.95

    @property
    def late_ms(self) -> float:
        return self.late_seconds * 1000

    @property
    def ahead_ms(self) -> float:
        return self.clock_ahead_seconds * 1000

    @property
    def backfill_ms(self) -> float:
        return self.backfill_hours * 3_600_000
