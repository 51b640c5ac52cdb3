"""Readings as Parquet, row group by row group; pyarrow is imported by whoever imports this.

| column | Arrow type |
|---|---|
| device_id | dictionary<string> |
| timestamp | timestamp[ms, UTC] |
| each quantity | double; its unit is in the field's metadata |

The UTC day is not a column of the file: it is the folder's name (`day=2026-11-22`), which Arrow,
pandas, DuckDB and Spark read as a column of the dataset.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from iot_pipeline.artifacts.whole_file import whole_file
from iot_pipeline.core.reading.columns import ColumnGroup, Grouping
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import Page

# About 3 MB of Parquet and 20 MB of Python: large enough to compress, small enough to hold.
ROW_GROUP_ROWS = 100_000
FILE_NAME = "readings.parquet"

SCHEMA = pa.schema(
    [
        pa.field("device_id", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        *(pa.field(item.name, pa.float64(), metadata={"unit": item.unit}) for item in QUANTITIES),
    ]
)


class ParquetReadings:
    """Writes pages into an open Parquet file; a row group is whole pages."""

    def __init__(self, sink: "str | IO[bytes]", group_rows: int = ROW_GROUP_ROWS) -> None:
        self._grouping = Grouping(group_rows)
        # Sorted by device and time, so times compress by their differences.
        self._writer: Any = pq.ParquetWriter(sink, SCHEMA, compression="zstd")

    def write(self, page: Page) -> None:
        """Take a page; a row group goes out when there is enough for one."""
        for group in self._grouping.add(page):
            self._write(group)

    def close(self) -> None:
        """Write what is left, and the footer: before it the file is no Parquet."""
        for group in self._grouping.rest():
            self._write(group)
        self._writer.close()

    def abandon(self) -> None:
        """Close without what is left; the file is of no use."""
        self._writer.close()

    def _write(self, group: ColumnGroup) -> None:
        columns = [
            pa.array(group.device_ids, pa.string()).dictionary_encode(),
            pa.array(group.times_ms, pa.timestamp("ms", tz="UTC")),
            *(pa.array(values, pa.float64()) for values in group.values),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))


@contextmanager
def parquet_file(path: Path) -> Iterator[ParquetReadings]:
    """A Parquet file that appears at `path` when the block ends well, and not at all else."""
    with whole_file(path) as partial:
        readings = ParquetReadings(str(partial))
        try:
            yield readings
        except BaseException:
            readings.abandon()
            raise
        readings.close()
