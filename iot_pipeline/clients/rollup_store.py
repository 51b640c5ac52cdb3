"""Rollups by the device and day, and what rebuilds of days left behind."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date
from itertools import chain
from typing import Any

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_answers import DAY_ZERO, PendingAnswer, all_rows, aware
from iot_pipeline.clients.table import Table
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.rollups.statistics import Rollup, as_cells, columns_of, from_cells
from iot_pipeline.core.times import MS_PER_DAY, day_of

_HOURLY = "{ks}.hourly_readings"
_DAILY = "{ks}.daily_readings"
_REBUILDS = "{ks}.rollup_days"
_INSTANTS = ("first_at", "last_at")
_OF_MONTH = "WHERE device_id = ? AND month = ?"
_DROP_HOURS = f"DELETE FROM {_HOURLY} USING TIMESTAMP ? {_OF_MONTH} AND hour >= ? AND hour < ?"
_DROP_DAY = f"DELETE FROM {_DAILY} USING TIMESTAMP ? {_OF_MONTH} AND day = ?"
_DROP_MONTH = tuple(f"DELETE FROM {table} {_OF_MONTH}" for table in (_HOURLY, _DAILY))
_COUNT_MONTH = tuple(f"SELECT COUNT(*) FROM {table} {_OF_MONTH}" for table in (_HOURLY, _DAILY))
# The columns of `rollup_days` behind the topic.
_RECORD = tuple(field.name for field in fields(DayRecord))
_RECORDS = f"SELECT * FROM {_REBUILDS} WHERE topic = ?"


class CassandraRollupStore(Table):
    """A `RollupStore`: of these quantities, in the order in which they are told."""

    def __init__(self, client: CassandraClient, quantities: Sequence[Quantity]) -> None:
        super().__init__(client)
        self._quantities = quantities
        names = columns_of(quantities)
        marks = ", ".join("?" * len(names))
        written = f"{', '.join(names)}) VALUES (?, ?, ?, {marks}) USING TIMESTAMP ?"
        self._insert_hour = f"INSERT INTO {_HOURLY} (device_id, month, hour, {written}"
        self._insert_day = f"INSERT INTO {_DAILY} (device_id, month, day, {written}"
        stored = ", ".join(
            f"toUnixTimestamp({name})" if name in _INSTANTS else name for name in names
        )
        self._hours = (
            f"SELECT toUnixTimestamp(hour), {stored} FROM {_HOURLY} "
            f"{_OF_MONTH} AND hour >= ? AND hour < ?"
        )
        self._days = (
            f"SELECT toUnixTimestamp(day), {stored} FROM {_DAILY} "
            f"{_OF_MONTH} AND day >= ? AND day < ?"
        )

    def send_hours(
        self, device_id: str, day_number: int, hours: Mapping[int, Rollup], write_time_us: int
    ) -> PendingAnswer[Any]:
        place, day_ms = (device_id, _month_of(day_number)), day_number * MS_PER_DAY
        # One below: of a deletion and a cell with equal write times the deletion wins.
        drop = (write_time_us - 1, *place, day_ms, day_ms + MS_PER_DAY)
        inserts = (
            (self._insert_hour, (*place, hour, *self._cells(rollup), write_time_us))
            for hour, rollup in hours.items()
        )
        doing = f"writing the hours of {device_id} of {day_of(day_number)}"
        return self._send(chain([(_DROP_HOURS, drop)], inserts), doing)

    def send_day(
        self, device_id: str, day_number: int, rollup: Rollup, write_time_us: int
    ) -> PendingAnswer[Any]:
        place = (device_id, _month_of(day_number), day_number + DAY_ZERO)
        doing = f"writing the day {day_of(day_number)} of {device_id}"
        if not rollup.count:
            return self._start(_DROP_DAY, (write_time_us, *place), doing, all_rows)
        values = (*place, *self._cells(rollup), write_time_us)
        return self._start(self._insert_day, values, doing, all_rows)

    def start_hours(
        self, device_id: str, first_day: int, last_day: int
    ) -> PendingAnswer[dict[int, Rollup]]:
        span = (first_day * MS_PER_DAY, (last_day + 1) * MS_PER_DAY)
        return self._start_rollups(self._hours, "hours", device_id, first_day, span)

    def start_days(
        self, device_id: str, first_day: int, last_day: int
    ) -> PendingAnswer[dict[int, Rollup]]:
        span = (first_day + DAY_ZERO, last_day + 1 + DAY_ZERO)
        return self._start_rollups(self._days, "days", device_id, first_day, span)

    def _start_rollups(
        self, cql: str, what: str, device_id: str, first_day: int, span: tuple[int, int]
    ) -> PendingAnswer[dict[int, Rollup]]:
        doing = f"reading the {what} of {device_id} from {day_of(first_day)} on"
        return self._start(cql, (device_id, _month_of(first_day), *span), doing, self._rollups_of)

    def _cells(self, rollup: Rollup) -> list[Any]:
        return as_cells(rollup, self._quantities)

    def _rollups_of(self, rows: Sequence[Any]) -> dict[int, Rollup]:
        return {row[0]: from_cells(row[1:], self._quantities) for row in rows}

    def count_rollups(self, device_id: str, months: Sequence[date]) -> int:
        """Hours and days."""
        doing = f"counting the rollups of {device_id}"
        return sum(
            int(self._run(cql, (device_id, month), doing=doing)[0][0])
            for month in months
            for cql in _COUNT_MONTH
        )

    def delete_rollups(self, device_id: str, months: Sequence[date]) -> None:
        doing = f"deleting the rollups of {device_id}"
        for month in months:
            for cql in _DROP_MONTH:
                self._run(cql, (device_id, month), doing=doing)

    def read_records(self, topic: str) -> dict[date, DayRecord]:
        rows = self._run(_RECORDS, (topic,), doing=f"reading which days of {topic} were rolled up")
        found = (
            DayRecord(
                **{
                    **{name: getattr(row, name) for name in _RECORD},
                    "day": row.day.date(),
                    "rebuilt_at": aware(row.rebuilt_at),
                }
            )
            for row in rows
        )
        return {record.day: record for record in found}

    def record_day(self, topic: str, record: DayRecord) -> None:
        row = {"topic": topic, **{name: getattr(record, name) for name in _RECORD}}
        # With the write time of the rollups themselves.
        self._insert(
            _REBUILDS,
            row,
            doing=f"recording the rollups of {record.day}",
            more="USING TIMESTAMP ?",
            more_values=(record.write_time_us,),
        )


def _month_of(day_number: int) -> date:
    return day_of(day_number).replace(day=1)
