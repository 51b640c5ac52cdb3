"""Readings as Parquet, row group by row group. Importing this imports pyarrow: do so where needed.

| column | Arrow type |
|---|---|
| device_id | dictionary<string> |
| timestamp | timestamp[ms, UTC] |
| each quantity | that of its CQL type; its unit is in the field's metadata |

The UTC day is not a column of the file: it is the folder's name (`day=2026-11-22`), which Arrow,
pandas, DuckDB and Spark read as a column of the dataset.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from iot_pipeline.core.reading.quantities import Quantity, QuantityType
from iot_pipeline.core.reading.spans import Page
from iot_pipeline.files import whole_file

# About 3 MB of Parquet and 20 MB of Python: large enough to compress, small enough to hold.
ROW_GROUP_ROWS = 100_000
FILE_NAME = "readings.parquet"


_TYPES: dict[QuantityType, Any] = {
    "double": pa.float64(),
    "float": pa.float32(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
}


def schema_of(quantities: Sequence[Quantity]) -> Any:
    """The columns of a file; each quantity's unit is in its field's metadata."""
    return pa.schema(
        [
            pa.field("device_id", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
            *(
                pa.field(item.name, _TYPES[item.type], metadata={"unit": item.unit})
                for item in quantities
            ),
        ]
    )


class ParquetReadings:
    """Writes pages into an open Parquet file; a row group is whole pages."""

    def __init__(self, writer: Any, schema: Any, group_rows: int) -> None:
        self._writer, self._schema, self._group_rows = writer, schema, group_rows
        self._columns: list[list[Any]] = [[] for _ in schema]

    def write(self, page: Page) -> None:
        """Take a page; a row group goes out when it has `group_rows` at least."""
        names = [page.device_id] * len(page.rows)
        for column, more in zip(self._columns, (names, *zip(*page.rows, strict=True)), strict=True):
            column += more
        if len(self._columns[0]) >= self._group_rows:
            self.flush()

    def flush(self) -> None:
        if self._columns[0]:
            columns = [
                pa.array(values, field.type)
                for values, field in zip(self._columns, self._schema, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
            self._columns = [[] for _ in self._schema]


@contextmanager
def parquet_readings(
    sink: "str | IO[bytes]", quantities: Sequence[Quantity], group_rows: int = ROW_GROUP_ROWS
) -> Iterator[ParquetReadings]:
    """Write Parquet into a sink; it is of no use when the block ends with an error."""
    # Sorted by device and time, so times compress by their differences.
    schema = schema_of(quantities)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        readings = ParquetReadings(writer, schema, group_rows)
        yield readings
        readings.flush()


@contextmanager
def parquet_file(path: Path, quantities: Sequence[Quantity]) -> Iterator[ParquetReadings]:
    """A Parquet file that appears at `path` when the block ends well, and not at all else."""
    with whole_file(path) as partial, parquet_readings(str(partial), quantities) as readings:
        yield readings
