"""Every device that has readings lately, and how it is: bounded questions, many at once.

Per device one question for its newest rows (and one for its count of today), each of one
Cassandra partition; which partitions there are is known from devices_by_day.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeVar

from iot_pipeline.core.cadence import LEARNED_FROM
from iot_pipeline.core.device_tally import QualityLimits
from iot_pipeline.core.devices import DeviceState, NewestRow, describe_device
from iot_pipeline.core.reading_spans import day_span
from iot_pipeline.core.reporting import LEAST_READINGS
from iot_pipeline.stages.ports import Count, PendingRows, RowReader

_IN_FLIGHT = 32
_P = TypeVar("_P", PendingRows, Count)


class DeviceDays(Protocol):
    """Which devices have readings on which day, and how many."""

    def devices(self, day: date) -> list[str]: ...
    def send_count(self, device_id: str, day: date) -> Count: ...


@dataclass(frozen=True, slots=True)
class LookProgress:
    """How many of the devices were looked at."""

    done: int
    total: int


@dataclass(slots=True)
class _Asked:
    device_id: str
    days: list[date]
    rows: PendingRows
    count: Count | None
    found: list[NewestRow]


def find_devices(days: DeviceDays, now: datetime, look_back_days: int) -> dict[str, list[date]]:
    """device_id -> the days it has readings on, newest first, of so many days up to tomorrow.

    Tomorrow too: a device's clock may be ahead of ours around midnight.
    """
    tomorrow = now.astimezone(UTC).date() + timedelta(days=1)
    found: dict[str, list[date]] = {}
    for back in range(look_back_days + 1):
        day = tomorrow - timedelta(days=back)
        for device_id in days.devices(day):
            found.setdefault(device_id, []).append(day)
    return found


def read_devices(
    days: DeviceDays,
    rows: RowReader,
    now: datetime,
    limits: QualityLimits,
    *,
    look_back_days: int = 7,
    is_counted: bool = True,
    on_progress: Callable[[LookProgress], None] | None = None,
) -> list[DeviceState]:
    """The state of every device with readings in the last days, by name.

    Args:
        days: which devices there are.
        rows: their newest rows.
        now: aware; what silence is measured against.
        limits: how much silence is fine.
        look_back_days: the current UTC day and those before it, at least 1.
        is_counted: whether to count today's readings: the dearer half.
        on_progress: told as answers come.

    Raises:
        CassandraUnavailableError: no answer.
        SchemaMismatchError: no such table.
    """
    known = find_devices(days, now, look_back_days)
    return look_at(
        days, rows, known, now, now, limits, is_counted=is_counted, on_progress=on_progress
    )


def look_at(
    days: DeviceDays,
    rows: RowReader,
    known: Mapping[str, list[date]],
    now: datetime,
    as_of: datetime,
    limits: QualityLimits,
    *,
    is_counted: bool = False,
    on_progress: Callable[[LookProgress], None] | None = None,
) -> list[DeviceState]:
    """The same of these devices: device_id -> its days, newest first, at least one.

    `as_of`: until when all that arrived is in the table; silence after it is nobody's fault.
    """
    today = now.astimezone(UTC).date()
    waiting = iter(sorted(known))
    in_flight: deque[_Asked] = deque()
    states: list[DeviceState] = []
    done = 0

    def ask(device_id: str, on: list[date], found: list[NewestRow]) -> _Asked:
        count = None
        if is_counted and today in on:
            count = days.send_count(device_id, today)
        span = day_span(device_id, on[0])
        pending = rows.start_range(
            device_id, span.day_number, span.first_ms, span.last_ms, LEARNED_FROM
        )
        return _Asked(device_id, on, pending, count, found)

    while True:
        while len(in_flight) < _IN_FLIGHT and (device_id := next(waiting, None)) is not None:
            in_flight.append(ask(device_id, known[device_id], []))
        if not in_flight:
            return states
        first = in_flight.popleft()
        found = [*first.found, *_newest(rows, first)]
        if len(found) < LEAST_READINGS and len(first.days) > 1:
            # A day that has just begun tells no rhythm. And devices_by_day is written beside the
            # rows, which may have been deleted since.
            again = ask(first.device_id, first.days[1:], found)
            again.count = first.count or again.count
            in_flight.appendleft(again)
            continue
        if found:
            count = 0 if is_counted else None
            if first.count is not None:
                count = _wait_for(rows, first.count).rows
            states.append(describe_device(first.device_id, found, count, as_of, limits))
        done += 1
        if on_progress is not None:
            on_progress(LookProgress(done, len(known)))


def _newest(rows: RowReader, asked: _Asked) -> Iterator[NewestRow]:
    for ms, (temperature, humidity, temperature_us, humidity_us) in _wait_for(
        rows, asked.rows
    ).found:
        written_us = temperature_us if temperature_us is not None else humidity_us
        arrived_ms = None if written_us is None else written_us // 1000
        yield NewestRow(ms, temperature, humidity, arrived_ms)


def _wait_for(rows: RowReader, pending: _P) -> _P:
    while not pending.done:
        rows.wait(0.1)
    if pending.error is not None:
        raise pending.error
    return pending
