"""A unit that changed is found by each device's own values; what weather does is none."""

import random
from collections.abc import Callable

import pytest

from iot_pipeline.core.checks.unit_changes import CONVERSIONS, find_change, is_after

DEVICES = [f"d{number}" for number in range(20)]
RANDOM = random.Random(7)


def values(of: Callable[[float], float], base: float = 20.0, noise: float = 0.5):
    return {
        device: [of(base + number / 2) + RANDOM.uniform(-noise, noise) for _ in range(3)]
        for number, device in enumerate(DEVICES)
    }


@pytest.mark.parametrize("conversion", CONVERSIONS, ids=lambda one: one.words)
def test_each_conversion_is_found_and_named(conversion):
    before = values(lambda value: value, noise=0.001)
    change = find_change(before, values(conversion, noise=0.001), conversion.unit)
    assert change is not None
    assert change.conversion == conversion
    assert (len(change.devices), change.of) == (20, 20)
    assert is_after(change, before, values(conversion, noise=0.001))
    assert is_after(change, before, values(lambda value: value)) is False


@pytest.mark.parametrize(
    "weather",
    [
        lambda value: value,
        lambda value: value + 12,
        lambda value: value - 12,
        lambda value: value * 1.6,
        lambda value: 5.0,
        lambda value: 0.0,
    ],
)
@pytest.mark.parametrize("unit", ["°C", "m/s", ""])
def test_no_weather_of_a_day_is_another_unit(weather, unit):
    before, after = values(lambda value: value), values(weather)
    assert find_change(before, after, unit) is None


def test_four_devices_or_less_than_half_of_them_are_no_fleet():
    before, after = values(lambda value: value), values(lambda value: value * 100)
    few = {device: after[device] for device in DEVICES[:4]}
    assert find_change(before, few) is None
    some = {d: after[d] if number < 9 else before[d] for number, d in enumerate(DEVICES)}
    assert find_change(before, some) is None
    half = some | {DEVICES[9]: after[DEVICES[9]]}
    found = find_change(before, half)
    assert found is not None
    assert (len(found.devices), found.of) == (10, 20)


def test_values_between_both_units_are_neither():
    before = values(lambda value: value)
    change = find_change(before, values(lambda value: value * 10))
    assert change is not None
    assert is_after(change, before, values(lambda value: value * 5)) is None
    assert is_after(change, before, {}) is None
