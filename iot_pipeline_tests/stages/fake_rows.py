"""A `RowReader` over the cells of a `FakeStore`, and one that fails on call k."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.errors import CassandraUnavailableError, PipelineError
from iot_pipeline_tests.stages.fakes import FakePending, FakeStore, Faults


@dataclass(slots=True)
class FakeFoundRows:
    found: list[tuple[int, StoredRow]]
    error: PipelineError | None = None
    done: bool = True
    answered_at: float = field(default_factory=time.time)
    on_done: Callable[[], None] = lambda: None


@dataclass(slots=True)
class FakeSums:
    found: tuple[int, int, int]
    error: PipelineError | None = None
    done: bool = True
    on_done: Callable[[], None] = lambda: None


@dataclass(slots=True)
class FakeRowReader:
    store: FakeStore
    failures: list[PipelineError] = field(default_factory=list)
    ranges: int = 0
    times: int = 0

    def start_range(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, limit: int
    ) -> FakeFoundRows:
        self.ranges += 1
        chosen = [ms for ms in self._of(device_id, day_number) if first_ms <= ms <= last_ms]
        return self._answer(device_id, day_number, sorted(chosen, reverse=True)[:limit])

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> FakeFoundRows:
        self.times += 1
        chosen = set(times_ms) & set(self._of(device_id, day_number))
        return self._answer(device_id, day_number, sorted(chosen, reverse=True))

    def start_sums(self, device_id: str, day_number: int) -> FakeSums:
        if self.failures:
            return FakeSums((0, 0, 0), self.failures.pop(0))
        times = self._of(device_id, day_number)
        rows = [row for _, row in self._answer(device_id, day_number, times).found]
        first, second = (sum(row[at] or 0 for row in rows) % 2**64 for at in (2, 3))
        return FakeSums((len(rows), first, second))

    def wait(self, timeout_seconds: float) -> None:
        pass

    def _of(self, device_id: str, day_number: int) -> list[int]:
        return [ms for name, day, ms in self.store.cells if (name, day) == (device_id, day_number)]

    def _answer(self, device_id: str, day_number: int, times: list[int]) -> FakeFoundRows:
        if self.failures:
            return FakeFoundRows([], self.failures.pop(0))
        found = []
        for ms in times:
            cells = self.store.cells[device_id, day_number, ms]
            temperature = cells.get("temperature", (None, None))
            humidity = cells.get("humidity", (None, None))
            found.append((ms, (temperature[1], humidity[1], temperature[0], humidity[0])))
        return FakeFoundRows(found)


@dataclass(slots=True)
class FailingRowReader:
    inner: FakeRowReader
    faults: Faults

    def start_range(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, limit: int
    ) -> FakeFoundRows | FakePending:
        return self.faults.send(
            "rows.start_range",
            lambda: self.inner.start_range(device_id, day_number, first_ms, last_ms, limit),
            CassandraUnavailableError,
        )

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> FakeFoundRows | FakePending:
        return self.faults.send(
            "rows.start_times",
            lambda: self.inner.start_times(device_id, day_number, times_ms),
            CassandraUnavailableError,
        )

    def start_sums(self, device_id: str, day_number: int) -> FakeSums | FakePending:
        return self.faults.send(
            "rows.start_sums",
            lambda: self.inner.start_sums(device_id, day_number),
            CassandraUnavailableError,
        )

    def wait(self, timeout_seconds: float) -> None:
        self.inner.wait(timeout_seconds)
