"""Requests of rows of any width stay below what Cassandra warns of, and refuses."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.requests import (
    MAX_BATCH_BYTES,
    MAX_MERGED_BYTES,
    MAX_ROWS_PER_BATCH,
    requests_of,
)
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice


def rows_of(count: int, *values: Any) -> dict[int, Any]:
    return {ms: (1, ms, 0, *values) for ms in range(count)}


def counted_bytes(request: RowSlice) -> int:
    """As Cassandra 5.0.9 counted rows of 2, 5 and 64 doubles, of floats, booleans and text."""
    return sum(
        43 + sum(20 + (len(value.encode()) if isinstance(value, str) else 8) for value in row[3:])
        for _, rows in request.items()
        for row in rows.values()
    )


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
    st.integers(1, 64),
    st.sampled_from(["", "é" * 40, "x" * 3_000]),
)
def test_rows_of_several_partitions_are_no_more_bytes_than_cassandra_warns_of(
    counts: list[int], quantities: int, text: str
) -> None:
    values: list[Any] = [1.0] * quantities
    if text:
        values.append(text)
    groups = {(f"d{at}", 1): rows_of(count, *values) for at, count in enumerate(counts)}
    requests = list(requests_of(RowGroups.of(groups), 1))
    for request in requests:
        assert request.parts == 1 or counted_bytes(request) <= MAX_MERGED_BYTES
    assert sum(map(len, requests)) == sum(counts)
    assert sum(request.parts for request in requests) == len(counts), "none is cut"


def test_wide_rows_share_a_request_with_as_few_as_fit() -> None:
    groups = RowGroups.of({(f"d{at}", 1): rows_of(1, *[1.0] * 64) for at in range(20)})
    assert [len(request) for request in requests_of(groups, 1)] == [2] * 10
    groups = RowGroups.of({(f"d{at}", 1): rows_of(1, "x" * 2_000) for at in range(20)})
    assert [len(request) for request in requests_of(groups, 1)] == [2] * 10


def test_rows_of_two_doubles_fill_a_request_as_they_did() -> None:
    groups = RowGroups.of({(f"d{at}", 1): rows_of(5, 1.0, 2.0) for at in range(100)})
    assert [len(request) for request in requests_of(groups, 1)] == [45] * 11 + [5]


def test_a_group_with_much_text_is_cut_into_parts_that_cassandra_takes() -> None:
    groups = RowGroups.of({("d", 1): rows_of(400, "x" * 60_000)})
    requests = list(requests_of(groups, 1))
    assert sum(map(len, requests)) == 400
    assert all(counted_bytes(request) <= 1.1 * MAX_BATCH_BYTES for request in requests)
    light = list(requests_of(RowGroups.of({("d", 1): rows_of(700, "x")}), 1))
    assert [len(request) for request in light] == [MAX_ROWS_PER_BATCH, MAX_ROWS_PER_BATCH, 100]
    (one,) = requests_of(RowGroups.of({("d", 1): rows_of(1, "x" * 4_000_000)}), 1)
    assert len(one) == 1
