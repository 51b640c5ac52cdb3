"""A `RollupStore` in memory: rollups settled by write time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.rollups.statistics import Rollup
from iot_pipeline.core.times import MS_PER_DAY, day_of
from iot_pipeline.errors import PipelineError
from iot_pipeline_tests.stages.fakes import FakeAnswer, answer

Rollups = FakeAnswer[dict[int, Rollup]]


@dataclass(slots=True)
class Tombstone:
    """A deletion of [first_ms, end_ms) of one device, with its write time."""

    device_id: str
    first_ms: int
    end_ms: int
    write_time_us: int


@dataclass(slots=True)
class FakeTable:
    """Rollups by device and time; the higher write time wins, a tombstone ties in its favour."""

    rows: dict[tuple[str, int], tuple[int, Rollup]] = field(default_factory=dict)
    tombstones: list[Tombstone] = field(default_factory=list)

    def write(self, device_id: str, at_ms: int, rollup: Rollup, write_time_us: int) -> None:
        place = (device_id, at_ms)
        if place not in self.rows or self.rows[place][0] < write_time_us:
            self.rows[place] = (write_time_us, rollup)

    def read(self, device_id: str, first_ms: int, end_ms: int) -> dict[int, Rollup]:
        return {
            at: rollup
            for (name, at), (written, rollup) in self.rows.items()
            if name == device_id
            and first_ms <= at < end_ms
            and not any(
                t.device_id == name and t.first_ms <= at < t.end_ms and t.write_time_us >= written
                for t in self.tombstones
            )
        }


@dataclass(slots=True)
class FakeRollupStore:
    """A `RollupStore`; `failures` are given out first, one per request, instead of answers."""

    failures: list[PipelineError] = field(default_factory=list)
    looks: int = 0
    hours: FakeTable = field(default_factory=FakeTable)
    days: FakeTable = field(default_factory=FakeTable)
    records: dict[tuple[str, date], DayRecord] = field(default_factory=dict)

    def send_hours(
        self, device_id: str, day_number: int, hours: Mapping[int, Rollup], write_time_us: int
    ) -> Rollups:
        sent = self._answer()
        if sent.error is None:
            first = day_number * MS_PER_DAY
            self.hours.tombstones.append(
                Tombstone(device_id, first, first + MS_PER_DAY, write_time_us - 1)
            )
            for hour, rollup in hours.items():
                self.hours.write(device_id, hour, rollup, write_time_us)
        return sent

    def send_day(
        self, device_id: str, day_number: int, rollup: Rollup, write_time_us: int
    ) -> Rollups:
        sent = self._answer()
        first = day_number * MS_PER_DAY
        if sent.error is None and rollup.count:
            self.days.write(device_id, first, rollup, write_time_us)
        elif sent.error is None:
            self.days.tombstones.append(Tombstone(device_id, first, first + 1, write_time_us))
        return sent

    def start_hours(self, device_id: str, first_day: int, last_day: int) -> Rollups:
        return self._read(self.hours, device_id, first_day, last_day)

    def start_days(self, device_id: str, first_day: int, last_day: int) -> Rollups:
        return self._read(self.days, device_id, first_day, last_day)

    def _read(self, table: FakeTable, device_id: str, first_day: int, last_day: int) -> Rollups:
        assert day_of(first_day).replace(day=1) == day_of(last_day).replace(day=1)
        found = table.read(device_id, first_day * MS_PER_DAY, (last_day + 1) * MS_PER_DAY)
        return self._answer(found)

    def _answer(self, found: dict[int, Rollup] | None = None) -> Rollups:
        error = self.failures.pop(0) if self.failures else None
        return answer(found or {}, error, self.looks)

    def read_records(self, topic: str) -> dict[date, DayRecord]:
        return {day: record for (name, day), record in self.records.items() if name == topic}

    def record_day(self, topic: str, record: DayRecord) -> None:
        before = self.records.get((topic, record.day))
        if before is None or before.write_time_us < record.write_time_us:
            self.records[topic, record.day] = record

    def wait(self, timeout_seconds: float) -> None:
        pass
