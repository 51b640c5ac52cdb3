"""Readings by the page, rollups by the device and day, and what rebuilds left behind."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from iot_pipeline.clients.cassandra import (
    DAY_ZERO,
    PLAIN_TUPLES,
    Asked,
    CassandraClient,
    PendingAnswer,
    unlogged_batch,
)
from iot_pipeline.core.ingest.micro_batch import day_of
from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline.core.reading.offsets import OffsetRange, parse_range
from iot_pipeline.core.reading.spans import PlainRow
from iot_pipeline.core.rollups.days import DayRecord, DeletedPart, IngestedPart, ReplayedPart
from iot_pipeline.core.rollups.statistics import COLUMNS, Rollup, as_cells, from_cells

# Milliseconds as a number: a datetime of each would cost more than all the rest.
_READINGS = (
    "SELECT to_unix_timestamp(timestamp), temperature, humidity FROM {ks}.sensor_data "
    "WHERE device_id = ? AND day = ? AND timestamp < ? LIMIT ?"
)
_INSERT = (
    "INSERT INTO {{ks}}.{table} (device_id, month, {time}, "
    + ", ".join(COLUMNS)
    + ") VALUES (?, ?, ?, "
    + ", ".join("?" * len(COLUMNS))
    + ") USING TIMESTAMP ?"
)
_INSERT_HOUR = _INSERT.format(table="hourly_readings", time="hour")
_INSERT_DAY = _INSERT.format(table="daily_readings", time="day")
_DROP_HOURS = (
    "DELETE FROM {ks}.hourly_readings USING TIMESTAMP ? "
    "WHERE device_id = ? AND month = ? AND hour >= ? AND hour < ?"
)
_DROP_DAY = (
    "DELETE FROM {ks}.daily_readings USING TIMESTAMP ? "
    "WHERE device_id = ? AND month = ? AND day = ?"
)
_STORED = ", ".join(
    f"to_unix_timestamp({name})" if name.endswith("_at") else name for name in COLUMNS
)
_HOURS = (
    "DELETE FROM {ks}.hourly_readings USING TIMESTAMP ? "
    "WHERE device_id = ? AND month = ? AND hour >= ? AND hour < ?"
)
_DROP_DAY = (
    "DELETE FROM {ks}.daily_readings USING TIMESTAMP ? "
    "WHERE device_id = ? AND month = ? AND day = ?"
)
_STORED = (
    "count, to_unix_timestamp(first_at), to_unix_timestamp(last_at), "
    + ", ".join(COLUMNS)
    + " FROM {ks}."
)
_HOURS = (
    f"SELECT to_unix_timestamp(hour), {_STORED} FROM {{ks}}.hourly_readings "
    "WHERE device_id = ? AND month = ? AND hour >= ? AND hour < ?"
)
_DAYS = (
    f"SELECT to_unix_timestamp(day), {_STORED} FROM {{ks}}.daily_readings "
    "WHERE device_id = ? AND month = ? AND day >= ? AND day < ?"
)
_RECORDS = "SELECT * FROM {ks}.rollup_days WHERE topic = ?"
_RECORD = (
    "INSERT INTO {ks}.rollup_days (topic, day, rebuilt_at, write_time_us, seen, readings, devices, "
    "seconds, run_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_PARTITIONS = "SELECT DISTINCT topic, kafka_partition FROM {ks}.ingest_ledger"
_INGESTED = (
    "SELECT kafka_partition, start_offset, end_offset, stored_by_day, first_record_at "
    "FROM {ks}.ingest_ledger WHERE topic = ? AND kafka_partition = ?"
)
_REPLAYED = (
    "SELECT started_at, run_id, ranges, stored, stored_by_day FROM {ks}.replay_ledger "
    "WHERE topic = ?"
)
_DELETED = "SELECT device_id, deleted_at, since, rows_by_day FROM {ks}.deletions"


class FoundReadings(Asked):
    """A page of readings on its way: a `PendingReadings`."""

    @property
    def found(self) -> Sequence[PlainRow]:
        return self._answer.rows


class FoundRollups(Asked):
    """Rollups on their way: a `PendingRollups`."""

    @property
    def found(self) -> dict[int, Rollup]:
        return {row[0]: from_cells(row[1:]) for row in self._answer.rows}


class CassandraRollupStore:
    """A `RollupStore` over the client's session."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def _cql(self, template: str) -> str:
        return template.format(ks=self._client.keyspace)

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)

    # Readings.

    def devices(self, day: date) -> list[str]:
        """Those that devices_by_day lists, in order."""
        rows = self._client.stream(
            self._cql("SELECT device_id FROM {ks}.devices_by_day WHERE day = ?"),
            (day,),
            doing=f"listing the devices of {day}",
        )
        return [row.device_id for row in rows]

    def start_readings(
        self, device_id: str, day_number: int, before_ms: int, limit: int
    ) -> FoundReadings:
        """Start reading one page of a device's day: before `before_ms`, the newest first."""
        values = (device_id, day_number + DAY_ZERO, before_ms, limit)
        doing = f"reading {device_id} of {day_of(day_number)}"
        return FoundReadings(self._start_plain(_READINGS, values, doing))

    # Rollups.

    def send_hours(
        self, device_id: str, day_number: int, hours: Mapping[int, Rollup], write_time_us: int
    ) -> PendingAnswer:
        """Start replacing the hours of one device's day, in one batch on one partition."""
        month = _month_of(day_number)
        day_ms = day_number * MS_PER_DAY

        def make() -> object:
            drop = self._client.prepare(self._cql(_DROP_HOURS))
            insert = self._client.prepare(self._cql(_INSERT_HOUR))
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
    ) -> PendingAnswer:
        """Start replacing one device's day; an empty rollup removes it."""
        place = (device_id, _month_of(day_number), day_number + DAY_ZERO)

        def make() -> object:
            if not rollup.count:
                drop = self._client.prepare(self._cql(_DROP_DAY))
                return drop.bind((write_time_us, *place))
            insert = self._client.prepare(self._cql(_INSERT_DAY))
            return insert.bind((*place, *as_cells(rollup), write_time_us))

        doing = f"writing the day {day_of(day_number)} of {device_id}"
        return self._client.start(make, doing)

    def start_hours(self, device_id: str, first_day: int, last_day: int) -> FoundRollups:
        """Start reading hours of days of one month, both inclusive, newest first."""
        values = (
            device_id,
            _month_of(first_day),
            first_day * MS_PER_DAY,
            (last_day + 1) * MS_PER_DAY,
        )
        doing = f"reading the hours of {device_id} from {day_of(first_day)} on"
        return FoundRollups(self._start_plain(_HOURS, values, doing))

    def start_days(self, device_id: str, first_day: int, last_day: int) -> FoundRollups:
        """Start reading days of one month, both inclusive, newest first."""
        values = (
            device_id,
            _month_of(first_day),
            first_day + DAY_ZERO,
            last_day + 1 + DAY_ZERO,
        )
        doing = f"reading the days of {device_id} from {day_of(first_day)} on"
        return FoundRollups(self._start_plain(_DAYS, values, doing))

    def _start_plain(self, cql: str, values: tuple[object, ...], doing: str) -> PendingAnswer:
        return self._client.start(
            lambda: self._client.prepare(self._cql(cql)).bind(values), doing, PLAIN_TUPLES
        )

    # What rebuilds left behind.

    def read_records(self, topic: str) -> dict[date, DayRecord]:
        """What the last rebuild of each day recorded."""
        rows = self._client.stream(
            self._cql(_RECORDS), (topic,), doing=f"reading which days of {topic} were rolled up"
        )
        return {
            row.day.date(): DayRecord(
                row.day.date(),
                row.rebuilt_at.replace(tzinfo=UTC),
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
        """Keep what a rebuild saw and did, with the write time of its rollups."""
        self._client.execute(
            self._cql(_RECORD),
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

    # What the ledgers say.

    def ingested_parts(self, topic: str) -> Iterator[IngestedPart]:
        """Every entry of the ingest ledger, of every incarnation of the topic, page by page."""
        keys = self._client.execute(
            self._cql(_PARTITIONS), doing=f"looking for the ledger of {topic}"
        )
        for partition in sorted(row.kafka_partition for row in keys if row.topic == topic):
            rows = self._client.stream(
                self._cql(_INGESTED),
                (topic, partition),
                doing=f"reading the days of the ledger of {topic}[{partition}]",
            )
            for row in rows:
                # The checkpoint is static: a partition without rows still answers with one.
                if row.start_offset is None:
                    continue
                yield IngestedPart(
                    OffsetRange(row.kafka_partition, row.start_offset, row.end_offset),
                    _by_day(row.stored_by_day),
                    None if row.first_record_at is None else _ms(row.first_record_at),
                )

    def replayed_parts(self, topic: str) -> list[ReplayedPart]:
        """Every replay; its name is another one when it has gone on."""
        rows = self._client.stream(
            self._cql(_REPLAYED), (topic,), doing=f"reading the replays of {topic}"
        )
        return [
            ReplayedPart(
                f"replay {row.started_at} {row.run_id} {row.stored} {row.ranges}",
                [parse_range(text) for text in row.ranges or ()],
                row.stored or 0,
                _by_day(row.stored_by_day),
            )
            for row in rows
        ]

    def deleted_parts(self) -> list[DeletedPart]:
        """Every deletion."""
        rows = self._client.execute(self._cql(_DELETED), doing="reading deletions")
        return [
            DeletedPart(
                f"deletion {row.device_id} {row.deleted_at} {row.since}",
                row.deleted_at.replace(tzinfo=UTC),
                _by_day(row.rows_by_day),
            )
            for row in rows
        ]


def _month_of(day_number: int) -> date:
    return day_of(day_number).replace(day=1)


def _by_day(found: Any) -> dict[date, int]:
    return {day.date(): rows for day, rows in (found or {}).items()}


def _ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)
