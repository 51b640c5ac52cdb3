"""A day at a glance says of the fleet what its devices' rollups say."""

from datetime import UTC, date, datetime, timedelta
from functools import reduce

import hypothesis.strategies as st
from hypothesis import given

from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.rollups.day_view import DayView, recent_days
from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.rollups.statistics import Rollup, add_page, merge
from iot_pipeline.core.times import MS_PER_HOUR

DAY = date(2026, 11, 22)
DAY_MS = 20_779 * 86_400_000


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 86_399_999), st.floats(-40, 60), st.none() | st.just(40.0)),
            unique_by=lambda row: row[0],
            max_size=20,
        ),
        max_size=5,
    )
)
def test_an_hour_of_the_fleet_is_that_hour_of_all_its_devices(
    devices: list[list[tuple[int, float, float | None]]],
) -> None:
    view = DayView(DAY)
    parts: list[dict[int, Rollup]] = []
    for rows in devices:
        hours: dict[int, Rollup] = {}
        add_page(
            hours, [(DAY_MS + ms, t, h) for ms, t, h in sorted(rows, reverse=True)], QUANTITIES
        )
        parts.append(hours)
        view.add(hours)
    assert view.readings == sum(map(len, devices))
    for number in range(24):
        at = DAY_MS + number * MS_PER_HOUR
        of_hour = [hours[at] for hours in parts if at in hours]
        assert view.reporting[number] == len(of_hour)
        whole = reduce(merge, of_hour, Rollup())
        assert view.hours[number].count == whole.count
        assert view.hours[number].stats.keys() == whole.stats.keys()
        for name, stats in whole.stats.items():
            mine = view.hours[number].stats[name]
            assert (mine["min"], mine["max"]) == (stats["min"], stats["max"])


def record(day: date, readings: int) -> DayRecord:
    return DayRecord(day, datetime(2026, 12, 1, tzinfo=UTC), 1, "", readings, 3, 0.1, "run")


def test_days_that_were_never_rolled_up_are_shown_as_none() -> None:
    found = recent_days([record(DAY, 7), record(DAY - timedelta(days=3), 5)])
    assert [(item.day.day, item.readings, item.devices) for item in found] == [
        (19, 5, 3),
        (20, 0, 0),
        (21, 0, 0),
        (22, 7, 3),
    ]


def test_of_a_year_the_last_days_are_shown() -> None:
    year = [record(DAY - timedelta(days=back), back) for back in range(366)]
    found = recent_days(year, 60)
    assert [item.readings for item in found] == list(range(59, -1, -1))


def test_nothing_rolled_up_is_nothing_to_show() -> None:
    assert recent_days([]) == []
