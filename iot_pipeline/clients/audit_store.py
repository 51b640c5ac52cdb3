"""What audits, deletions and acknowledgements leave in Cassandra, and which partitions exist."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.reading_query import CassandraReadingQuery
from iot_pipeline.core.fleet.report import LastAudit
from iot_pipeline.core.ledger.losses import Acknowledgement
from iot_pipeline.core.proof.audit import AuditResult, Fate
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import Place

_UNIX_EPOCH = date(1970, 1, 1)

_RECORD_AUDIT = (
    "INSERT INTO {ks}.audits (topic, started_at, audit_id, topic_id, ranges, fates, stored_by_day, "
    "superseded_by_day, is_stray_judged, findings, seconds) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RECORD_DELETION = (
    "INSERT INTO {ks}.deletions (device_id, deleted_at, since, until, deleted_us, rows_by_day, "
    "reason, deleted_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_DELETE_RANGE = (
    "DELETE FROM {ks}.sensor_data USING TIMESTAMP ? "
    "WHERE device_id = ? AND day = ? AND timestamp >= ? AND timestamp < ?"
)


class CassandraAuditStore:
    """Keeps what was proved, and what was done on purpose."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def _run(self, cql: str, values: tuple[Any, ...] = (), *, doing: str) -> list[Any]:
        cql = cql.format(ks=self._client.keyspace)
        return self._client.execute(cql, values, doing=doing, timeout_seconds=60.0)

    # Which partitions of sensor_data exist.

    def devices_of(self, day_number: int) -> list[str]:
        """The devices that have rows on a day, by devices_by_day."""
        rows = self._run(
            "SELECT device_id FROM {ks}.devices_by_day WHERE day = ?",
            (_day(day_number),),
            doing="listing the devices of a day",
        )
        return [row.device_id for row in rows]

    def days_of(self, device_id: str) -> list[int]:
        """The days on which a device has rows, by devices_by_day."""
        days = CassandraReadingQuery(self._client).days(device_id)
        return [(day - _UNIX_EPOCH).days for day in days]

    def all_places(self) -> Iterator[Place]:
        """Every partition of sensor_data, by reading its keys: slow, and misses nothing."""
        rows = self._run(
            "SELECT DISTINCT device_id, day FROM {ks}.sensor_data", doing="listing partitions"
        )
        for row in rows:
            yield row.device_id, (row.day.date() - _UNIX_EPOCH).days

    # Audits.

    def record_audit(
        self,
        topic: str,
        topic_id: str,
        audit_id: str,
        started_at: datetime,
        result: AuditResult,
    ) -> None:
        """Keep what an audit found."""
        self._run(
            _RECORD_AUDIT,
            (
                topic,
                started_at,
                audit_id,
                topic_id,
                [str(item) for item in result.ranges],
                {fate.value: result.fates[fate] for fate in Fate},
                dict(result.stored_by_day),
                dict(result.superseded_by_day),
                result.is_stray_judged,
                [str(finding) for finding in result.findings],
                result.seconds,
            ),
            doing="recording the audit",
        )

    def read_last_audit(self, topic: str) -> LastAudit | None:
        """The newest audit of the topic, None when there was none."""
        rows = self._run(
            "SELECT started_at, fates FROM {ks}.audits WHERE topic = ? LIMIT 1",
            (topic,),
            doing=f"reading the last audit of {topic}",
        )
        if not rows:
            return None
        return LastAudit(rows[0].started_at.replace(tzinfo=UTC), dict(rows[0].fates or {}))

    # Losses.

    def acknowledge_loss(self, topic: str, loss_id: str, reason: str, by: str) -> Acknowledgement:
        """Remember that a person has seen this loss, and what was done about it.

        Returns:
            What is kept: the first acknowledgement stays, so it may be an earlier one.
        """
        now = datetime.now(UTC)
        (row,) = self._run(
            "INSERT INTO {ks}.acknowledged_losses (topic, loss_id, acknowledged_at, reason, "
            "acknowledged_by) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS",
            (topic, loss_id, now, reason, by),
            doing=f"acknowledging the loss {loss_id}",
        )
        return Acknowledgement(now, reason, by) if row[0] else _acknowledgement(row)

    def acknowledged_losses(self, topic: str) -> dict[str, Acknowledgement]:
        """loss_id -> who said what, for those that were acknowledged."""
        rows = self._run(
            "SELECT loss_id, acknowledged_at, reason, acknowledged_by "
            "FROM {ks}.acknowledged_losses WHERE topic = ?",
            (topic,),
            doing="reading acknowledged losses",
        )
        return {row.loss_id: _acknowledgement(row) for row in rows}

    # Deletions.

    def read_deletions(self) -> list[Deletion]:
        """All of them; people delete seldom, so this is short."""
        rows = self._run("SELECT * FROM {ks}.deletions", doing="reading deletions")
        return [
            Deletion(
                row.device_id,
                _ms(row.since),
                _ms(row.until),
                row.deleted_us,
                row.reason,
                row.deleted_by,
            )
            for row in rows
        ]

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: dict[date, int]
    ) -> None:
        """Remember a deletion; written before the rows go, so that none goes unexplained."""
        self._run(
            _RECORD_DELETION,
            (
                deletion.device_id,
                deleted_at,
                deletion.since_ms,
                deletion.until_ms,
                deletion.deleted_us,
                rows_by_day,
                deletion.reason,
                deletion.deleted_by,
            ),
            doing=f"recording the deletion of readings of {deletion.device_id}",
        )

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        """Delete the rows of one day that the deletion covers."""
        self._run(
            _DELETE_RANGE,
            (
                deletion.deleted_us,
                deletion.device_id,
                _day(day_number),
                deletion.since_ms,
                deletion.until_ms,
            ),
            doing=f"deleting readings of {deletion.device_id} on {_day(day_number)}",
        )


def _day(day_number: int) -> date:
    return date.fromordinal(_UNIX_EPOCH.toordinal() + day_number)


def _ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _acknowledgement(row: Any) -> Acknowledgement:
    at = row.acknowledged_at.replace(tzinfo=UTC)
    return Acknowledgement(at, row.reason, row.acknowledged_by)
