"""A table of readings in memory that answers what a look at the devices asks; and time-lapse."""

import math
import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.rollups.days import DeletedPart
from iot_pipeline.core.times import MS_PER_DAY, Window, day_number, day_of
from iot_pipeline.stages.checks.machinery.registry import checks_of
from iot_pipeline.stages.fleet.keeper import FleetKeeper
from iot_pipeline.stages.fleet.rows import FleetPorts
from iot_pipeline_tests.stages.fake_rows import FakeSensorData, StoredRows
from iot_pipeline_tests.stages.fakes import FakeAnswer, answer
from iot_pipeline_tests.stages.fakes_fleet import FakeDeviceStates

# (device_id, measured_ms, arrived_ms, temperature, humidity)
Sent = tuple[str, int, int, float, float]
# Monday 2026-03-02 00:00 UTC.
START_MS = 1_772_409_600_000
MINUTE = 60_000
HOUR = 60 * MINUTE


class TimeLapse(FakeSensorData):
    """What was sent, looked at as of any moment: rows that arrived later are not there yet.

    `questions` counts what was asked.
    """

    def __init__(self, sent: Iterable[Sent]) -> None:
        super().__init__()
        self._rows: defaultdict[tuple[str, int], dict[int, Sent]] = defaultdict(dict)
        for row in sorted(sent, key=lambda row: row[2]):
            # The later arrival wins the key.
            self._rows[row[0], row[1] // MS_PER_DAY][row[1]] = row
        self._times = {place: sorted(rows) for place, rows in self._rows.items()}
        self.as_of_ms = 1 << 62
        self.deletions: list[Deletion] = []

    # A `DeviceDays`.

    def days(self) -> list[date]:
        return [day_of(number) for number in sorted({day for _, day in self._rows})]

    def devices(self, day: date) -> list[str]:
        number = day_number(day)
        names = [name for name, of in sorted(self._rows) if of == number]
        return [name for name in names if self._between(name, number, 0, 1 << 62)]

    def walk(self, day: date, since: str = "") -> Iterator[str]:
        return iter([name for name in self.devices(day) if name >= since])

    def count(self, day: date) -> int:
        return len(self.devices(day))

    def days_of(self, device_id: str, window: Window | None = None) -> Iterator[date]:
        days = [day for day in self.days() if device_id in self.devices(day)]
        yield from window.days_within(days) if window else reversed(days)

    # As Cassandra would answer.

    @property
    def questions(self) -> int:
        return self.asked.total()

    def all_places(self) -> Iterator[Place]:
        yield from self._rows

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        place = (deletion.device_id, day_number)
        for ms in [ms for ms in self._times[place] if deletion.since_ms <= ms < deletion.until_ms]:
            self._times[place].remove(ms)
            del self._rows[place][ms]

    def _between(self, device_id: str, day_number: int, first_ms: int, last_ms: int) -> StoredRows:
        times = self._times.get((device_id, day_number), [])
        rows = self._rows.get((device_id, day_number), {})
        chosen = times[bisect_left(times, first_ms) : bisect_right(times, last_ms)]
        return [
            (ms, (*rows[ms][3:], rows[ms][2] * 1000, rows[ms][2] * 1000))
            for ms in chosen
            if rows[ms][2] <= self.as_of_ms
        ]

    # A `DeletionLog`.

    def deleted_parts(self) -> list[DeletedPart]:
        return []

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: Mapping[date, int]
    ) -> None:
        self.deletions.append(deletion)

    def read_deletions(self) -> list[Deletion]:
        return self.deletions

    def start_deletions(self) -> FakeAnswer[list[Deletion]]:
        return answer(self.deletions)

    def look(
        self,
        at_ms: int,
        limits: QualityLimits = QualityLimits(QUANTITIES),  # noqa: B008
        *,
        lag_seconds: float = 0.0,
        budget_seconds: float = 60.0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> dict[str, CheckVerdict]:
        """The six verdicts at that moment, by the rows alone: nothing was kept."""
        self.as_of_ms = at_ms
        ports = FleetPorts(FakeDeviceStates(), self, self, self)
        now = datetime.fromtimestamp(at_ms / 1000, UTC)
        keeper = FleetKeeper(ports, limits, is_alone=True, clock=clock)
        verdicts = judge_fleet(keeper.look(now, lag_seconds, budget_seconds))
        return {verdict.name: verdict for verdict in verdicts}


@dataclass(slots=True)
class Lapse:
    """A small fleet that measures a daily curve; `change` bends what a reading says or when.

    `change(device, reading)` gives what is sent instead: none, one or more readings.
    """

    devices: int = 8
    hours: float = 3.0
    interval_ms: int = 10_000
    seed: int = 1
    start_ms: int = START_MS
    prefix: str = "room"
    change: Callable[[str, Sent], list[Sent]] = lambda _, reading: [reading]
    made: list[Sent] = field(default_factory=list)

    def table(self) -> TimeLapse:
        return TimeLapse(self.sent())

    @property
    def end_ms(self) -> int:
        return self.start_ms + int(self.hours * HOUR)

    def sent(self) -> list[Sent]:
        draw = random.Random(f"{self.seed}")
        sent: list[Sent] = []
        for number in range(self.devices):
            name = f"{self.prefix}_{number}"
            bias, phase = draw.uniform(-2, 2), draw.uniform(0, 2)
            for step in range(int(self.hours * HOUR / self.interval_ms)):
                jitter = draw.uniform(-0.3, 0.3) * self.interval_ms
                at = int(self.start_ms + (step + 0.5) * self.interval_ms + jitter)
                swing = 4 * math.cos(2 * math.pi * (at / 86_400_000 - phase / 24))
                warm = round(21 + bias + swing + draw.uniform(-0.1, 0.1), 2)
                damp = round(45 - 2 * swing + draw.uniform(-0.3, 0.3), 2)
                arrived = at + int(draw.uniform(20, 900))
                sent += self.change(name, (name, at, arrived, warm, damp))
        return sent


def judge_fleet(fleet: Fleet) -> list[CheckVerdict]:
    """What the checks on devices say of a fleet, in their order."""
    facts: Any = SimpleNamespace(fleet=fleet)
    return [
        check.named(verdict)
        for check in checks_of()
        if 110 <= check.order <= 160 and (verdict := check.look(facts)) is not None
    ]


def red(verdicts: dict[str, CheckVerdict]) -> dict[str, set[str]]:
    """Checks that have not passed, and the devices they name."""
    return {
        name: {row[0] for row in verdict.worst.rows}
        for name, verdict in verdicts.items()
        if not verdict.passed
    }
