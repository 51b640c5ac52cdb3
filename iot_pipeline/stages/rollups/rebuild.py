"""Rebuild the rollups of a day from its rows: read once, written whole, recorded last.

Idempotent, and safe beside ingestion and beside another rebuild of the same day. Every cell of a
rebuild carries one write time, chosen before it reads a row and above that of every recorded
rebuild; hours it did not find are deleted at one microsecond less. So of two that race, one's rows
remain whole, whichever writes last, and with them its record, which carries the same write time.
A rebuild that dies leaves no record: the day stays touched, and is rebuilt.

Bounded: 64 requests on their way, however many devices and readings there are.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.retention import FOR_EVER, Retention
from iot_pipeline.core.reading.spans import PlainRow, Span
from iot_pipeline.core.rollups.days import (
    DayFacts,
    DayRecord,
    find_frozen,
    frozen_from,
)
from iot_pipeline.core.rollups.statistics import Rollup, add_page, day_of_hours
from iot_pipeline.core.times import MS_PER_DAY, day_number, in_utc, moment_of
from iot_pipeline.core.words import counted
from iot_pipeline.errors import RollupFrozenError
from iot_pipeline.stages.ports.answers import Answer, Pending
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.proof import DeletionLog
from iot_pipeline.stages.ports.readings import MAX_ROWS_PER_READ, DeviceDays, SensorData
from iot_pipeline.stages.ports.rollups import RollupStore
from iot_pipeline.stages.proof.days import read_facts
from iot_pipeline.stages.requests import Flight, retry_transient

# Each is a device: a page of it is read, or its hours or its day are written.
_IN_FLIGHT = 64

Readings = Answer[Sequence[PlainRow]]
Rollups = Answer[Mapping[int, Rollup]]


@dataclass(frozen=True, slots=True)
class RollupPorts:
    """What rollups are made of, where they are, and what tells that rows of a day changed."""

    quantities: Sequence[Quantity]
    rollups: RollupStore
    rows: SensorData
    days: DeviceDays
    ledger: LedgerStore
    deletions: DeletionLog


@dataclass(slots=True)
class RollupProgress:
    """One day's rebuild so far: devices whose rollups are acknowledged, readings read.

    `kept` are devices whose rollups stayed as they were, because all rows that they were made of
    are gone; `stored` is what the ledgers stored of the day, 0 when a deletion touched it or rows
    have aged out. Rows of `frozen` more devices age out before those of others: these keep theirs.
    """

    day: date
    devices: int = 0
    devices_done: int = 0
    readings: int = 0
    hours: int = 0
    kept: int = 0
    frozen: int = 0
    stored: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        return self.readings / self.seconds if self.seconds else 0.0

    @property
    def note(self) -> str:
        """What a person may want to know of devices that were left out; empty without any."""
        if not self.frozen:
            return ""
        return (
            f"{self.day}: the rollups of {counted(self.frozen, 'device')} stay as they were, "
            "because their rows age out"
        )

    @property
    def warning(self) -> str:
        """What a person has to know of rows that are gone; empty when none seem to be."""
        why = "The table's default_time_to_live or a foreign DELETE may be why: `iot setup`"
        if self.kept:
            return (
                f"rows of {self.day} are gone: the rollups of {self.kept:,} of {self.devices:,} "
                f"devices stay as they were, because no reading of theirs is left. {why} and "
                f"`iot audit --day {self.day}` say more"
            )
        if self.stored and not self.readings:
            return (
                f"rows of {self.day} are gone: the ledger stored {self.stored:,}, and none is "
                f"there. {why} and `iot audit --day {self.day}` say more"
            )
        return ""

    @property
    def eta_seconds(self) -> float | None:
        """About how long the rest of the day takes; None before there is anything to go by."""
        if not self.devices_done:
            return None
        return self.seconds / self.devices_done * (self.devices - self.devices_done)


def read_day_facts(ports: RollupPorts, topic: str, now: datetime) -> dict[date, DayFacts]:
    """What the ledgers say of every day."""
    return read_facts(ports.ledger, ports.deletions, topic, now)


def rebuild_day(
    ports: RollupPorts,
    topic: str,
    day: date,
    run_id: str,
    *,
    retry_seconds: float,
    retention: Retention = FOR_EVER,
    on_progress: Callable[[RollupProgress], None] = lambda _: None,
    observe: Callable[[Mapping[int, Rollup]], None] = lambda _: None,
    wall_clock: Callable[[], float] = time.time,
    page_rows: int = MAX_ROWS_PER_READ,
) -> RollupProgress:
    """Make the hourly and daily rollups of every device of a UTC day what its rows say.

    Args:
        day: a day without rows has no rollups afterwards.
        retry_seconds: how long transient errors may last without one answer.
        retention: of the rows; a day whose rows begin to age out is frozen, and so are, of another
            day, the devices whose rows do.
        on_progress: called with each device that is done.
        observe: called once per device with its hours, by their first millisecond; be quick.
        page_rows: readings of a device read at once.

    Raises:
        RollupFrozenError: rows of the day age out; its rollups stay as they are.
        CassandraUnavailableError: some devices have new rollups, the others theirs; no record.
    """
    now = moment_of(wall_clock() * 1000)
    # Before the first row: what is committed while we read is seen by the next look, at worst
    # as a rebuild that changes nothing.
    facts, record = retry_transient(
        lambda: (read_day_facts(ports, topic, now), ports.rollups.read_records(topic).get(day)),
        retry_seconds,
    )
    of_day = facts.get(day)
    longest_days = retention.longest_days
    aging = frozen_from(of_day, longest_days, now)
    if aging is not None:
        raise RollupFrozenError(
            f"rebuilding the rollups of {day}: its rows age out from {in_utc(aging)} on "
            f"({longest_days:g} days after they arrived), so a rebuild would leave readings out. "
            "Its rollups stay as they are; choose later days"
        )
    write_time_us = _write_time_us(now, record)
    known = retry_transient(lambda: ports.days.devices(day), retry_seconds)
    is_frozen = find_frozen(of_day, retention, now)
    devices = [name for name in known if not is_frozen(name)]
    is_deleted = of_day is not None and of_day.is_deleted
    progress = RollupProgress(day, len(devices), frozen=len(known) - len(devices))
    has_aged = frozen_from(of_day, retention.shortest_days, now) is not None
    progress.stored = 0 if of_day is None or is_deleted or has_aged else of_day.stored
    flight = Flight(ports.rows.wait, retry_seconds)
    rebuild = _Rebuild(
        ports,
        day_number(day),
        write_time_us,
        page_rows,
        flight,
        progress,
        on_progress,
        observe,
        may_vanish=record is None or is_deleted,
    )
    flight.feed(devices, rebuild.read, _IN_FLIGHT)
    done = DayRecord(
        day,
        now,
        write_time_us,
        of_day.seen if of_day is not None else "",
        progress.readings,
        progress.devices,
        progress.seconds,
        run_id,
    )
    retry_transient(lambda: ports.rollups.record_day(topic, done), retry_seconds)
    return progress


def read_rollups(
    store: RollupStore,
    device_id: str,
    first: date,
    last: date,
    *,
    hourly: bool,
    retry_seconds: float,
) -> dict[int, Rollup]:
    """A device's rollups from the first to the last UTC day, both inclusive, newest first.

    Returns:
        By the first millisecond of the hour or day; one question per month, many at once.
    """
    found: dict[int, Rollup] = {}
    flight = Flight(store.wait, retry_seconds)
    start = store.start_hours if hourly else store.start_days

    def take(answer: Rollups) -> None:
        found.update(answer.found)

    def ask(days: tuple[int, int]) -> None:
        flight.start(lambda: start(device_id, *days), take)

    flight.feed(_months(first, last), ask, _IN_FLIGHT)
    return dict(sorted(found.items(), reverse=True))


def _months(first: date, last: date) -> Iterator[tuple[int, int]]:
    """The first and the last day number of each month's part, both inclusive."""
    while first <= last:
        next_month = (first.replace(day=1) + timedelta(days=31)).replace(day=1)
        yield day_number(first), min(day_number(last), day_number(next_month) - 1)
        first = next_month


def _write_time_us(now: datetime, record: DayRecord | None) -> int:
    own = int(now.timestamp() * 1_000_000)
    if record is None or own > record.write_time_us:
        return own
    # Our clock is behind. Another rebuild whose clock is, too, would choose the same microsecond
    # if it were the next one: of equal write times each cell's larger value remains.
    return record.write_time_us + 1 + random.randrange(1_000_000)


def read_hours(
    flight: Flight,
    ports: RollupPorts,
    device_id: str,
    day: int,
    page_rows: int,
    take: Callable[[dict[int, Rollup]], None],
) -> None:
    """Start reading a device's day page by page; `take` gets its hours when all are read."""
    hours: dict[int, Rollup] = {}

    def read_before(end_ms: int) -> None:
        def take_page(page: Readings) -> None:
            add_page(hours, page.found, ports.quantities)
            if len(page.found) >= page_rows:
                read_before(page.found[-1][0])
            else:
                take(hours)

        span = Span(device_id, day, day * MS_PER_DAY, end_ms - 1)
        flight.start(lambda: ports.rows.start_page(span, page_rows, newest_first=True), take_page)

    read_before((day + 1) * MS_PER_DAY)


@dataclass(frozen=True, slots=True)
class _Rebuild:
    """One day: hours of one device at a time are read, then written."""

    ports: RollupPorts
    day: int
    write_time_us: int
    page_rows: int
    flight: Flight
    progress: RollupProgress
    on_progress: Callable[[RollupProgress], None]
    observe: Callable[[Mapping[int, Rollup]], None]
    # All rows of a device go by a deletion, and it is remembered. Else what was made of them is all
    # that is left.
    may_vanish: bool = True

    def read(self, device_id: str) -> None:
        def take(hours: Mapping[int, Rollup]) -> None:
            if self.may_vanish:
                self._write(device_id, hours)
                return
            self.flight.start(
                lambda: self.ports.rollups.start_days(device_id, self.day, self.day),
                lambda known: self._write_unless_gone(device_id, hours, known),
            )

        read_hours(self.flight, self.ports, device_id, self.day, self.page_rows, take)

    def _write_unless_gone(
        self, device_id: str, hours: Mapping[int, Rollup], known: Rollups
    ) -> None:
        if not hours and known.found:
            self.progress.kept += 1
            self.progress.devices_done += 1
            self.progress.seconds = time.monotonic() - self.progress.began
            self.on_progress(self.progress)
        else:
            self._write(device_id, hours)

    def _write(self, device_id: str, hours: Mapping[int, Rollup]) -> None:
        self.observe(hours)
        whole, rollups, progress = day_of_hours(hours), self.ports.rollups, self.progress
        progress.readings += whole.count

        def acknowledged(_: Pending) -> None:
            progress.devices_done += 1
            progress.hours += len(hours)
            progress.seconds = time.monotonic() - progress.began
            self.on_progress(progress)

        def send_day(_: Pending) -> None:
            self.flight.start(
                lambda: rollups.send_day(device_id, self.day, whole, self.write_time_us),
                acknowledged,
            )

        self.flight.start(
            lambda: rollups.send_hours(device_id, self.day, hours, self.write_time_us), send_day
        )
