"""Torn rows that were written again whole, remembered for good."""

from datetime import datetime

from iot_pipeline.clients.cassandra import Table, ms_of
from iot_pipeline.core.proof.mended import MendedRow

_MENDED = "{ks}.mended_rows"
# All of them; rows are torn seldom, so this is short.
_READ = f"SELECT device_id, timestamp, kafka_partition, kafka_offset, mended_us FROM {_MENDED}"
_WRITE = (
    f"INSERT INTO {_MENDED} (device_id, timestamp, kafka_partition, kafka_offset, mended_us, "
    "mended_at, mended_by) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class CassandraMendedRows(Table):
    """A `MendLog`."""

    def read_mended(self) -> list[MendedRow]:
        return [
            MendedRow(row[0], ms_of(row[1]), row[2], row[3], row[4])
            for row in self._run(_READ, doing="reading mended rows")
        ]

    def record_mend(self, mended: MendedRow, mended_at: datetime, mended_by: str) -> None:
        self._run(
            _WRITE,
            (
                mended.device_id,
                mended.timestamp_ms,
                mended.partition,
                mended.offset,
                mended.written_us,
                mended_at,
                mended_by,
            ),
            doing=f"recording the mend of a row of {mended.device_id}",
        )
