"""Readings that were deleted on purpose, remembered for good."""

from collections.abc import Mapping
from datetime import date, datetime

from iot_pipeline.clients.cassandra import Table, aware, by_day, ms_of
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.rollups.days import DeletedPart

_DELETIONS = "{ks}.deletions"
# All of them; people delete seldom, so this is short.
_READ = f"SELECT * FROM {_DELETIONS}"
_RECORD = (
    f"INSERT INTO {_DELETIONS} (device_id, deleted_at, since, until, deleted_us, rows_by_day, "
    "reason, deleted_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class CassandraDeletions(Table):
    """A `DeletionLog`."""

    def read_deletions(self) -> list[Deletion]:
        return [
            Deletion(
                row.device_id,
                ms_of(row.since),
                ms_of(row.until),
                row.deleted_us,
                row.reason,
                row.deleted_by,
            )
            for row in self._run(_READ, doing="reading deletions")
        ]

    def deleted_parts(self) -> list[DeletedPart]:
        return [
            DeletedPart(
                f"deletion {row.device_id} {row.deleted_at} {row.since}",
                aware(row.deleted_at),
                by_day(row.rows_by_day),
            )
            for row in self._run(_READ, doing="reading deletions")
        ]

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: Mapping[date, int]
    ) -> None:
        self._run(
            _RECORD,
            (
                deletion.device_id,
                deleted_at,
                deletion.since_ms,
                deletion.until_ms,
                deletion.deleted_us,
                dict(rows_by_day),
                deletion.reason,
                deletion.deleted_by,
            ),
            doing=f"recording the deletion of readings of {deletion.device_id}",
        )
