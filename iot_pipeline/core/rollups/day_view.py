"""A rebuilt day at a glance: the whole fleet by the hour, from the rollups that were just made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.rollups.statistics import Rollup, merge
from iot_pipeline.core.times import HOURS_PER_DAY, MS_PER_DAY, MS_PER_HOUR

# What a picture of days shows, the newest at the right.
DAYS_SHOWN = 60


@dataclass(slots=True)
class DayView:
    """The fleet by the hour of one UTC day; as small for a hundred thousand devices as for one.

    `hours` has 24 rollups over all devices, the first hour first; `reporting` how many devices
    had a reading in each.
    """

    day: date
    hours: list[Rollup] = field(default_factory=lambda: [Rollup()] * HOURS_PER_DAY)
    reporting: list[int] = field(default_factory=lambda: [0] * HOURS_PER_DAY)

    def add(self, hours: Mapping[int, Rollup]) -> None:
        """Take in one device's hours, by their first millisecond."""
        for first_ms, rollup in hours.items():
            if not rollup.count:
                continue
            number = first_ms % MS_PER_DAY // MS_PER_HOUR
            self.hours[number] = merge(self.hours[number], rollup)
            self.reporting[number] += 1

    @property
    def readings(self) -> int:
        return sum(rollup.count for rollup in self.hours)


@dataclass(frozen=True, slots=True)
class DayTotal:
    """One day as its last rebuild counted it."""

    day: date
    readings: int = 0
    devices: int = 0


def recent_days(records: Iterable[DayRecord], most: int = DAYS_SHOWN) -> Sequence[DayTotal]:
    """The last days up to the newest that was rolled up, oldest first; days without a record too.

    At most `most`, and none before the first record.
    """
    by_day = {record.day: record for record in records}
    if not by_day:
        return []
    last = max(by_day)
    first = max(min(by_day), last - timedelta(days=most - 1))
    return [
        DayTotal(day, by_day[day].readings, by_day[day].devices) if day in by_day else DayTotal(day)
        for day in (first + timedelta(days=number) for number in range((last - first).days + 1))
    ]
