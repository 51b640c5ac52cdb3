"""The rollups of devices."""

from collections.abc import Mapping
from datetime import date
from typing import Protocol

from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.rollups.statistics import Rollup
from iot_pipeline.stages.ports.answers import Answer, Pending


class RollupStore(Protocol):
    """The rollups of devices, and what the last rebuild of each day recorded."""

    def send_hours(
        self, device_id: str, day_number: int, hours: Mapping[int, Rollup], write_time_us: int
    ) -> Pending:
        """Start replacing the hours of one device's day; those not given are removed."""

    def send_day(
        self, device_id: str, day_number: int, rollup: Rollup, write_time_us: int
    ) -> Pending:
        """Start replacing one device's day; an empty rollup removes it."""

    def start_hours(
        self, device_id: str, first_day: int, last_day: int
    ) -> Answer[Mapping[int, Rollup]]:
        """Start reading hours of days of one month, both inclusive, by their first millisecond."""

    def start_days(
        self, device_id: str, first_day: int, last_day: int
    ) -> Answer[Mapping[int, Rollup]]:
        """Start reading days of one month, both inclusive, by their first millisecond."""

    def read_records(self, topic: str) -> Mapping[date, DayRecord]: ...

    def record_day(self, topic: str, record: DayRecord) -> None:
        """Keep what a rebuild saw and did, with the write time of its rollups."""

    def wait(self, timeout_seconds: float) -> None: ...
