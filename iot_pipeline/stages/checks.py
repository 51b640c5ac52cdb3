"""Gather the facts of each check and have them judged; changes nothing.

Bounded: counting rows ends when its time is over and says what was not counted. True beside
running drains: the ledgers are read before and after the rows, and a run that commits meanwhile
lies between.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Protocol

from iot_pipeline.core.checks import (
    CheckVerdict,
    DayCount,
    judge_accounting,
    judge_chain,
    judge_durability,
    judge_row_counts,
    judge_schema,
)
from iot_pipeline.core.ledger import ChainLink, LedgerEntry, find_flaws
from iot_pipeline.core.offsets import OffsetRange
from iot_pipeline.errors import PipelineError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ledger import WalkedLedger, walk_chain
from iot_pipeline.stages.ports import LedgerStore
from iot_pipeline.stages.schema import TableStore, TopicReader, check_schema

# The share of a run's time that its checks may take together, and what they may take at least.
RUN_SHARE = 0.1
LEAST_BUDGET_SECONDS = 0.5
# However late it is, something is looked at.
_LEAST_PART_SECONDS = 0.02
RECENT = timedelta(hours=1)
# The day before is counted once more, whole, by whoever looks soon after midnight UTC.
_DAY_IS_FRESHLY_CLOSED = timedelta(minutes=15)
# Those that are on their way when the time is over are worked off for nobody.
_COUNTS_IN_FLIGHT = 8


class Count(Protocol):
    """Rows of one Cassandra partition, being counted."""

    @property
    def done(self) -> bool: ...
    @property
    def error(self) -> PipelineError | None: ...
    @property
    def rows(self) -> int: ...


class RowCounts(Protocol):
    """Counts rows, one Cassandra partition at a time."""

    def devices(self, day: date) -> list[str]: ...
    def send_count(self, device_id: str, day: date) -> Count: ...
    def wait(self, timeout_seconds: float) -> None: ...


class StoredByDay(Protocol):
    """What the ledgers stored, day by day: maps that are to be summed."""

    def stored_by_day(
        self, topic: str, partitions: Sequence[int], days: Sequence[date]
    ) -> Iterator[Mapping[date, int]]: ...


class CheckedLedger(LedgerStore, Protocol):
    """The ledger, and its newest entries alone."""

    def read_newest(
        self, topic: str, partitions: Sequence[int], limit: int = 1
    ) -> list[LedgerEntry]: ...


class RunBudget:
    """How long the checks of one run may still take; begins when it is made.

    Args:
        run_seconds: how long the run took: its checks may take a tenth of it, together.
        clock: monotonic seconds.
    """

    def __init__(self, run_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() + max(LEAST_BUDGET_SECONDS, RUN_SHARE * run_seconds)

    def part(self, share: float) -> float:
        """Seconds: this share of what is left; questions that cost what they cost come off it."""
        return max(_LEAST_PART_SECONDS, share * (self._until - self._clock()))


def recent_entries(
    ledger: LedgerStore, topic: str, partitions: Sequence[int], now: datetime
) -> list[LedgerEntry]:
    """Entries of the last hour, with all that they say."""
    return ledger.read_entries(topic, partitions, now - RECENT)


def recent_links(
    ledger: WalkedLedger,
    topic: str,
    partitions: Sequence[int],
    now: datetime,
    started_at: datetime | None = None,
) -> list[ChainLink]:
    """Those of the last hour, and of a run that started earlier: read once for all checks."""
    since = now - RECENT
    return ledger.read_links(topic, partitions, min(since, started_at or since))


def check_accounting(
    links: Iterable[ChainLink],
    run_id: str,
    achieved: Sequence[OffsetRange],
    *,
    is_growing: bool = False,
) -> CheckVerdict:
    """Compare one run's entries, of all that were read, with what it says it achieved."""
    own = [link for link in links if link.run_id == run_id]
    return judge_accounting(own, achieved, is_growing=is_growing)


def check_whole_ledger(
    ledger: WalkedLedger, topic: str, partitions: Sequence[int]
) -> list[CheckVerdict]:
    """Walk all of it, once: is every offset accounted for, do the ranges follow each other."""
    walk = walk_chain(ledger, topic, partitions)
    return [
        judge_accounting(walk.links),
        judge_chain(walk.flaws, len(walk.links), is_whole=True),
    ]


def check_recent_chain(links: Sequence[ChainLink]) -> CheckVerdict:
    """Walk `recent_links`: bounded, so every run can afford it; it does not judge the end."""
    return judge_chain(find_flaws(links, []), len(links), is_whole=False)


def check_durability_and_schema(
    reader: TopicReader, tables: TableStore, settings: Settings
) -> list[CheckVerdict]:
    """Ask the servers how they are set up: two verdicts from one look."""
    report = check_schema(reader, tables, settings)
    return [
        judge_durability(report.is_durable, report.durability),
        judge_schema(report.differences),
    ]


def choose_days(
    ledger: CheckedLedger, topic: str, partitions: Sequence[int], now: datetime
) -> list[date]:
    """The days a check on its own counts: those of the last hour's runs, newest first.

    Soon after midnight UTC also the day that has just closed; where nothing was ingested lately,
    the days of each partition's newest entry.
    """
    entries = recent_entries(ledger, topic, partitions, now)
    days = {day for entry in entries for day in entry.counts.stored_by_day}
    if not days:
        newest = ledger.read_newest(topic, partitions)
        days = {day for entry in newest for day in entry.counts.stored_by_day}
    yesterday = (now - timedelta(days=1)).date()
    if now.date() != (now - _DAY_IS_FRESHLY_CLOSED).date():
        days.add(yesterday)
    return sorted(days, reverse=True)


def check_row_counts(
    ledger: StoredByDay,
    rows: RowCounts,
    topic: str,
    partitions: Sequence[int],
    days: Iterable[date],
    *,
    budget_seconds: float,
    patience_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> CheckVerdict:
    """Count the rows of these days, and compare with what the ledgers stored.

    Args:
        ledger: both ledgers.
        rows: counts rows.
        topic: its name.
        partitions: all of the topic's.
        days: newest first; what the time does not suffice for is said, not counted.
        budget_seconds: for reading the ledgers and counting, together.
        patience_seconds: rows beyond the ledger may belong to a micro-batch that commits within
            a second or so: look again for so long before calling them too many.
        clock: monotonic seconds.
        sleep: rests.
    """
    deadline = clock() + budget_seconds
    chosen = list(days)
    before = _sum_days(ledger, topic, partitions, chosen, deadline, clock)
    counts = [_count_day(rows, day, deadline, clock) for day in chosen]
    # As much time again, once: without this read a run that commits meanwhile looks like a defect.
    after = None
    if before is not None:
        again = clock() + budget_seconds
        after = _sum_days(ledger, topic, partitions, chosen, again, clock)
    give_up_at = clock() + patience_seconds
    while True:
        compared = [
            DayCount(
                day,
                found,
                counted,
                devices,
                None if before is None else before.get(day, 0),
                None if after is None else after.get(day, 0),
            )
            for day, (found, counted, devices) in zip(chosen, counts, strict=True)
        ]
        if not any(day.surplus for day in compared) or clock() >= give_up_at:
            return judge_row_counts(compared)
        sleep(0.5)
        again = clock() + budget_seconds
        after = _sum_days(ledger, topic, partitions, chosen, again, clock)


def _sum_days(
    ledger: StoredByDay,
    topic: str,
    partitions: Sequence[int],
    days: Sequence[date],
    deadline: float,
    clock: Callable[[], float],
) -> dict[date, int] | None:
    total: dict[date, int] = {}
    for by_day in ledger.stored_by_day(topic, partitions, days):
        if clock() > deadline:
            return None
        for day, stored in by_day.items():
            total[day] = total.get(day, 0) + stored
    return total


def _count_day(
    rows: RowCounts, day: date, deadline: float, clock: Callable[[], float]
) -> tuple[int, int, int]:
    """(rows, devices counted, devices) of a day; what has no answer in time was not counted."""
    devices = rows.devices(day)
    in_flight: deque[Count] = deque()
    found = counted = 0
    waiting = iter(devices)
    is_over = False
    while True:
        while not is_over and len(in_flight) < _COUNTS_IN_FLIGHT:
            device_id = next(waiting, None)
            is_over = device_id is None or clock() > deadline
            if device_id is not None and not is_over:
                in_flight.append(rows.send_count(device_id, day))
        if not in_flight or clock() > deadline:
            return found, counted, len(devices)
        first = in_flight[0]
        if not first.done:
            rows.wait(0.1)
            continue
        in_flight.popleft()
        if first.error is not None:
            raise first.error
        found += first.rows
        counted += 1
