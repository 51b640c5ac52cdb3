"""A day by the hour and days side by side: small, whole, with something in them."""

import math
from datetime import date, timedelta

import pytest

from iot_pipeline.artifacts.drawing import DARK, LIGHT, Theme
from iot_pipeline.artifacts.rollup_pictures import draw_day, draw_days
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.rollups.day_view import DayTotal, DayView
from iot_pipeline.core.rollups.statistics import summarize
from iot_pipeline.core.times import MS_PER_HOUR
from iot_pipeline_tests.artifacts.test_pictures import LIMIT_BYTES, opened, rgb
from iot_pipeline_tests.core.reading.air import KINDS

DAY = date(2026, 11, 22)


def make_day(hours: range, devices: int = 50) -> DayView:
    view = DayView(DAY)
    for device in range(devices):
        view.add(
            {
                hour * MS_PER_HOUR: summarize(
                    [
                        (hour * MS_PER_HOUR + at, 20 + math.sin(at + device), 40.0 + at)
                        for at in range(30)
                    ],
                    QUANTITIES,
                )
                for hour in hours
            }
        )
    return view


def colors_in(png: bytes) -> set[tuple[int, int, int]]:
    assert len(png) < LIMIT_BYTES
    image = opened(png)
    assert image.width == 900
    return {color for _, color in image.getcolors(1 << 24)}


def has(colors: set[tuple[int, int, int]], wanted: str) -> bool:
    return any(sum(map(abs, map(int.__sub__, color, rgb(wanted)))) < 12 for color in colors)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("hours", [range(24), range(9, 10)], ids=["whole day", "one hour"])
def test_a_day_is_drawn_with_its_curves(theme: Theme, hours: range) -> None:
    colors = colors_in(draw_day(make_day(hours), QUANTITIES, theme))
    assert has(colors, theme.background)
    assert has(colors, theme.good)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("count", [1, 7, 60])
def test_days_are_drawn_side_by_side(theme: Theme, count: int) -> None:
    days = [DayTotal(DAY + timedelta(days=at), 4_000_000 + at, 40 + at) for at in range(count)]
    colors = colors_in(draw_days(days, theme))
    assert has(colors, theme.series[0])
    assert has(colors, theme.series[2])


def test_a_day_shows_the_numbers_alone() -> None:
    rows = [(at, "ok", 612.0 + at, 0.5, at, 2**40, at > 3) for at in range(9)]
    view = DayView(DAY)
    view.add({0: summarize(rows, KINDS)})
    # Two of the quantities are none: a picture each of four, and one of counts.
    assert opened(draw_day(view, KINDS)).height == opened(draw_day(view, KINDS[1:5])).height


def test_a_quantity_that_was_not_told_that_day_has_no_plot() -> None:
    view = DayView(DAY)
    view.add({0: summarize([(at, None, 40.0 + at) for at in range(9)], QUANTITIES)})
    assert (
        opened(draw_day(view, QUANTITIES)).height == opened(draw_day(view, QUANTITIES[1:])).height
    )
    assert opened(draw_day(DayView(DAY), QUANTITIES)).height > 0
