"""A `RollupStore` in memory: readings of a `FakeStore`, rollups settled by write time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from iot_pipeline.core.ingest.micro_batch import day_of
from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.spans import PlainRow
from iot_pipeline.core.rollups.days import DayRecord, DeletedPart, IngestedPart, ReplayedPart
from iot_pipeline.core.rollups.statistics import Rollup
from iot_pipeline.errors import PipelineError
from iot_pipeline_tests.stages.fakes import FakeLedger, FakeStore


@dataclass(slots=True)
class FakeAnswer:
    found: Any = ()
    error: PipelineError | None = None
    looks: int = 0

    @property
    def done(self) -> bool:
        self.looks -= 1
        return self.looks < 0


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
    """`failures` are given out first, one per request, instead of answers.

    `on_page` is called before a page of a device is read: what happens meanwhile happens there.
    """

    store: FakeStore = field(default_factory=FakeStore)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    deletions: list[DeletedPart] = field(default_factory=list)
    failures: list[PipelineError] = field(default_factory=list)
    on_page: Callable[[str], None] = lambda _: None
    looks: int = 0
    hours: FakeTable = field(default_factory=FakeTable)
    days: FakeTable = field(default_factory=FakeTable)
    records: dict[tuple[str, date], DayRecord] = field(default_factory=dict)
    pages: int = 0

    def devices(self, day: date) -> list[str]:
        return sorted(self.store.devices[(day - date(1970, 1, 1)).days])

    def start_readings(
        self, device_id: str, day_number: int, before_ms: int, limit: int
    ) -> FakeAnswer:
        self.pages += 1
        self.on_page(device_id)
        rows: list[PlainRow] = [
            (
                ms,
                *(
                    cells[name][1] if name in cells else None
                    for name in ("temperature", "humidity")
                ),
            )  # type: ignore[misc]
            for (name_, day, ms), cells in self.store.cells.items()
            if (name_, day) == (device_id, day_number) and ms < before_ms
        ]
        return self._answer(sorted(rows, key=lambda row: -row[0])[:limit])

    def send_hours(
        self, device_id: str, day_number: int, hours: Mapping[int, Rollup], write_time_us: int
    ) -> FakeAnswer:
        answer = self._answer()
        if answer.error is None:
            first = day_number * MS_PER_DAY
            self.hours.tombstones.append(
                Tombstone(device_id, first, first + MS_PER_DAY, write_time_us - 1)
            )
            for hour, rollup in hours.items():
                self.hours.write(device_id, hour, rollup, write_time_us)
        return answer

    def send_day(
        self, device_id: str, day_number: int, rollup: Rollup, write_time_us: int
    ) -> FakeAnswer:
        answer = self._answer()
        first = day_number * MS_PER_DAY
        if answer.error is None and rollup.count:
            self.days.write(device_id, first, rollup, write_time_us)
        elif answer.error is None:
            self.days.tombstones.append(Tombstone(device_id, first, first + 1, write_time_us))
        return answer

    def start_hours(self, device_id: str, first_day: int, last_day: int) -> FakeAnswer:
        return self._read(self.hours, device_id, first_day, last_day)

    def start_days(self, device_id: str, first_day: int, last_day: int) -> FakeAnswer:
        return self._read(self.days, device_id, first_day, last_day)

    def _read(self, table: FakeTable, device_id: str, first_day: int, last_day: int) -> FakeAnswer:
        assert day_of(first_day).replace(day=1) == day_of(last_day).replace(day=1)
        found = table.read(device_id, first_day * MS_PER_DAY, (last_day + 1) * MS_PER_DAY)
        return self._answer(found)

    def _answer(self, found: Any = ()) -> FakeAnswer:
        if self.failures:
            return FakeAnswer(error=self.failures.pop(0), looks=self.looks)
        return FakeAnswer(found, looks=self.looks)

    def read_records(self, topic: str) -> dict[date, DayRecord]:
        return {day: record for (name, day), record in self.records.items() if name == topic}

    def record_day(self, topic: str, record: DayRecord) -> None:
        before = self.records.get((topic, record.day))
        if before is None or before.write_time_us < record.write_time_us:
            self.records[topic, record.day] = record

    def ingested_parts(self, topic: str) -> Iterator[IngestedPart]:
        for entry in self.ledger.entries.values():
            if entry.topic == topic:
                yield IngestedPart(
                    OffsetRange(entry.partition, entry.start_offset, entry.end_offset),
                    entry.counts.stored_by_day,
                    entry.counts.first_record_ms,
                )

    def replayed_parts(self, topic: str) -> Sequence[ReplayedPart]:
        return [
            ReplayedPart(
                f"{started_at} {run_id} {ranges} {counts}",
                ranges,
                counts.stored,
                counts.stored_by_day,
            )
            for name, started_at, run_id, ranges, counts in self.ledger.replays
            if name == topic
        ]

    def deleted_parts(self) -> Sequence[DeletedPart]:
        return self.deletions

    def wait(self, timeout_seconds: float) -> None:
        pass
