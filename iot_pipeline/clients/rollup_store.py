"""Rollups by the device and day, and what rebuilds of days left behind."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from iot_pipeline.clients.cassandra import DAY_ZERO, PendingAnswer, Table, aware, unlogged_batch
from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.rollups.statistics import COLUMNS, Rollup, as_cells, from_cells
from iot_pipeline.core.times import MS_PER_DAY, day_of

_HOURLY = "{ks}.hourly_readings"
_DAILY = "{ks}.daily_readings"
_REBUILDS = "{ks}.rollup_days"
_WRITTEN = (
    f"{', '.join(COLUMNS)}) VALUES (?, ?, ?, {', '.join('?' * len(COLUMNS))}) USING TIMESTAMP ?"
)
_STORED = ", ".join(
    f"to_unix_timestamp({name})" if name.endswith("_at") else name for name in COLUMNS
)
_OF_MONTH = "WHERE device_id = ? AND month = ?"
_INSERT_HOUR = f"INSERT INTO {_HOURLY} (device_id, month, hour, {_WRITTEN}"
_INSERT_DAY = f"INSERT INTO {_DAILY} (device_id, month, day, {_WRITTEN}"
_DROP_HOURS = f"DELETE FROM {_HOURLY} USING TIMESTAMP ? {_OF_MONTH} AND hour >= ? AND hour < ?"
_DROP_DAY = f"DELETE FROM {_DAILY} USING TIMESTAMP ? {_OF_MONTH} AND day = ?"
_HOURS = (
    f"SELECT to_unix_timestamp(hour), {_STORED} FROM {_HOURLY} "
    f"{_OF_MONTH} AND hour >= ? AND hour < ?"
)
_DAYS = (
    f"SELECT to_unix_timestamp(day), {_STORED} FROM {_DAILY} {_OF_MONTH} AND day >= ? AND day < ?"
)
_RECORDS = f"SELECT * FROM {_REBUILDS} WHERE topic = ?"
_RECORD = (
    f"INSERT INTO {_REBUILDS} (topic, day, rebuilt_at, write_time_us, seen, readings, devices, "
    "seconds, run_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)


class CassandraRollupStore(Table):
    """A `RollupStore`."""

    def send_hours(
        self, device_id: str, day_number: int, hours: Mapping[int, Rollup], write_time_us: int
    ) -> PendingAnswer[Any]:
        month = _month_of(day_number)
        day_ms = day_number * MS_PER_DAY

        def make() -> object:
            drop = self._prepare(_DROP_HOURS)
            insert = self._prepare(_INSERT_HOUR)
            batch = unlogged_batch()
            # One below: of a deletion and a cell with equal write times the deletion wins.
            span = (day_ms, day_ms + MS_PER_DAY)
            batch.add(drop, (write_time_us - 1, device_id, month, *span))
            for hour, rollup in hours.items():
                batch.add(insert, (device_id, month, hour, *as_cells(rollup), write_time_us))
            return batch

        doing = f"writing the hours of {device_id} of {day_of(day_number)}"
        return self._client.start(make, doing)

    def send_day(
        self, device_id: str, day_number: int, rollup: Rollup, write_time_us: int
    ) -> PendingAnswer[Any]:
        place = (device_id, _month_of(day_number), day_number + DAY_ZERO)

        def make() -> object:
            if not rollup.count:
                drop = self._prepare(_DROP_DAY)
                return drop.bind((write_time_us, *place))
            insert = self._prepare(_INSERT_DAY)
            return insert.bind((*place, *as_cells(rollup), write_time_us))

        doing = f"writing the day {day_of(day_number)} of {device_id}"
        return self._client.start(make, doing)

    def start_hours(
        self, device_id: str, first_day: int, last_day: int
    ) -> PendingAnswer[dict[int, Rollup]]:
        values = (
            device_id,
            _month_of(first_day),
            first_day * MS_PER_DAY,
            (last_day + 1) * MS_PER_DAY,
        )
        doing = f"reading the hours of {device_id} from {day_of(first_day)} on"
        return self._start(_HOURS, values, doing, _rollups_of)

    def start_days(
        self, device_id: str, first_day: int, last_day: int
    ) -> PendingAnswer[dict[int, Rollup]]:
        values = (
            device_id,
            _month_of(first_day),
            first_day + DAY_ZERO,
            last_day + 1 + DAY_ZERO,
        )
        doing = f"reading the days of {device_id} from {day_of(first_day)} on"
        return self._start(_DAYS, values, doing, _rollups_of)

    def read_records(self, topic: str) -> dict[date, DayRecord]:
        rows = self._run(_RECORDS, (topic,), doing=f"reading which days of {topic} were rolled up")
        return {
            row.day.date(): DayRecord(
                row.day.date(),
                aware(row.rebuilt_at),
                row.write_time_us,
                row.seen,
                row.readings,
                row.devices,
                row.seconds,
                row.run_id,
            )
            for row in rows
        }

    def record_day(self, topic: str, record: DayRecord) -> None:
        self._run(
            _RECORD,
            (
                topic,
                record.day,
                record.rebuilt_at,
                record.write_time_us,
                record.seen,
                record.readings,
                record.devices,
                record.seconds,
                record.run_id,
                record.write_time_us,
            ),
            doing=f"recording the rollups of {record.day}",
        )


def _month_of(day_number: int) -> date:
    return day_of(day_number).replace(day=1)


def _rollups_of(rows: Sequence[Any]) -> dict[int, Rollup]:
    return {row[0]: from_cells(row[1:]) for row in rows}
