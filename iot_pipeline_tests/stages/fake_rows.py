"""Readings and the devices of a day over a `FakeStore`, and doubles that fail on call k."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, TypeVar

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.spans import (
    Counted,
    PieceCount,
    PieceMean,
    Place,
    PlainRow,
    Span,
    Summed,
)
from iot_pipeline.core.times import MS_PER_DAY, Window, day_number, day_of
from iot_pipeline.errors import CassandraUnavailableError, PipelineError
from iot_pipeline_tests.stages.fakes import FakeAnswer, FakeStore, answer
from iot_pipeline_tests.stages.faults import Faults

T = TypeVar("T")
VALUES = len(QUANTITIES)
StoredRows = list[tuple[int, StoredRow]]


@dataclass(slots=True)
class FakeSensorData:
    """A `SensorData`; `failures` are given out first, one per question, instead of answers.

    `asked` counts questions by method. `on_page` is called before a page is read: what happens
    meanwhile happens there.
    """

    store: FakeStore = field(default_factory=FakeStore)
    failures: list[PipelineError] = field(default_factory=list)
    looks_until_answered: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    on_page: Callable[[str], None] = lambda _: None
    names: tuple[str, ...] = tuple(quantity.name for quantity in QUANTITIES)

    def add(self, device_id: str, times_ms: Sequence[int], temperature: float = 20.0) -> None:
        """Rows with a humidity of 40, written when they were measured."""
        for ms in times_ms:
            row = (ms * 1000, 0, 0, temperature, 40.0)
            self.store.send_rows(RowSlice.of({(device_id, ms // MS_PER_DAY): {ms: row}}))
            self.store.send_devices(ms // MS_PER_DAY, {device_id: ms})

    # The port.

    def start_range(self, span: Span, limit: int) -> FakeAnswer[StoredRows]:
        found = self._between(*_parts(span))
        return self._answer("range", found[: -limit - 1 : -1])

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> FakeAnswer[StoredRows]:
        wanted = set(times_ms)
        found = self._between(device_id, day_number, min(wanted), max(wanted))
        return self._answer("times", [(ms, row) for ms, row in reversed(found) if ms in wanted])

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> FakeAnswer[Sequence[PlainRow]]:
        self.on_page(span.device_id)
        found = self._plain(*_parts(span))
        return self._answer("page", found[: -limit - 1 : -1] if newest_first else found[:limit])

    def start_sums(self, span: Span) -> FakeAnswer[Summed]:
        rows = [row for _, row in self._between(*_parts(span))]
        totals = [sum(int(us or 0) for us in column) % 2**64 for column in zip(*rows, strict=True)]
        totals = totals[len(self.names) :] or [0] * len(self.names)
        return self._answer("sums", Summed(len(rows), totals))

    def start_count(self, span: Span) -> FakeAnswer[Counted]:
        return self._answer("count", Counted(len(self._between(*_parts(span)))))

    def start_counts(self, span: Span, piece_ms: int) -> FakeAnswer[list[PieceCount]]:
        pieces: dict[int, list[int]] = {}
        for ms, _ in self._between(*_parts(span)):
            pieces.setdefault(ms // piece_ms * piece_ms, []).append(ms)
        return self._answer(
            "counts", [(begin, len(times), times[0]) for begin, times in pieces.items()]
        )

    def start_means(self, span: Span, piece_ms: int) -> FakeAnswer[list[PieceMean]]:
        pieces: dict[int, list[float]] = {}
        for ms, *values in self._plain(*_parts(span)):
            pieces.setdefault(ms // piece_ms * piece_ms, []).append(values[0] or 0.0)
        means: list[PieceMean] = [(at, len(of), sum(of) / len(of)) for at, of in pieces.items()]
        return self._answer("means", means)

    def all_places(self) -> Iterator[Place]:
        yield from sorted({(device_id, day) for device_id, day, _ in self.store.cells})

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        for place in [*self.store.cells]:
            device_id, day, ms = place
            written_us = max(us for us, _ in self.store.cells[place].values())
            if (
                (device_id, day) == (deletion.device_id, day_number)
                and deletion.since_ms <= ms < deletion.until_ms
                and written_us <= deletion.deleted_us
            ):
                del self.store.cells[place]

    def wait(self, timeout_seconds: float) -> None:
        pass

    # What a table looks like; a subclass has its own.

    def _between(self, device_id: str, day_number: int, first_ms: int, last_ms: int) -> StoredRows:
        """Oldest first."""
        found = []
        for (name, day, ms), cells in self.store.cells.items():
            if (name, day) == (device_id, day_number) and first_ms <= ms <= last_ms:
                of_row = [cells.get(name, (None, None)) for name in self.names]
                row = (*(cell[1] for cell in of_row), *(cell[0] for cell in of_row))
                found.append((ms, row))
        return sorted(found)

    def _plain(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int
    ) -> Sequence[PlainRow]:
        found = self._between(device_id, day_number, first_ms, last_ms)
        return [(ms, *values) for ms, values in ((ms, row[: len(self.names)]) for ms, row in found)]

    def _answer(self, kind: str, found: T) -> FakeAnswer[T]:
        self.asked[kind] += 1
        error = self.failures.pop(0) if self.failures else None
        return answer(found, error, self.looks_until_answered)


@dataclass(slots=True)
class FakeDeviceDays:
    """A `DeviceDays`; `failures` are raised first, `faults` spoil a call of `days_of`."""

    store: FakeStore = field(default_factory=FakeStore)
    failures: list[PipelineError] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)

    def days(self) -> list[date]:
        return [day_of(number) for number, names in sorted(self.store.devices.items()) if names]

    def devices(self, day: date) -> list[str]:
        if self.failures:
            raise self.failures.pop(0)
        return sorted(self.store.devices[day_number(day)])

    def walk(self, day: date, since: str = "") -> Iterator[str]:
        return iter([name for name in self.devices(day) if name >= since])

    def count(self, day: date) -> int:
        return len(self.devices(day))

    def days_of(self, device_id: str, window: Window | None = None) -> Iterator[date]:
        def find() -> list[date]:
            days = self.days()
            chosen = window.days_within(days) if window else reversed(days)
            return [day for day in chosen if device_id in self.store.devices[day_number(day)]]

        yield from self.faults.call("days.days_of", find, CassandraUnavailableError)


class FailingSensorData(FakeSensorData):
    """The rows of `inner`; the calls that a replay and a deletion make may fail."""

    def __init__(self, inner: FakeSensorData, faults: Faults) -> None:
        super().__init__(**{item.name: getattr(inner, item.name) for item in fields(inner)})
        self.inner, self.faults = inner, faults

    def start_range(self, span: Span, limit: int) -> FakeAnswer[StoredRows]:
        return self._send("start_range", span, limit)

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> FakeAnswer[StoredRows]:
        return self._send("start_times", device_id, day_number, times_ms)

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        self.faults.call(
            "rows.delete_rows",
            lambda: self.inner.delete_rows(deletion, day_number),
            CassandraUnavailableError,
        )

    def _send(self, name: str, *arguments: object) -> Any:
        return self.faults.send(
            f"rows.{name}",
            lambda: getattr(self.inner, name)(*arguments),
            CassandraUnavailableError,
        )


def _parts(span: Span) -> tuple[str, int, int, int]:
    return span.device_id, span.day_number, span.first_ms, span.last_ms
