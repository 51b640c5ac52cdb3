"""Readings counted per device and hour (or less), by the server; never a scan of the table."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from iot_pipeline.clients.cassandra import DAY_ZERO, PLAIN_TUPLES, Asked, CassandraClient

_FIRST_DAY = date(1970, 1, 1)
_DAYS = "SELECT DISTINCT day FROM {ks}.devices_by_day"
_DEVICES = "SELECT device_id FROM {ks}.devices_by_day WHERE day = ?"
# The length of a piece stands in the text: Cassandra takes no marker there, and few are used.
_COUNTS = (
    "SELECT floor(timestamp, {piece}), COUNT(*), MIN(timestamp) FROM {ks}.sensor_data "
    "WHERE device_id = ? AND day = ? AND timestamp >= ? AND timestamp < ? "
    "GROUP BY device_id, day, floor(timestamp, {piece})"
)


class PieceCounts(Asked):
    """Counts on their way: a `PendingCounts`."""

    @property
    def found(self) -> list[tuple[int, int, int]]:
        return [(_ms(row[0]), row[1], _ms(row[2])) for row in self._answer.rows]


class CassandraDeviceHours:
    """Which devices there are on a day, and how many readings they have in each piece of it."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def days(self) -> list[int]:
        """Days (since 1970) that have rows; one key per day is read."""
        rows = self._client.execute(
            _DAYS.format(ks=self._client.keyspace), doing="listing the days that have rows"
        )
        return [(row.day.date() - _FIRST_DAY).days for row in rows]

    def devices_of(self, day_number: int) -> Sequence[str]:
        """Those that devices_by_day lists."""
        cql = _DEVICES.format(ks=self._client.keyspace)
        doing = f"listing the devices of day {day_number}"
        rows = self._client.execute(cql, (day_number + DAY_ZERO,), doing=doing)
        return [row.device_id for row in rows]

    def start_counts(
        self, device_id: str, day_number: int, first_ms: int, end_ms: int, piece_ms: int
    ) -> PieceCounts:
        """Start counting readings from first_ms to before end_ms; the server counts."""
        cql = _COUNTS.format(ks=self._client.keyspace, piece=f"{piece_ms // 1000}s")
        values = (device_id, day_number + DAY_ZERO, first_ms, end_ms)
        return PieceCounts(
            self._client.start(
                lambda: self._client.prepare(cql).bind(values),
                f"counting readings of {device_id} in {self._client.keyspace}.sensor_data",
                PLAIN_TUPLES,
            )
        )

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)


def _ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)
