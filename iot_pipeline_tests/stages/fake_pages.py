"""`ReadingPages` and `SlotCounts` over a dict of rows, with a memory of what was asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline.core.reading.spans import UNIX_EPOCH, PlainRow
from iot_pipeline.errors import PipelineError


@dataclass(slots=True)
class FakeAnswer:
    found: Sequence[Any]
    error: PipelineError | None = None
    done: bool = True


@dataclass(slots=True)
class FakePages:
    """`failures` are the answers to the next questions; `asked` counts pages."""

    rows: dict[tuple[str, int], PlainRow] = field(default_factory=dict)
    failures: list[PipelineError] = field(default_factory=list)
    asked: int = 0
    slots_asked: list[tuple[str, int]] = field(default_factory=list)

    def add(self, device_id: str, times_ms: Sequence[int], temperature: float = 20.0) -> None:
        for ms in times_ms:
            self.rows[device_id, ms] = (ms, temperature, 40.0)

    def days(self) -> list[date]:
        numbers = {ms // MS_PER_DAY for _, ms in self.rows}
        return [date.fromordinal(UNIX_EPOCH.toordinal() + n) for n in sorted(numbers)]

    def devices(self, day: date) -> list[str]:
        number = (day - UNIX_EPOCH).days
        return sorted({name for name, ms in self.rows if ms // MS_PER_DAY == number})

    def start_page(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, limit: int
    ) -> FakeAnswer:
        self.asked += 1
        return self._answer(self._chosen(device_id, day_number, first_ms, last_ms)[:limit])

    def start_slots(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, slot_ms: int
    ) -> FakeAnswer:
        self.slots_asked.append((device_id, first_ms))
        slots: dict[int, list[PlainRow]] = {}
        for row in self._chosen(device_id, day_number, first_ms, last_ms):
            slots.setdefault(row[0] // slot_ms * slot_ms, []).append(row)
        return self._answer(
            [
                (start, sum(row[1] or 0 for row in rows) / len(rows))
                for start, rows in sorted(slots.items())
            ]
        )

    def wait(self, timeout_seconds: float) -> None:
        pass

    def _chosen(self, name: str, day_number: int, first_ms: int, last_ms: int) -> list[PlainRow]:
        return [
            row
            for (device_id, ms), row in sorted(self.rows.items())
            if device_id == name and first_ms <= ms <= last_ms and ms // MS_PER_DAY == day_number
        ]

    def _answer(self, found: Sequence[Any]) -> FakeAnswer:
        if self.failures:
            return FakeAnswer([], self.failures.pop(0))
        return FakeAnswer(found)
