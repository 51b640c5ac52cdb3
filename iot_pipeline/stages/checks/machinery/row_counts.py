"""Count the rows of days, and read beside them what the ledgers say was stored.

Bounded: counting ends when its time is over and says what was not counted. True beside running
drains: the ledgers are read before and after the rows, and a run that commits meanwhile lies
between. Changes nothing.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from iot_pipeline.core.times import day_number
from iot_pipeline.stages.ledger.sums import KeptSums
from iot_pipeline.stages.ports import DeviceDays, LedgerStore, SensorData
from iot_pipeline.stages.requests import ask_all


@dataclass(frozen=True, slots=True)
class DayCount:
    """One UTC day: rows counted in Cassandra, and what both ledgers say of it.

    `ledger_before` and `ledger_after` were read before and after counting, so a run that commits
    meanwhile is between them; None when the time did not suffice to read the ledgers.
    `devices_counted` of the `devices` that have rows that day were counted.
    """

    day: date
    rows: int
    devices_counted: int
    devices: int
    ledger_before: int | None
    ledger_after: int | None

    @property
    def is_whole(self) -> bool:
        return self.devices_counted == self.devices and self.ledger_before is not None

    @property
    def surplus(self) -> int:
        """Rows more than any ledger state says, even when not all were counted; at least 0."""
        return 0 if self.ledger_after is None else max(0, self.rows - self.ledger_after)

    @property
    def deficit(self) -> int:
        """Rows fewer than the ledger said before counting; 0 when not all were counted."""
        if not self.is_whole or self.ledger_before is None:
            return 0
        return max(0, self.ledger_before - self.rows)


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
    clock: Callable[[], float] = time.monotonic,
) -> list[DayCount]:
    """Count the rows of these days, and compare with what the ledgers stored.

    Args:
        days: newest first; what the time does not suffice for is said, not counted.
        budget_seconds: for reading the ledgers and counting, together.
        patience_seconds: rows beyond the ledger may belong to a micro-batch that commits within
            a second or so: look again this long before calling them too many.
    """
    chosen = list(days)
    deadline = clock() + budget_seconds
    before = _sum_days(ledger, topic, partitions, chosen, deadline, clock)
    counts = [_count_day(rows, known.devices(day), day, deadline, clock) for day in chosen]
    give_up_at = clock() + patience_seconds
    while True:
        # As much time again: without this read a run that commits meanwhile looks like a defect.
        again = clock() + budget_seconds
        after = before and _sum_days(ledger, topic, partitions, chosen, again, clock)
        compared = [
            DayCount(
                day,
                *count,
                None if before is None else before[day],
                None if after is None else after[day],
            )
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
    deadline: float,
    clock: Callable[[], float],
) -> dict[date, int] | None:
    """Each of the days with what was stored of it; None when the time did not suffice."""
    total = dict.fromkeys(days, 0)
    for by_day in ledger.stored_by_day(topic, partitions, days):
        if clock() > deadline:
            return None
        for day, stored in by_day.items():
            total[day] = total.get(day, 0) + stored
    return total


def _count_day(
    rows: SensorData, devices: Sequence[str], day: date, deadline: float, clock: Callable[[], float]
) -> tuple[int, int, int]:
    """(rows, devices counted, devices) of a day."""
    number = day_number(day)
    answers = ask_all(
        devices, lambda device_id: rows.start_count(device_id, number), rows.wait, deadline, clock
    )
    counts = [answer.found for _, answer in answers]
    return sum(counts), len(counts), len(devices)
