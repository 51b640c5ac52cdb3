"""Clean readings: of a plain fleet, whose devices are well, and of groups that measure together."""

import json
import random
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import Reading, ReadingRules
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.simulator.chance import Chance, seed_of
from iot_pipeline.core.simulator.measuring import draw_all
from iot_pipeline.core.simulator.plan import plain_fleet, plan_fleet
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import Scenario

START_US = 1_735_444_918_316_686
seeds = st.integers(min_value=-(2**40), max_value=2**40)
intervals_us = st.fractions(min_value=1_000, max_value=10**10, max_denominator=10**6)
# 2000 to 2090, so that the readings asked for stay before 2100.
starts_us = st.integers(min_value=946_684_800_000_000, max_value=3_786_912_000_000_000)


def messages_of(
    count,
    devices=3,
    seed=1,
    start_us=START_US,
    interval_us=Fraction(1_000_000),
):
    """The first (device_id, JSON) of a fleet whose devices are well."""
    fleet = ScenarioFleet(
        plain_fleet(devices, interval_us), seed=seed, start_us=start_us, end_us=1 << 62, count=count
    )
    return [(e.device.device_id, e.payload) for e in fleet.emissions()]


def readings_of(count, *fleet, **named) -> list[Reading]:
    decode = ReadingDecoder(ReadingRules()).decode
    found = [decode(value) for _, value in messages_of(count, *fleet, **named)]
    return [reading for reading in found if isinstance(reading, Reading)]


@settings(max_examples=15, deadline=None)
@given(seed=seeds, start_us=starts_us, devices=st.integers(1, 20), interval_us=intervals_us)
def test_the_same_seed_and_start_give_the_same_bytes(seed, start_us, devices, interval_us):
    fleet = (devices, seed, start_us, interval_us)
    assert messages_of(50, *fleet) == messages_of(50, *fleet)


def test_other_seeds_give_other_readings():
    assert messages_of(9, seed=1) != messages_of(9, seed=2)
    assert messages_of(9, seed=1) != messages_of(9, seed=-1)


def test_readings_are_the_same_on_every_machine_and_every_version():
    # Pinned by value: a change here changes what every seed of every person means.
    assert [value.decode() for _, value in messages_of(7_002, devices=2)[-2:]] == [
        PINNED_FIRST,
        PINNED_SECOND,
    ]


PINNED_FIRST = (
    '{"device_id":"device_1","timestamp":1735448418.316686,"temperature":18.06,"humidity":47.87}'
)
PINNED_SECOND = (
    '{"device_id":"device_2","timestamp":1735448418.816686,"temperature":17.56,"humidity":50.49}'
)


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 10_000), more=st.integers(1, 9_000), devices=st.integers(1, 70))
def test_a_longer_run_begins_with_the_same_readings(count, more, devices):
    assert messages_of(count + more, devices)[:count] == messages_of(count, devices)


@settings(max_examples=15, deadline=None)
@given(devices=st.integers(1, 30), interval_us=intervals_us, start_us=starts_us)
def test_event_times_of_a_device_increase_and_never_share_a_millisecond(
    devices, interval_us, start_us
):
    last: dict[str, int] = {}
    for reading in readings_of(devices * 40, devices, 1, start_us, interval_us):
        ms = timestamp_ms(reading.timestamp)
        assert ms > last.get(reading.device_id, -1)
        last[reading.device_id] = ms


@pytest.mark.parametrize("devices", [1, 3, 200, 9_000])
def test_at_the_shortest_interval_every_millisecond_is_used_once(devices):
    readings = readings_of(20_000, devices, interval_us=Fraction(1_000))
    assert len({(r.device_id, timestamp_ms(r.timestamp)) for r in readings}) == 20_000


@settings(max_examples=4, deadline=None)
@given(rate=st.decimals(min_value="0.01", max_value="0.03", places=5), devices=st.integers(1, 9))
def test_event_times_keep_the_rate_exactly_however_long_the_run(rate, devices):
    # Years of readings, where a float times an interval is no longer a whole microsecond.
    interval_us = devices * 1_000_000 / Fraction(rate)
    readings = readings_of(20_000, devices, 1, 10**15, interval_us)
    times = [round(r.timestamp * 1e6) for r in readings if r.device_id == "device_1"]
    assert times == [10**15 + int(interval_us * number) for number in range(len(times))]


@pytest.mark.parametrize("devices", [3, 9_000])
def test_devices_send_in_turn_under_the_names_of_the_original(devices):
    names = [name for name, _ in messages_of(devices + 1, devices)]
    assert names == [f"device_{number}" for number in range(1, devices + 1)] + ["device_1"]


def test_a_larger_fleet_begins_with_the_same_devices():
    def first_values(devices):
        return [(r.temperature, r.humidity) for r in readings_of(10, devices)]

    # A second of weather is no hundredth of a degree, whatever the devices' turns are.
    for few, many in zip(first_values(10), first_values(25), strict=True):
        assert many == pytest.approx(few, abs=0.011)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, day=st.integers(0, 20_000), devices=st.integers(1, 5))
def test_a_clean_fleet_breaks_no_rule_of_ingestion(seed, day, devices):
    start_us = 946_684_800_000_000 + day * 86_400_000_000
    fleet = (devices, seed, start_us, Fraction(3_600_000_000))
    for key, value in messages_of(devices * 24, *fleet):
        reading = ReadingDecoder(ReadingRules()).decode(value)
        assert isinstance(reading, Reading)
        assert reading.device_id == key
        assert round(reading.temperature, 2) == reading.temperature
        assert round(reading.humidity, 2) == reading.humidity
        assert 0 < reading.temperature < 40


def test_the_json_has_the_four_fields_in_the_order_of_the_contract():
    [(key, value)] = messages_of(1)
    document = json.loads(value)
    assert list(document) == ["device_id", "timestamp", "temperature", "humidity"]
    assert document["timestamp"] == START_US / 1e6
    assert key == document["device_id"] == "device_1"


@pytest.mark.parametrize(("mean", "bound"), [(2, 0.0), (98, 100.0)])
def test_humidity_stops_at_its_physical_bounds(mean, bound):
    group = {
        "name": "device",
        "devices": 1,
        "interval": "10m",
        "temperature": {"daily": 20},
        "humidity": {"mean": mean, "coupling": 5},
    }
    scenario = msgspec.convert({"description": "a test", "groups": [group]}, Scenario)
    fleet = ScenarioFleet(scenario, seed=1, start_us=START_US, end_us=START_US + 86_400_000_000)
    humidity = [json.loads(e.payload or b"")["humidity"] for e in fleet.emissions()]
    assert all(0.0 <= value <= 100.0 for value in humidity)
    assert bound in humidity


def test_a_day_is_a_curve_and_not_white_noise():
    day = readings_of(1_440, 1, 1, 1_735_430_400_000_000, Fraction(60_000_000))
    temperatures = [r.temperature for r in day]
    steps = [abs(b - a) for a, b in pairwise(temperatures)]
    swing = max(temperatures) - min(temperatures)
    assert swing > 3.5
    assert max(steps) < swing / 5
    warmest_hour = temperatures.index(max(temperatures)) / 60
    assert 11 < warmest_hour < 19


def test_it_is_moist_when_it_is_cool():
    day = readings_of(144, 1, interval_us=Fraction(600_000_000))
    by_temperature = sorted(day, key=lambda r: r.temperature)
    coolest = sum(r.humidity for r in by_temperature[:20])
    warmest = sum(r.humidity for r in by_temperature[-20:])
    assert coolest > warmest + 20 * 3


def test_devices_differ_from_each_other():
    hours = readings_of(50 * 24, 50, interval_us=Fraction(3_600_000_000))
    days = {f"device_{n}": [] for n in range(1, 51)}
    for reading in hours:
        days[reading.device_id].append(reading.temperature)
    assert len({sum(day) for day in days.values()}) > 45
    assert len({round(max(day) - min(day), 1) for day in days.values()}) > 15


def test_nothing_uses_the_global_random_state():
    random.seed(0)
    before = random.getstate()
    messages_of(100)
    assert random.getstate() == before


@given(names=st.lists(st.text(), min_size=1, max_size=5), draws=st.integers(1, 6))
def test_many_streams_of_chance_draw_what_each_draws_alone(names, draws):
    states = np.array([seed_of("test", name) for name in names], np.uint64)
    alone = [Chance("test", name) for name in names]
    for _ in range(draws):
        assert draw_all(states).tolist() == [chance.draw() for chance in alone]


groups_of_a_fleet = st.lists(
    st.fixed_dictionaries(
        {
            "devices": st.integers(1, 9_000),
            "interval": st.sampled_from(["10ms", "300ms", "1s", "7s", "1h"]),
            "jitter": st.sampled_from([0, 0.1, 0.4]),
            "places": st.sampled_from([[], ["north", "south"]]),
        }
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=8, deadline=None)
@given(groups=groups_of_a_fleet, seed=seeds)
def test_groups_that_measure_together_are_merged_in_order_of_time_then_of_device(groups, seed):
    named = [group | {"name": f"g{n}", "ids": "{group}_{number}"} for n, group in enumerate(groups)]
    for group in named:
        if group["places"]:
            group["ids"] = "{group}_{place}_{number}"
    # With a wrong clock one day, event times lie on a grid of 2 ms, and many are equal.
    clock = {"kind": "clock_skew", "at": "300d", "for": "1s"}
    scenario = msgspec.convert(
        {"description": "a test", "groups": named, "faults": [clock]}, Scenario
    )
    fleet = ScenarioFleet(scenario, seed=seed, start_us=START_US, end_us=START_US + 10**12)
    turns = {device.device_id: turn for turn, device in enumerate(fleet.devices)}
    at = [(e.send_us, turns[e.device.device_id]) for e in islice(fleet.emissions(), 12_000)]
    assert at == sorted(at)
    # Alone, a group's devices measure the same.
    first = msgspec.structs.replace(scenario, groups=scenario.groups[:1])
    alone = ScenarioFleet(first, seed=seed, start_us=START_US, end_us=START_US + 10**12)
    together = [e.payload for e in islice(fleet.emissions(), 12_000) if e.device.group == "g0"]
    assert together == [e.payload for e in islice(alone.emissions(), len(together))]


def test_a_group_says_of_each_quantity_how_it_is_simulated():
    group = plain_fleet(1, Fraction(1_000_000)).groups[0]
    for quantity in QUANTITIES:
        curve = group.curve(quantity)
        assert curve is not None
        assert quantity.least <= curve.mean <= quantity.greatest
        # What the group's numbers are not about is a wave: another unit, another name.
        assert group.curve(replace(quantity, unit="K")) is None
    assert group.curve(replace(QUANTITIES[0], name="interval")) is None


def test_a_plain_fleet_is_planned_with_every_device_there_may_be():
    plan = plan_fleet(devices=20_000, rate="max", count=20_001)
    emissions = list(plan.fleet(START_US, ReadingRules()).emissions())
    assert emissions[-1].device is emissions[0].device
