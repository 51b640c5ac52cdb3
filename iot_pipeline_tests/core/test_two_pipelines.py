"""Two pipelines with other quantities live in one process: nothing of one is in the other's."""

import numpy as np

from iot_pipeline.core.fleet.problems import Fleet, Trouble
from iot_pipeline.core.fleet.quality import QualityLimits, named_limits
from iot_pipeline.core.fleet.states import FleetStates
from iot_pipeline.core.ingest.sizing import row_bytes
from iot_pipeline.core.ingest.winners import group_rows
from iot_pipeline.core.proof.read_back import RowState, as_stored, judge_row, values_in
from iot_pipeline.core.proof.row_sums import RowSums
from iot_pipeline.core.reading.columns import Columns, DeviceCodes
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.spans import PlainRow
from iot_pipeline.core.reading.write_times import Row, RowsByTime
from iot_pipeline.core.rollups.statistics import (
    as_cells,
    columns_of,
    from_cells,
    is_same,
    summarize,
)
from iot_pipeline_tests.core.reading.air import AIR

NOW_MS = 1_772_409_600_000
BOTH = (QUANTITIES, AIR)


def test_columns_have_the_pipelines_quantities_through_grouping_and_as_objects() -> None:
    for quantities in BOTH:
        codes = DeviceCodes()
        code = codes.add("d")
        columns = Columns.of(codes, quantities)
        count = 3
        times = np.array([NOW_MS, NOW_MS + 1, NOW_MS], np.int64)
        columns.extend(
            times,
            times * 1000 + np.array([0, 0, 5], np.int64),
            np.arange(count),
            0,
            np.full(count, code, np.int32),
            [np.arange(count, dtype=np.float64) + 10 * at for at in range(len(quantities))],
            [None for _ in quantities],
        )
        columns.trim()
        groups, losers = group_rows(columns)
        ((_, rows),) = groups.items()
        assert rows[NOW_MS + 1][3:] == tuple(1.0 + 10 * at for at in range(len(quantities)))
        assert rows[NOW_MS][3:] == tuple(2.0 + 10 * at for at in range(len(quantities)))
        assert losers.are_repeats().tolist() == [False]
    assert row_bytes(AIR) == row_bytes(QUANTITIES) + 10


def test_a_row_is_judged_by_as_many_cells_as_it_has() -> None:
    for quantities in BOTH:
        row: Row = (7, 1, 0, *map(float, range(len(quantities))))
        stored = as_stored(row)
        assert judge_row(row, stored) is RowState.EQUAL
        assert values_in(stored) == row[3:]
        torn = (*stored[:-1], 6)
        assert judge_row(row, torn) is RowState.TORN
        sums, other = RowSums(len(quantities)), RowSums(len(quantities))
        sums.add(("d", 1), 1, *[7] * len(quantities))
        other.add(("d", 1), 1, *[7] * (len(quantities) - 1), 6)
        assert sums.differing(other) == {RowSums.bucket_of(("d", 1))}


def test_rollups_have_a_column_of_each_statistic_of_the_pipelines_quantities() -> None:
    for quantities in BOTH:
        rows: list[PlainRow] = [
            (NOW_MS + n, *[float(n + at) for at in range(len(quantities))]) for n in range(5)
        ]
        rollup = summarize(rows, quantities)
        assert list(rollup.stats) == [quantity.name for quantity in quantities]
        cells = as_cells(rollup, quantities)
        assert len(cells) == len(columns_of(quantities))
        assert is_same(from_cells(cells, quantities), rollup)
    assert "pm25_stddev" in columns_of(AIR)
    assert "temperature_stddev" not in columns_of(AIR)


def test_a_fleet_is_judged_by_the_pipelines_limits_and_said_in_its_units() -> None:
    def problem_of(limits: QualityLimits, *values: float) -> str:
        states = FleetStates(limits)
        rows: RowsByTime = {
            NOW_MS + n * 1000: ((NOW_MS + n * 1000) * 1000, n, 0, *values) for n in range(10)
        }
        states.fold(RowGroups.of({("d", NOW_MS // 86_400_000): rows}))
        fleet: Fleet = states.fleet(NOW_MS + 10_000)
        (problem,) = fleet.problems[Trouble.IMPLAUSIBLE]
        return problem.sentence

    assert problem_of(QualityLimits(AIR), 6_000.0, 1.0, 40.0) == "said 6000 ppm"
    assert problem_of(QualityLimits(QUANTITIES), 60.0, 50.0) == "said 60 °C"


def test_limits_of_devices_are_called_by_the_pipelines_quantities() -> None:
    for quantities, name in ((QUANTITIES, "temperature"), (AIR, "pm25")):
        group = DeviceGroup("g", ("d",), ((f"jump_{name}", 3),))
        limits = QualityLimits(quantities).with_groups([group])
        assert named_limits(limits.of("d"))[f"jump_{name}"] == 3
