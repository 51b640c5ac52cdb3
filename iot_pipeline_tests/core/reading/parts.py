"""Readings that are told in parts, and which record each cell is of: one after the other."""

import json
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from hypothesis import strategies as st

from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.write_times import Row, rank, record_of, write_time_us
from iot_pipeline_tests.core.reading.declared import of_one

RULES = ReadingRules(
    of_one(
        device="key",
        time="{path: t, as: milliseconds}",
        quantities="{x: {optional: true}, n: {optional: true, type: int}, z: {optional: true, "
        "type: text}}",
    )
)
# With one that every reading has.
ONE_REQUIRED = ReadingRules(
    of_one(
        device="key",
        time="{path: t, as: milliseconds}",
        quantities="{x: {}, n: {optional: true, type: int}, z: {optional: true, type: text}}",
    )
)
MS = 1_764_201_599_999
PRODUCED_MS = 1_764_201_600_500
DAY_MS = 86_400_000
Key = tuple[str, int]

_cells = st.tuples(
    st.none() | st.sampled_from([1.0, 2.0]),
    st.none() | st.sampled_from([1, 2]),
    st.none() | st.sampled_from(["a", "b"]),
)
drawn_records = st.lists(
    st.tuples(
        st.sampled_from([0, 1]),
        st.sampled_from([1, 1, 62]),
        st.sampled_from([0, 0, 1]),
        st.sampled_from(["a", "b", "longer"]),
        st.sampled_from([0, 0, 1, -1, DAY_MS]),
        _cells,
    ),
    max_size=40,
)
Drawn = list[tuple[int, int, int, str, int, tuple[Any, ...]]]


@cache
def decoder_of(rules: ReadingRules) -> ReadingDecoder:
    return ReadingDecoder(rules)


def record(partition: int, offset: int, produced_ms: int, device: str, ms: int, *cells: Any):
    told = {name: value for name, value in zip("xnz", cells, strict=True) if value is not None}
    return Record(
        partition, offset, produced_ms, device.encode(), json.dumps({"t": ms} | told).encode()
    )


def records_of(drawn: Drawn) -> list[Record]:
    offsets: dict[int, int] = defaultdict(int)
    produced: dict[int, int] = defaultdict(lambda: PRODUCED_MS)
    found = []
    for partition, skip, step, device, ms, cells in drawn:
        offsets[partition] += skip
        produced[partition] += step
        found.append(
            record(partition, offsets[partition], produced[partition], device, MS + ms, *cells)
        )
    return found


def rows_of(records: Iterable[Record], rules: ReadingRules) -> dict[Key, list[Row]]:
    """All rows of each key, those that win first."""
    decoder = decoder_of(rules)
    found: dict[Key, list[Row]] = defaultdict(list)
    for item in records:
        reading: Any = decoder.decode_record(item)
        if hasattr(reading, "device_id"):
            row = (
                write_time_us(item.produced_ms, item.offset, item.partition),
                item.offset,
                item.partition,
                *decoder.values_of(reading),
            )
            found[reading.device_id, round(reading.timestamp * 1000)].append(row)
    return {key: sorted(rows, key=rank) for key, rows in found.items()}


def cells_of(records: Iterable[Record], rules: ReadingRules) -> dict[tuple[Key, int], Any]:
    """(value, who wrote it) of each cell: that of the first row that has one."""
    return {
        (key, at): next((row[3 + at], record_of(row)) for row in rows if row[3 + at] is not None)
        for key, rows in rows_of(records, rules).items()
        for at in range(3)
        if any(row[3 + at] is not None for row in rows)
    }
