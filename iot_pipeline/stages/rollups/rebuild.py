"""Rebuild the rollups of a day from its rows: read once, written whole, recorded last.

Idempotent, and safe beside ingestion and beside another rebuild of the same day. Every cell of a
rebuild carries one write time, chosen before it reads a row and above that of every recorded
rebuild; hours it did not find are deleted at one microsecond less. So of two that race, one's rows
remain whole, whichever writes last, and with them its record, which carries the same write time.
A rebuild that dies leaves no record: the day stays touched, and is rebuilt.

Bounded: so many pages on their way, whatever the number of devices and readings.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline.core.reading.spans import PlainRow, day_number
from iot_pipeline.core.rollups.days import (
    DayFacts,
    DayRecord,
    ages_at,
    gather_facts,
    is_frozen,
)
from iot_pipeline.core.rollups.statistics import Rollup, add_page, day_of_hours
from iot_pipeline.core.times import in_utc
from iot_pipeline.errors import RollupFrozenError
from iot_pipeline.stages.ports import (
    MAX_ROWS_PER_READ,
    Answer,
    DeletionLog,
    DeviceDays,
    LedgerStore,
    Pending,
    RollupStore,
    SensorData,
)
from iot_pipeline.stages.requests import Flight, retry_transient

DEVICES_IN_FLIGHT = 32
_WRITES_IN_FLIGHT = 96


Readings = Answer[Sequence[PlainRow]]
Rollups = Answer[Mapping[int, Rollup]]


@dataclass(frozen=True, slots=True)
class RollupPorts:
    """What rollups are made of, where they are, and what tells that rows of a day changed."""

    rollups: RollupStore
    rows: SensorData
    days: DeviceDays
    ledger: LedgerStore
    deletions: DeletionLog


@dataclass(slots=True)
class RollupProgress:
    """One day's rebuild so far: devices whose rollups are acknowledged, readings read."""

    day: date
    devices: int = 0
    devices_done: int = 0
    readings: int = 0
    hours: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        return self.readings / self.seconds if self.seconds else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """About how long the rest of the day takes; None before there is anything to go by."""
        if not self.devices_done:
            return None
        return self.seconds / self.devices_done * (self.devices - self.devices_done)


def read_day_facts(ports: RollupPorts, topic: str, now: datetime) -> dict[date, DayFacts]:
    """What the ledgers say of every day, read page by page; small whatever their size."""
    replays, deletions = ports.ledger.replayed_parts(topic), ports.deletions.deleted_parts()
    return gather_facts(ports.ledger.ingested_parts(topic), replays, deletions, now)


def rebuild_day(
    ports: RollupPorts,
    topic: str,
    day: date,
    run_id: str,
    *,
    retry_seconds: float,
    retention_days: float = 0.0,
    on_progress: Callable[[RollupProgress], None] = lambda _: None,
    observe: Callable[[Mapping[int, Rollup]], None] = lambda _: None,
    wall_clock: Callable[[], float] = time.time,
    page_rows: int = MAX_ROWS_PER_READ,
) -> RollupProgress:
    """Make the hourly and daily rollups of every device of a UTC day what its rows say.

    Args:
        ports: rows, rollups, ledgers.
        topic: whose ledgers tell what the rows are of.
        day: which; a day without rows has no rollups afterwards.
        run_id: who asks, for the record.
        retry_seconds: how long transient errors may last without one answer.
        retention_days: of the rows; a day whose rows begin to age out is frozen.
        on_progress: called several times a second.
        observe: called once per device with its hours, by their first millisecond; be quick.
        wall_clock: seconds since 1970.
        page_rows: readings of a device read at once.

    Raises:
        RollupFrozenError: rows of the day age out; its rollups stay as they are.
        CassandraUnavailableError: some devices have new rollups, the others theirs; no record.
    """
    now = datetime.fromtimestamp(wall_clock(), UTC)
    # Before the first row: what is committed while we read is seen by the next look, at worst
    # as a rebuild that changes nothing.
    facts, record = retry_transient(
        lambda: (read_day_facts(ports, topic, now), ports.rollups.read_records(topic).get(day)),
        give_up_after_seconds=retry_seconds,
    )
    of_day = facts.get(day)
    _refuse_frozen(of_day, day, retention_days, now)
    write_time_us = _write_time_us(now, record)
    devices = retry_transient(lambda: ports.days.devices(day), give_up_after_seconds=retry_seconds)
    progress = RollupProgress(day, len(devices))
    rebuild = _Rebuild(
        ports, day_number(day), write_time_us, retry_seconds, page_rows, progress, observe
    )
    rebuild.run(devices, on_progress)
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
    retry_transient(
        lambda: ports.rollups.record_day(topic, done), give_up_after_seconds=retry_seconds
    )
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

    begin = first
    while begin <= last:
        next_month = (begin.replace(day=1) + timedelta(days=31)).replace(day=1)
        end = min(last, next_month - timedelta(days=1))
        span = (day_number(begin), day_number(end))
        flight.start(lambda span=span: start(device_id, *span), take)  # type: ignore[misc]
        begin = next_month
        while flight.size >= DEVICES_IN_FLIGHT:
            if not flight.take_answers():
                store.wait(0.1)
    flight.finish()
    return dict(sorted(found.items(), reverse=True))


def _write_time_us(now: datetime, record: DayRecord | None) -> int:
    own = int(now.timestamp() * 1_000_000)
    if record is None or own > record.write_time_us:
        return own
    # Our clock is behind. Another rebuild whose clock is, too, would choose the same microsecond
    # if it were the next one: of equal write times each cell's larger value remains.
    return record.write_time_us + 1 + random.randrange(1_000_000)


def _refuse_frozen(facts: DayFacts | None, day: date, retention_days: float, now: datetime) -> None:
    if not is_frozen(facts, retention_days, now):
        return
    aging = ages_at(facts, retention_days)
    assert aging is not None
    raise RollupFrozenError(
        f"rebuilding the rollups of {day}: its rows age out from {in_utc(aging)} on "
        f"(IOT_RETENTION_DAYS={retention_days:g}), so a rebuild would leave readings out. Its "
        "rollups stay as they are; choose later days"
    )


class _Rebuild:
    """One day: pages in, hours of one device at a time per slot, rollups out."""

    def __init__(
        self,
        ports: RollupPorts,
        day_number: int,
        write_time_us: int,
        retry_seconds: float,
        page_rows: int,
        progress: RollupProgress,
        observe: Callable[[Mapping[int, Rollup]], None],
    ) -> None:
        self._observe = observe
        self._rows, self._rollups = ports.rows, ports.rollups
        self._day, self._write_time = day_number, write_time_us
        self._page_rows, self._progress = page_rows, progress
        self._reads = Flight(ports.rows.wait, retry_seconds)
        self._writes = Flight(ports.rollups.wait, retry_seconds)

    def run(self, devices: Sequence[str], on_progress: Callable[[RollupProgress], None]) -> None:
        waiting = iter(devices)
        is_over = False
        while not is_over or self._reads.size or self._writes.size:
            while not is_over and self._may_read():
                device_id = next(waiting, None)
                is_over = device_id is None
                if device_id is not None:
                    self._read(device_id, {}, (self._day + 1) * MS_PER_DAY - 1)
            answered = self._reads.take_answers()
            answered = self._writes.take_answers() or answered
            self._progress.seconds = time.monotonic() - self._progress.began
            on_progress(self._progress)
            if not answered and (self._reads.size or self._writes.size):
                self._rollups.wait(0.1)

    def _may_read(self) -> bool:
        return self._reads.size < DEVICES_IN_FLIGHT and self._writes.size < _WRITES_IN_FLIGHT

    def _read(self, device_id: str, hours: dict[int, Rollup], last_ms: int) -> None:
        def take(page: Readings) -> None:
            rows = page.found
            add_page(hours, rows)
            self._progress.readings += len(rows)
            if len(rows) >= self._page_rows:
                self._read(device_id, hours, rows[-1][0] - 1)
            else:
                self._write(device_id, hours)

        self._reads.start(
            lambda: self._rows.start_page(
                device_id,
                self._day,
                self._day * MS_PER_DAY,
                last_ms,
                self._page_rows,
                newest_first=True,
            ),
            take,
        )

    def _write(self, device_id: str, hours: Mapping[int, Rollup]) -> None:
        self._observe(hours)
        whole = day_of_hours(hours)
        left = 2

        def acknowledged(_: Pending) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._progress.devices_done += 1
                self._progress.hours += len(hours)

        self._writes.start(
            lambda: self._rollups.send_hours(device_id, self._day, hours, self._write_time),
            acknowledged,
        )
        self._writes.start(
            lambda: self._rollups.send_day(device_id, self._day, whole, self._write_time),
            acknowledged,
        )
