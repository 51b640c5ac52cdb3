"""A device that tells its readings in parts is one that tells them whole."""

from dataclasses import replace

import pytest

from iot_pipeline.core.fleet.kept_states import merge
from iot_pipeline.core.fleet.problems import with_units
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.series import Series
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.states import FleetStates
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups

PARTS = tuple(replace(quantity, optional=True) for quantity in QUANTITIES)
LIMITS = QualityLimits(PARTS)
START_MS = 1_772_409_600_000
TIMES = [START_MS + 1_000 * step for step in range(60)]


def taken(*rows: tuple[int, float | None, float | None]) -> DeviceState:
    state = DeviceState()
    for ms, *values in rows:
        state.take_row(ms, ms + 40, tuple(values), LIMITS)
    return state


def test_a_part_of_a_known_reading_is_not_another_reading() -> None:
    parts = [part for ms in TIMES for part in ((ms, 20.0, None), (ms, None, 50.0))]
    whole = [(ms, 20.0, 50.0) for ms in TIMES]
    told, expected = taken(*parts), taken(*whole)
    assert (told.rows, told.hours, told.tail) == (60, expected.hours, expected.tail)
    assert (told.values, told.interval_ms) == ((20.0, 50.0), expected.interval_ms)
    assert told.half.rows == expected.half.rows == 60


def test_what_a_reading_does_not_tell_neither_jumps_nor_gets_stuck_nor_is_implausible() -> None:
    state = taken(*((ms, 20.0, None) for ms in TIMES[:30]))
    assert state.values == (20.0, None)
    assert state.unchanged == 30
    assert with_units(state.values, PARTS) == ["20 °C"]
    state = taken((TIMES[0], 20.0, 50.0), (TIMES[1], None, 51.0), (TIMES[2], 20.0, None))
    assert (state.values, state.unchanged, state.half.jumps) == ((20.0, 51.0), 2, 0)
    # 20 °C were told last, however long ago.
    state = taken((TIMES[0], 20.0, None), (TIMES[1], None, 50.0), (TIMES[2], 49.0, None))
    assert (state.half.jumps, state.half.outside) == (1, 0)
    assert merge(taken((TIMES[0], 20.0, None)), taken((TIMES[1], None, 50.0))).values == (20.0, 50)


@pytest.mark.parametrize("lacks", [None, 7, 59])
def test_rows_in_columns_give_what_they_give_one_by_one(lacks: int | None) -> None:
    # As small as what stands in the column where there is nothing.
    rows = [(ms, None if at == lacks else 0.5 + at % 3, 50.0) for at, ms in enumerate(TIMES)]
    groups = RowGroups.of(
        {
            ("d", START_MS // 86_400_000): {
                ms: ((ms + 40) * 1000, at, 0, *values) for at, (ms, *values) in enumerate(rows)
            }
        }
    )
    states = FleetStates(LIMITS)
    states.fold(groups)
    state, expected = states.devices["d"], taken(*rows)
    for name in ("rows", "values", "unchanged", "tail", "hours", "odd", "half"):
        assert getattr(state, name) == getattr(expected, name), name


def test_a_line_leaves_out_what_lacks_its_quantity_and_keeps_its_gaps() -> None:
    series = Series.of("d", 2)
    series.extend([(0, 1.0, None), (1, None, 5.0), (2, None, None), (3, 2.0, 6.0)])
    times, values = series.line(0)
    assert times == [0, 2, 3]
    assert (values[0], str(values[1]), values[2]) == (1.0, "nan", 2.0)
    assert series.line(1)[0] == [1, 2, 3]
