"""Rollups merge: a part and a part make the whole, in any order, within rounding."""

import math
import statistics
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.checks.schema import read_tables
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import PlainRow
from iot_pipeline.core.rollups.statistics import (
    Rollup,
    add_page,
    as_cells,
    columns_of,
    day_of_hours,
    from_cells,
    is_same,
    merge,
    summarize,
)
from iot_pipeline.core.times import MS_PER_HOUR
from iot_pipeline_tests.core.checks.shipped import MIGRATIONS

DAY_MS = 20_086 * 86_400_000
values = st.none() | st.floats(-100, 150, allow_nan=False)
rows = st.lists(
    st.tuples(st.integers(DAY_MS, DAY_MS + 86_399_999), *(values for _ in QUANTITIES)),
    max_size=60,
    unique_by=lambda row: row[0],
)


def close(one: float, other: float, scale: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9 * scale)


_COLUMNS = columns_of(QUANTITIES)


@given(rows, st.integers(0, 60))
def test_the_rollup_of_parts_merged_is_the_rollup_of_the_whole(
    all_rows: list[PlainRow], cut: int
) -> None:
    one, other = all_rows[:cut], all_rows[cut:]
    whole = summarize(all_rows, QUANTITIES)
    assert is_same(merge(summarize(one, QUANTITIES), summarize(other, QUANTITIES)), whole)
    assert is_same(merge(summarize(other, QUANTITIES), summarize(one, QUANTITIES)), whole)


@given(rows)
def test_each_number_is_what_the_library_says_of_the_same_values(
    all_rows: list[PlainRow],
) -> None:
    rollup = reduce(merge, (summarize([row], QUANTITIES) for row in all_rows), Rollup())
    assert rollup.count == len(all_rows)
    for position, quantity in enumerate(QUANTITIES, start=1):
        stats = rollup.stats.get(quantity.name)
        timed = sorted((row[0], row[position]) for row in all_rows if row[position] is not None)
        if not timed:
            assert stats is None
            continue
        assert stats is not None
        plain = [value for _, value in timed if value is not None]
        # Squares of values near 1e-160 vanish; no sensor resolves a thousandth.
        scale = max(1e-3, *map(abs, plain))
        assert (stats.count, stats["min"], stats["max"]) == (len(plain), min(plain), max(plain))
        assert (stats["first"], stats["last"]) == (plain[0], plain[-1])
        assert close(stats["mean"], statistics.fmean(plain), scale)
        assert close(stats["stddev"], statistics.pstdev(plain), scale)
        assert stats["min"] <= stats["mean"] <= stats["max"]


@given(rows, st.integers(1, 7))
def test_pages_of_any_size_and_order_give_the_same_hours(
    all_rows: list[PlainRow], size: int
) -> None:
    newest_first = sorted(all_rows, reverse=True, key=lambda row: row[0])
    paged: dict[int, Rollup] = {}
    for at in range(0, len(newest_first), size):
        add_page(paged, newest_first[at : at + size], QUANTITIES)
    at_once: dict[int, Rollup] = {}
    add_page(at_once, all_rows, QUANTITIES)
    assert paged.keys() == at_once.keys() == {row[0] - row[0] % MS_PER_HOUR for row in all_rows}
    assert all(is_same(paged[hour], at_once[hour]) for hour in paged)
    assert is_same(day_of_hours(paged), summarize(all_rows, QUANTITIES))


def test_a_small_spread_beside_a_large_mean_keeps_its_digits() -> None:
    # The usual sum of squares less the square of the sum says 0 here, or less.
    rollup = summarize([(ms, 1e9 + ms % 2, 0.0) for ms in range(1000)], QUANTITIES)
    assert rollup.stats["temperature"]["stddev"] == 0.5
    halves = [
        summarize([(ms, 1e9 + ms % 2, 0.0) for ms in part], QUANTITIES)
        for part in (range(500), range(500, 1000))
    ]
    merged = merge(*halves).stats["temperature"]
    assert math.isclose(merged["stddev"], 0.5, rel_tol=1e-9)


def test_zero_is_a_reading_and_a_missing_cell_is_none() -> None:
    rollup = summarize([(1, 0.0, None), (2, -0.5, None)], QUANTITIES)
    assert rollup.count == 2
    assert rollup.stats.keys() == {"temperature"}
    assert (rollup.stats["temperature"]["first"], rollup.stats["temperature"]["max"]) == (0.0, 0.0)


def test_any_other_value_is_another_rollup() -> None:
    one = summarize([(1, 1.0, 2.0), (2, 3.0, 4.0)], QUANTITIES)
    for other in (
        [(1, 1.0, 2.0)],
        [(1, 1.0, 2.0), (3, 3.0, 4.0)],
        [(1, 1.0, 2.0), (2, 3.0, None)],
        [(1, 1.0, 2.0), (2, 3.0, 4.000001)],
        [(1, 3.0, 2.0), (2, 1.0, 4.0)],
    ):
        assert not is_same(one, summarize(other, QUANTITIES))


@given(rows)
def test_a_rollup_is_the_same_when_it_comes_back_from_its_cells(
    all_rows: list[PlainRow],
) -> None:
    rollup = summarize(all_rows, QUANTITIES)
    cells = as_cells(rollup, QUANTITIES)
    assert len(cells) == len(_COLUMNS) == len(set(_COLUMNS))
    assert is_same(from_cells(cells, QUANTITIES), rollup)
    of_humidity = dict(zip(_COLUMNS, cells, strict=True))
    if "humidity" not in rollup.stats:
        assert (of_humidity["humidity_count"], of_humidity["humidity_last"]) == (0, None)
    else:
        assert of_humidity["humidity_last"] == rollup.stats["humidity"]["last"]


@pytest.mark.parametrize("table", ["hourly_readings", "daily_readings"])
def test_the_tables_have_the_columns_of_the_statistics(table: str) -> None:
    columns = list(read_tables(MIGRATIONS)[table])
    assert columns[:2] == ["device_id", "month"]
    assert set(columns[3:]) == set(_COLUMNS)
