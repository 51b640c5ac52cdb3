"""Rows of `sensor_data` in the order of time, page by page, many pages on their way at once."""

from datetime import date

from iot_pipeline.clients.cassandra import DAY_ZERO, PLAIN_TUPLES, Asked, CassandraClient
from iot_pipeline.core.fleet.view import Slot
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import PlainRow

_PAGE = (
    "SELECT to_unix_timestamp(timestamp), temperature, humidity FROM {ks}.sensor_data "
    "WHERE device_id = ? AND day = ? AND timestamp >= ? AND timestamp <= ? "
    "ORDER BY timestamp ASC LIMIT ?"
)
# Averaged where the rows are: one row per slot travels. Cassandra takes no marker for its length.
_SLOTS = (
    f"SELECT to_unix_timestamp(floor(timestamp, {{slot}})), AVG({QUANTITIES[0].name}) "
    "FROM {ks}.sensor_data "
    "WHERE device_id = ? AND day = ? AND timestamp >= ? AND timestamp <= ? "
    "GROUP BY floor(timestamp, {slot})"
)
_DAYS = "SELECT DISTINCT day FROM {ks}.devices_by_day"
_DEVICES = "SELECT device_id FROM {ks}.devices_by_day WHERE day = ?"


class FoundPage(Asked):
    """A page on its way: a `PendingPage`."""

    @property
    def found(self) -> list[PlainRow]:
        return [tuple(row) for row in self._answer.rows]


class FoundSlots(Asked):
    """Means of slots on their way: a `PendingSlots`."""

    @property
    def found(self) -> list[Slot]:
        return sorted((start_ms, mean) for start_ms, mean in self._answer.rows)


class CassandraReadingPages:
    """A `ReadingPages` and a `SlotCounts` over the client's session; never a scan of the table.

    Raises:
        CassandraUnavailableError: no answer.
        SchemaMismatchError: no such table.
    """

    def __init__(self, client: CassandraClient) -> None:
        self._client = client
        self._page = _PAGE.format(ks=client.keyspace)

    def days(self) -> list[date]:
        """The UTC days that have readings, oldest first: the keys of devices_by_day."""
        rows = self._client.execute(
            _DAYS.format(ks=self._client.keyspace), doing="listing the days that have readings"
        )
        return sorted(row.day.date() for row in rows)

    def devices(self, day: date) -> list[str]:
        """The devices that have readings on that day, by name."""
        cql = _DEVICES.format(ks=self._client.keyspace)
        rows = self._client.execute(cql, (day,), doing=f"listing the devices of {day}")
        return sorted(row.device_id for row in rows)

    def start_page(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, limit: int
    ) -> FoundPage:
        """Start reading rows from first_ms to last_ms, both inclusive, the oldest first."""
        values = (device_id, day_number + DAY_ZERO, first_ms, last_ms, limit)
        return FoundPage(
            self._client.start(
                lambda: self._client.prepare(self._page).bind(values),
                f"reading {device_id} in {self._client.keyspace}.sensor_data",
                PLAIN_TUPLES,
            )
        )

    def start_slots(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, slot_ms: int
    ) -> FoundSlots:
        """Start averaging rows from first_ms to last_ms, both inclusive, by slots of time."""
        cql = _SLOTS.format(ks=self._client.keyspace, slot=f"{slot_ms // 1000}s")
        values = (device_id, day_number + DAY_ZERO, first_ms, last_ms)
        return FoundSlots(
            self._client.start(
                lambda: self._client.prepare(cql).bind(values),
                f"averaging {device_id} in {self._client.keyspace}.sensor_data",
                PLAIN_TUPLES,
            )
        )

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)
