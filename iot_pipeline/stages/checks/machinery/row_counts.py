"""Count the rows of days, and read beside them what the ledgers say was stored.

Their cells, where readings may be told in parts: several records make a row then.

Bounded: counting ends when its time is over and says what was not counted; the next look goes on
there. True beside running drains: the ledgers are read before the first row and after the last,
and what a run commits meanwhile lies between. Changes nothing.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Self

from iot_pipeline.core.proof.forgetting import ForgottenRows
from iot_pipeline.core.reading.spans import Counted, Span, whole_day
from iot_pipeline.core.times import day_number
from iot_pipeline.stages.ledger.sums import KeptSums
from iot_pipeline.stages.ports.answers import Answer
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.readings import DeviceDays, SensorData
from iot_pipeline.stages.requests import Flight


@dataclass(frozen=True, slots=True)
class CountSoFar:
    """How far the count of a day is: what one look leaves to the next, as a line of text.

    Rows of `devices` devices before `device_id`, in the order of names, and of that device those
    after `before_ms`; `ledger_before` is what the ledgers said when the count began.
    """

    day: date
    rows: int
    ledger_before: int
    before_ms: int
    device_id: str
    devices: int = 0

    def __str__(self) -> str:
        numbers = f"{self.rows} {self.ledger_before} {self.before_ms}/{self.devices}"
        return f"{self.day} {numbers} {self.device_id}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None: the text is something else."""
        parts = text.split(" ", 4)
        if len(parts) < 5:
            return None
        day, rows, ledger_before, before, device_id = parts
        # Those of an earlier version do not say how many devices it was.
        before_ms, _, devices = before.partition("/")
        counted = int(rows), int(ledger_before), int(before_ms)
        return cls(date.fromisoformat(day), *counted, device_id, int(devices or 0))


@dataclass(frozen=True, slots=True)
class DayCount:
    """One UTC day: rows counted in Cassandra, and what both ledgers say of it.

    `ledger_before` and `ledger_after` were read before and after counting, so a run that commits
    meanwhile is between them; None when the time did not suffice to read the ledgers.
    `devices_counted` of the `devices` that have rows that day were counted, in this look and those
    before it that left it the rest; `so_far` is where the next look goes on.
    `gone` of the rows that the ledger stored were forgotten (`iot forget`), and `going` more are
    being forgotten just now.
    """

    day: date
    rows: int
    devices_counted: int
    devices: int
    ledger_before: int | None
    ledger_after: int | None
    so_far: CountSoFar | None = None
    gone: int = 0
    going: int = 0

    @property
    def is_whole(self) -> bool:
        return self.devices_counted == self.devices and self.ledger_before is not None

    @property
    def surplus(self) -> int:
        """Rows more than any ledger state says, even when not all were counted; at least 0."""
        if self.ledger_after is None:
            return 0
        return max(0, self.rows - (self.ledger_after - self.gone))

    @property
    def deficit(self) -> int:
        """Rows fewer than the ledger said before counting; 0 when not all were counted."""
        if not self.is_whole or self.ledger_before is None:
            return 0
        return max(0, self.ledger_before - self.gone - self.going - self.rows)


def count_days(
    ledger: LedgerStore | KeptSums,
    rows: SensorData,
    known: DeviceDays,
    topic: str,
    partitions: Sequence[int],
    days: Iterable[date],
    *,
    budget_seconds: float,
    patience_seconds: float = 0.0,
    begun: Mapping[date, CountSoFar] | None = None,
    of_cells: bool = False,
    forgotten: Callable[[], ForgottenRows] = ForgottenRows,
    clock: Callable[[], float] = time.monotonic,
) -> list[DayCount]:
    """Count the rows of these days, and compare with what the ledgers stored.

    Args:
        days: newest first; what the time does not suffice for is said, not counted.
        budget_seconds: for reading the ledgers and counting, together.
        patience_seconds: rows beyond the ledger may belong to a micro-batch that commits within
            a second or so: look again this long before calling them too many.
        begun: counts that an earlier look left unfinished; they go on.
        of_cells: what is counted are cells.
        forgotten: asked once, when all is counted: what is removed meanwhile is known then.
    """
    chosen, begun = list(days), begun or {}
    deadline = clock() + budget_seconds
    before = _sum_days(ledger, topic, partitions, chosen, of_cells, deadline, clock)
    if before is not None:
        before |= {day: begun[day].ledger_before for day in chosen if day in begun}
    counts = [
        _count_day(rows, known, day, begun.get(day), lambda: clock() > deadline) for day in chosen
    ]
    without = forgotten()
    give_up_at = clock() + patience_seconds
    while True:
        # As much time again: without this read a run that commits meanwhile looks like a defect.
        again = clock() + budget_seconds
        after = before and _sum_days(ledger, topic, partitions, chosen, of_cells, again, clock)
        compared = [
            _compare(day, count, before, after, without)
            for day, count in zip(chosen, counts, strict=True)
        ]
        if not any(day.surplus for day in compared) or clock() >= give_up_at:
            return compared
        time.sleep(0.5)


def _sum_days(
    ledger: LedgerStore | KeptSums,
    topic: str,
    partitions: Sequence[int],
    days: Sequence[date],
    of_cells: bool,
    deadline: float,
    clock: Callable[[], float],
) -> dict[date, int] | None:
    """Each of the days with what was stored of it; None when the time did not suffice."""
    total = dict.fromkeys(days, 0)
    for by_day in ledger.stored_by_day(topic, partitions, days, of_cells=of_cells):
        if clock() > deadline:
            return None
        for day, stored in by_day.items():
            total[day] = total.get(day, 0) + stored
    return total


@dataclass(slots=True)
class _Count:
    """Of a day, in the order of devices; `device_id` is where to go on, None at the end."""

    rows: int
    devices_counted: int
    devices: int
    device_id: str | None = None
    before_ms: int = 0


def _count_day(
    rows: SensorData,
    known: DeviceDays,
    day: date,
    begun: CountSoFar | None,
    is_over: Callable[[], bool],
) -> _Count:
    """Count from where it was begun; one slice of a device at least, however late it is."""
    number = day_number(day)
    counted, reached, since = 0, 0, ""
    if begun is not None:
        counted, reached, since = begun.rows, begun.devices, begun.device_id

    def find_spans() -> Iterator[Span]:
        for name in known.walk(day, since):
            span = whole_day(name, number)
            is_begun = begun is not None and name == since
            yield replace(span, last_ms=begun.before_ms - 1) if begun and is_begun else span

    cut: Span | None = None

    def rest(_: Span, answer: Answer[Counted]) -> list[Span]:
        nonlocal cut
        left = answer.found.rest
        if left is not None and is_over():
            cut = left
            return []
        return [left] if left is not None else []

    spans = find_spans()
    # In order, so that one place tells what is counted.
    for _, answer in Flight(rows.wait, 0.0).answers(
        spans, rows.start_count, again=rest, is_over=is_over
    ):
        counted += answer.found.rows
        if cut is not None:
            break
        if answer.found.rest is None:
            reached += 1
    left = cut or next(spans, None)
    if left is None:
        return _Count(counted, reached, reached)
    devices = max(known.count(day), reached + 1)
    return _Count(counted, reached, devices, left.device_id, left.last_ms + 1)


def _compare(
    day: date,
    count: _Count,
    before: Mapping[date, int] | None,
    after: Mapping[date, int] | None,
    without: ForgottenRows,
) -> DayCount:
    so_far = None
    if count.device_id is not None and before is not None:
        so_far = CountSoFar(
            day, count.rows, before[day], count.before_ms, count.device_id, count.devices_counted
        )
    return DayCount(
        day,
        count.rows,
        count.devices_counted,
        count.devices,
        None if before is None else before[day],
        None if after is None else after[day],
        so_far,
        without.gone.get(day, 0),
        without.going.get(day, 0),
    )
