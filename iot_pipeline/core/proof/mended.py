"""Torn rows that `iot mend` wrote again: the row of a record, with a write time of no record."""

from collections.abc import Iterable
from dataclasses import dataclass

from iot_pipeline.core.reading.write_times import Row, arrived_ms, record_of


@dataclass(frozen=True, slots=True)
class MendedRow:
    """Whose record the row of a key is, and the write time it was given."""

    device_id: str
    timestamp_ms: int
    partition: int
    offset: int
    written_us: int


class MendedRows:
    def __init__(self, mended: Iterable[MendedRow] = ()) -> None:
        self._written_us = {
            (item.device_id, item.timestamp_ms, item.partition, item.offset): item.written_us
            for item in mended
        }

    def row_of(self, device_id: str, timestamp_ms: int, row: Row) -> Row:
        """The row that a record has in the table: with its mended write time, if it was mended."""
        if not self._written_us:
            return row
        written_us = self._written_us.get((device_id, timestamp_ms, *record_of(row)))
        # A topic made anew has other records at the same offsets.
        if written_us is None or arrived_ms(written_us) != arrived_ms(row[0]):
            return row
        return (written_us, *row[1:])
