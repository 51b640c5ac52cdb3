"""Pages become a Parquet file: every row in order, groups of a bounded size."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from iot_pipeline.artifacts.parquet import parquet_readings, schema_of
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import Page, PlainRow


def test_groups_keep_every_row_in_order_and_are_bounded() -> None:
    others: list[float | None] = [None for _ in QUANTITIES[1:]]
    rows: list[PlainRow] = [(ms, *[ms / 2, *others]) for ms in range(4)]
    pages = [Page(f"d{number}", rows) for number in range(7)]
    sink = io.BytesIO()
    with parquet_readings(sink, QUANTITIES, group_rows=10) as readings:
        for page in pages:
            readings.write(page)
    sink.seek(0)
    file = pq.ParquetFile(sink)
    sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    assert sizes == [12, 12, 4]
    table = file.read()
    assert table.schema.equals(schema_of(QUANTITIES), check_metadata=True)
    assert table["device_id"].to_pylist() == [page.device_id for page in pages for _ in range(4)]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [0, 1, 2, 3] * 7
    assert table["temperature"].to_pylist() == [0.0, 0.5, 1.0, 1.5] * 7
    assert table["humidity"].null_count == 28


def test_a_file_without_readings_is_a_file() -> None:
    sink = io.BytesIO()
    with parquet_readings(sink, QUANTITIES):
        pass
    sink.seek(0)
    assert pq.read_table(sink).num_rows == 0
