"""Compare rollups with the rows they were made of; changes nothing.

Bounded: ends when its time is over and says what was not compared. True beside ingestion: the
ledgers are read before and after, and a day that changed meanwhile is called touched.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from iot_pipeline.core.reading.retention import FOR_EVER, Retention
from iot_pipeline.core.rollups.days import DayFacts, DayRecord, find_frozen, frozen_from
from iot_pipeline.core.rollups.statistics import Rollup, day_of_hours, is_same
from iot_pipeline.core.times import MS_PER_DAY, day_number, moment_of
from iot_pipeline.stages.ports.readings import MAX_ROWS_PER_READ
from iot_pipeline.stages.requests import Flight, retry_transient
from iot_pipeline.stages.rollups.rebuild import RollupPorts, read_day_facts, read_hours

_IN_FLIGHT = 32


@dataclass(slots=True)
class DayComparison:
    """One day's rollups of one asset, compared with the rows they were made of.

    `rows` were read now, of `compared` of the day's `devices`; `counted` is the sum of the
    rollups' counts. `wrong` names devices with other values, or other counts, than a rebuild
    would write. `is_touched`: the ledgers say that rows changed since the rebuild, so a
    difference is what the next one is for.
    """

    day: date
    devices: int
    compared: int = 0
    rows: int = 0
    counted: int = 0
    wrong: list[str] = field(default_factory=list)
    is_touched: bool = False

    @property
    def is_off(self) -> bool:
        return self.counted != self.rows and not self.is_touched

    @property
    def is_stale(self) -> bool:
        return bool(self.wrong) and not self.is_touched


@dataclass(frozen=True, slots=True)
class Comparisons:
    """By asset, one per day that was rolled up, in the order asked for."""

    hourly: list[DayComparison]
    daily: list[DayComparison]


def compare_days(
    ports: RollupPorts,
    topic: str,
    days: Iterable[date],
    *,
    budget_seconds: float,
    retry_seconds: float,
    patience_seconds: float = 0.0,
    retention: Retention = FOR_EVER,
    page_rows: int = MAX_ROWS_PER_READ,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Comparisons:
    """Read rows and rollups of these days, as many devices as the time suffices for.

    Days that were never rolled up, days whose rows age out, and of other days the devices whose
    rows do, are left out.

    Args:
        days: in the order in which they matter.
        budget_seconds: when no further device is begun.
        retry_seconds: how long transient errors may last.
        patience_seconds: a row beyond the ledgers may belong to a micro-batch that commits within
            a second or so: look again for this long before calling it a difference.
        retention: of the rows.
        page_rows: readings of a device read at once.
    """
    deadline = clock() + budget_seconds
    before = _look(ports, topic, retry_seconds, wall_clock)
    records = retry_transient(lambda: ports.rollups.read_records(topic), retry_seconds)
    now = moment_of(wall_clock() * 1000)
    found = Comparisons([], [])
    chosen: list[DayRecord] = []
    for day in days:
        record = records.get(day)
        if record is None or frozen_from(before.get(day), retention.longest_days, now):
            continue
        if chosen and clock() > deadline:
            break
        chosen.append(record)
        is_frozen = find_frozen(before.get(day), retention, now)
        comparing = _Comparing(ports, day, is_frozen, retry_seconds, page_rows)
        comparing.run(deadline, clock)
        found.hourly.append(comparing.hourly)
        found.daily.append(comparing.daily)
    give_up_at = clock() + patience_seconds
    while True:
        after = _look(ports, topic, retry_seconds, wall_clock)
        for record, *both in zip(chosen, found.hourly, found.daily, strict=True):
            for comparison in both:
                comparison.is_touched = not (
                    _seen(before, record.day) == _seen(after, record.day) == record.seen
                )
        is_off = any(item.is_off or item.is_stale for item in (*found.hourly, *found.daily))
        if not is_off or clock() >= give_up_at:
            return found
        sleep(0.5)


def _look(
    ports: RollupPorts, topic: str, retry_seconds: float, wall_clock: Callable[[], float]
) -> dict[date, DayFacts]:
    now = moment_of(wall_clock() * 1000)
    return retry_transient(lambda: read_day_facts(ports, topic, now), retry_seconds)


def _seen(facts: Mapping[date, DayFacts], day: date) -> str:
    return facts[day].seen if day in facts else ""


class _Comparing:
    """One day, device by device in an order of its own, so that a part is a fair sample."""

    def __init__(
        self,
        ports: RollupPorts,
        day: date,
        is_frozen: Callable[[str], bool],
        retry_seconds: float,
        page_rows: int,
    ) -> None:
        self._ports, self._rollups = ports, ports.rollups
        self._day, self._page_rows = day_number(day), page_rows
        self._flight = Flight(ports.rows.wait, retry_seconds)
        devices = retry_transient(lambda: ports.days.devices(day), retry_seconds)
        self._devices = [name for name in devices if not is_frozen(name)]
        random.Random(str(day)).shuffle(self._devices)
        self.hourly = DayComparison(day, len(self._devices))
        self.daily = DayComparison(day, len(self._devices))

    def run(self, deadline: float, clock: Callable[[], float]) -> None:
        """Compare devices until the time is over, one at least: else green would mean nothing."""
        self._flight.feed(self._devices, self._read, _IN_FLIGHT, lambda: clock() > deadline)

    def _read(self, device_id: str) -> None:
        """Read the device's rows, then its hours, then its day; compare when all are there."""
        day, flight, rollups = self._day, self._flight, self._rollups

        def take_rows(hours: Mapping[int, Rollup]) -> None:
            flight.start(
                lambda: rollups.start_hours(device_id, day, day),
                lambda stored: take_hours(hours, stored.found),
            )

        def take_hours(hours: Mapping[int, Rollup], stored_hours: Mapping[int, Rollup]) -> None:
            flight.start(
                lambda: rollups.start_days(device_id, day, day),
                lambda stored: self._compare(device_id, hours, stored_hours, stored.found),
            )

        read_hours(flight, self._ports, device_id, day, self._page_rows, take_rows)

    def _compare(
        self,
        device_id: str,
        hours: Mapping[int, Rollup],
        stored_hours: Mapping[int, Rollup],
        stored_days: Mapping[int, Rollup],
    ) -> None:
        whole = day_of_hours(hours)
        days = {self._day * MS_PER_DAY: whole} if whole.count else {}
        for comparison, stored, right in (
            (self.hourly, stored_hours, hours),
            (self.daily, stored_days, days),
        ):
            comparison.compared += 1
            comparison.rows += whole.count
            comparison.counted += sum(rollup.count for rollup in stored.values())
            if stored.keys() != right.keys() or not all(
                is_same(stored[at], right[at]) for at in right
            ):
                comparison.wrong.append(device_id)
