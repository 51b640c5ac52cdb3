import json
import random
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.decoding import (
    Reading,
    ReadingDecoder,
    ReadingRules,
    timestamp_ms,
)
from iot_pipeline.core.simulator.fleet import Device, Fleet, make_fleet

START_US = 1_735_444_918_316_686
seeds = st.integers(min_value=-(2**40), max_value=2**40)
intervals_us = st.fractions(min_value=1_000, max_value=10**10, max_denominator=10**6)
# 2000 to 2090, so that the readings asked for stay before 2100.
starts_us = st.integers(min_value=946_684_800_000_000, max_value=3_786_912_000_000_000)


def fleet_of(devices=3, seed=1, start_us=START_US, interval_us=Fraction(1_000_000)):
    return Fleet(make_fleet(seed, devices), seed=seed, start_us=start_us, interval_us=interval_us)


@given(seed=seeds, start_us=starts_us, devices=st.integers(1, 20), interval_us=intervals_us)
def test_the_same_seed_and_start_give_the_same_bytes(seed, start_us, devices, interval_us):
    one = fleet_of(devices, seed, start_us, interval_us)
    other = fleet_of(devices, seed, start_us, interval_us)
    assert one.messages(0, 50) == other.messages(0, 50)


def test_other_seeds_give_other_readings():
    assert fleet_of(seed=1).messages(0, 9) != fleet_of(seed=2).messages(0, 9)
    assert fleet_of(seed=1).messages(0, 9) != fleet_of(seed=-1).messages(0, 9)


def test_readings_are_the_same_on_every_machine_and_every_version():
    # Pinned by value: a change here changes what every seed of every person means.
    assert [value.decode() for _, value in fleet_of(devices=2).messages(7_000, 2)] == [
        PINNED_FIRST,
        PINNED_SECOND,
    ]


PINNED_FIRST = (
    '{"device_id":"device_1","timestamp":1735448418.316686,"temperature":21.26,"humidity":45.68}'
)
PINNED_SECOND = (
    '{"device_id":"device_2","timestamp":1735448418.816686,"temperature":19.78,"humidity":54.43}'
)


@given(
    cuts=st.lists(st.integers(0, 40), max_size=6),
    devices=st.integers(1, 7),
)
def test_any_part_of_a_run_can_be_made_again_alone(cuts, devices):
    fleet = fleet_of(devices)
    first, parts = 0, []
    for cut in cuts:
        parts += fleet.readings(first, cut)
        first += cut
    assert parts == fleet.readings(0, first)
    assert len(parts) == first


@given(devices=st.integers(1, 30), interval_us=intervals_us, start_us=starts_us)
def test_event_times_of_a_device_increase_and_never_share_a_millisecond(
    devices, interval_us, start_us
):
    last: dict[str, int] = {}
    for reading in fleet_of(devices, 1, start_us, interval_us).readings(0, devices * 40):
        ms = timestamp_ms(reading.timestamp)
        assert ms > last.get(reading.device_id, -1)
        last[reading.device_id] = ms


@pytest.mark.parametrize("devices", [1, 3, 200])
def test_at_the_shortest_interval_every_millisecond_is_used_once(devices):
    fleet = fleet_of(devices, interval_us=Fraction(1_000))
    keys = [(r.device_id, timestamp_ms(r.timestamp)) for r in fleet.readings(0, 60_000)]
    assert len(set(keys)) == 60_000


@given(rate=st.decimals(min_value="0.01", max_value=3_000, places=2), devices=st.integers(3, 9))
def test_event_times_keep_the_rate_exactly_however_long_the_run(rate, devices):
    interval_us = devices * 1_000_000 / Fraction(rate)
    fleet = fleet_of(devices, start_us=10**15, interval_us=interval_us)
    # 30 years of readings, where a float times an interval is no longer a whole microsecond.
    rounds = int(10**15 / interval_us)
    [reading] = fleet.readings(devices * rounds, 1)
    assert round(reading.timestamp * 1e6) == 10**15 + int(interval_us * rounds)


def test_devices_send_in_turn_under_the_names_of_the_original():
    assert [r.device_id for r in fleet_of(devices=3).readings(0, 4)] == [
        "device_1",
        "device_2",
        "device_3",
        "device_1",
    ]


def test_a_larger_fleet_begins_with_the_same_devices():
    assert make_fleet(7, 10) == make_fleet(7, 25)[:10]


@given(seed=seeds, day=st.integers(0, 20_000), devices=st.integers(1, 5))
def test_a_clean_fleet_breaks_no_rule_of_ingestion(seed, day, devices):
    start_us = 946_684_800_000_000 + day * 86_400_000_000
    fleet = fleet_of(devices, seed, start_us, Fraction(3_600_000_000))
    for key, value in fleet.messages(0, devices * 24):
        reading = ReadingDecoder(ReadingRules()).decode(value)
        assert isinstance(reading, Reading)
        assert reading.device_id == key
        assert round(reading.temperature, 2) == reading.temperature
        assert round(reading.humidity, 2) == reading.humidity
        assert 0 < reading.temperature < 40


def test_the_json_has_the_four_fields_in_the_order_of_the_contract():
    [(key, value)] = fleet_of().messages(0, 1)
    document = json.loads(value)
    assert list(document) == ["device_id", "timestamp", "temperature", "humidity"]
    assert document["timestamp"] == START_US / 1e6
    assert key == document["device_id"] == "device_1"


def an_extreme_device(bias_humidity: float) -> Device:
    return Device("device_1", 20.0, 60.0, 0, 1.0, bias_humidity, 2.0, 0)


@pytest.mark.parametrize(("bias_humidity", "bound"), [(5.0, 0.0), (95.0, 100.0)])
def test_humidity_stops_at_its_physical_bounds(bias_humidity, bound):
    fleet = Fleet(
        [an_extreme_device(bias_humidity)],
        seed=1,
        start_us=START_US,
        interval_us=Fraction(600_000_000),
    )
    humidity = [r.humidity for r in fleet.readings(0, 144)]
    assert all(0.0 <= value <= 100.0 for value in humidity)
    assert bound in humidity


def test_a_day_is_a_curve_and_not_white_noise():
    fleet = fleet_of(devices=1, start_us=1_735_430_400_000_000, interval_us=Fraction(60_000_000))
    day = fleet.readings(0, 1_440)
    temperatures = [r.temperature for r in day]
    steps = [abs(b - a) for a, b in pairwise(temperatures)]
    swing = max(temperatures) - min(temperatures)
    assert swing > 3.5
    assert max(steps) < swing / 5
    warmest_hour = temperatures.index(max(temperatures)) / 60
    assert 11 < warmest_hour < 19


def test_it_is_moist_when_it_is_cool():
    fleet = fleet_of(devices=1, interval_us=Fraction(600_000_000))
    day = fleet.readings(0, 144)
    by_temperature = sorted(day, key=lambda r: r.temperature)
    coolest = sum(r.humidity for r in by_temperature[:20])
    warmest = sum(r.humidity for r in by_temperature[-20:])
    assert coolest > warmest + 20 * 3


def test_devices_differ_from_each_other():
    devices = make_fleet(1, 50)
    assert len({d.peak_step for d in devices}) > 40
    assert len({d.bias_celsius for d in devices}) == 50
    assert len({d.amplitude_celsius for d in devices}) == 50


def test_nothing_uses_the_global_random_state():
    random.seed(0)
    before = random.getstate()
    fleet_of().messages(0, 100)
    assert random.getstate() == before
