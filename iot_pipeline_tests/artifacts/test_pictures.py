"""Pictures: small, whole, with something in them, and as many colours as were meant."""

import io
import math

import pytest
from PIL import Image

from iot_pipeline.artifacts.drawing import DARK, LIGHT
from iot_pipeline.artifacts.fleet_pictures import draw_album
from iot_pipeline.artifacts.readings_picture import draw_readings
from iot_pipeline.artifacts.terminal import plot_readings
from iot_pipeline.core.fleet.series import Series
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline_tests.artifacts.views import make_view
from iot_pipeline_tests.core.reading.air import KINDS

LIMIT_BYTES = 50_000


def opened(png):
    return Image.open(io.BytesIO(png)).convert("RGB")


def luminance(color):
    def linear(part):
        part /= 255
        return part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(text):
    return tuple(int(text[at : at + 2], 16) for at in (1, 3, 5))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_most_restless_fleet_is_drawn_under_50_kb_a_picture(theme):
    album = draw_album(make_view(40), theme)
    assert set(album) == {"last_day", "completeness", "lag_and_throughput", "lateness"}
    for name, png in album.items():
        assert len(png) < LIMIT_BYTES, (name, len(png))
        image = opened(png)
        assert image.width == 900
        colors = {color for _, color in image.getcolors(1 << 24)}
        near = {c for c in colors if sum(map(abs, map(int.__sub__, c, rgb(theme.background)))) < 9}
        assert near, f"{name}: the background is the theme's"
        assert len(colors) > 8, f"{name} is empty"
        # Nothing is cut off: the outermost pixels are all background.
        frame = [image.crop((0, 0, image.width, 2)), image.crop((0, 0, 2, image.height))]
        for strip in frame:
            assert {c for _, c in strip.getcolors(1 << 24)} <= near, f"{name} is cut off"


def test_a_fleet_of_nobody_has_no_empty_picture():
    view = make_view(0)
    assert set(draw_album(view)) == {"lag_and_throughput"}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_is_readable_on_its_background(theme):
    background = rgb(theme.background)
    assert contrast(rgb(theme.text), background) > 7
    for color in (*theme.series, theme.good, theme.warn):
        assert contrast(rgb(color), background) >= 3, color


def series(name, shift=0.0):
    item = Series.of(name, len(QUANTITIES))
    item.extend(
        (1_735_430_400_000 + k * 60_000, 20 + shift + math.sin(k / 50), 50.0) for k in range(600)
    )
    return item


def test_readings_are_drawn_with_both_quantities_and_every_device():
    one, many = (
        draw_readings([series("a")], QUANTITIES),
        draw_readings([series(f"d{n}", n) for n in range(20)], QUANTITIES),
    )
    assert len(one) < LIMIT_BYTES
    assert len(many) < 2 * LIMIT_BYTES
    assert opened(one).size == (1000, 600)
    assert len(opened(many).getcolors(1 << 24)) > len(LIGHT.series)


def test_a_terminal_gets_both_quantities_without_colours_when_it_has_none():
    text = plot_readings([series("a"), series("b", 5)], QUANTITIES, is_colored=False, width=90)
    assert "temperature (°C)" in text
    assert "humidity (%)" in text
    assert "a" in text
    assert "2024-12-29T00:00:00Z to 2024-12-29T09:59:00Z" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 90
    assert "\x1b" in plot_readings([series("a")], QUANTITIES, is_colored=True, width=90)


def test_text_has_no_line_and_truth_has_one():
    item = Series.of("d", len(KINDS))
    item.extend((1_735_430_400_000 + k * 60_000, "ok", 612.0, 0.5, k, k, k > 9) for k in range(20))
    assert opened(draw_readings([item], KINDS)).size == (1000, 300 * 5)
    text = plot_readings([item], KINDS, is_colored=False, width=90)
    assert "is_open" in text
    assert "state" not in text


def test_what_no_device_tells_has_no_empty_plot():
    items = [Series.of(name, len(QUANTITIES)) for name in ("a", "b")]
    for item in items:
        item.extend((1_735_430_400_000 + k * 60_000, None, float(k)) for k in range(20))
    assert opened(draw_readings(items, QUANTITIES)).size == (1000, 300)
    text = plot_readings(items, QUANTITIES, is_colored=False, width=90)
    assert "humidity (%)" in text
    assert "temperature" not in text
    # One device that tells it is enough, and where there is nothing one plot says so.
    items[0].extend([(1_735_434_000_000, 20.0, None)])
    assert "temperature" in plot_readings(items, QUANTITIES, is_colored=False, width=90)
    empty = Series.of("c", len(QUANTITIES))
    empty.extend([(1_735_430_400_000, None, None)])
    assert opened(draw_readings([empty], QUANTITIES)).size == (1000, 300)
