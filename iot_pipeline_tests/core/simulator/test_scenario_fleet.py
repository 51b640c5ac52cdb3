import itertools
import json
import math
import tracemalloc
from collections import defaultdict
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import Reading, ReadingRules
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.faults import Emission
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import Scenario
from iot_pipeline.core.simulator.weather import WAVES
from iot_pipeline.core.times import US_PER_DAY, duration_us
from iot_pipeline_tests.core.reading.limits import limited_seed

START_US = 1_760_000_000_000_000
SECOND_US = 1_000_000
STEEP = {
    "name": "roof",
    "devices": 5,
    "places": ["north", "south"],
    "outdoors": 1.0,
    "jitter": 0.4,
    "temperature": {"mean": 5, "daily": 20, "weekly": 5, "noise": 0.5, "bias": 5},
    "humidity": {"mean": 50, "coupling": 5, "noise": 2, "bias": 10},
}


def scenario_of(*faults, **group):
    shape = {
        "description": "a test",
        "weather": {"swing": 15, "changes_in": "1h"},
        "groups": [STEEP | group],
        "faults": list(faults),
    }
    return msgspec.convert(shape, Scenario)


def emissions_of(scenario, seconds=120, seed=1, start_us=START_US, **options) -> list[Emission]:
    fleet = ScenarioFleet(
        scenario, seed=seed, start_us=start_us, end_us=start_us + seconds * SECOND_US, **options
    )
    return list(fleet.emissions())


def readings_by_device(emissions) -> dict[str, list[Reading]]:
    decode = ReadingDecoder(ReadingRules()).decode
    found = defaultdict(list)
    for emission in emissions:
        if not emission.is_withheld:
            reading = decode(emission.payload)
            assert isinstance(reading, Reading)
            found[emission.device.device_id].append(reading)
    return found


def only(emissions, kind):
    return [e for e in emissions if e.injection is not None and e.injection.kind is kind]


EVERY_KIND = (
    {"kind": "dropout", "per_hour": 20, "for": "20s"},
    {"kind": "stuck", "per_hour": 20, "for": "20s"},
    {"kind": "drift", "per_hour": 20, "for": "20s"},
    {"kind": "clock_skew", "per_hour": 20, "for": "20s", "skew": "-90s"},
    {"kind": "spike", "share": 0.05},
    {
        "kind": "late",
        "share": 0.1,
        "delay": {"distribution": "exponential", "mean": "5s", "max": "30s"},
    },
    {"kind": "out_of_order", "share": 0.05},
    {"kind": "duplicate", "share": 0.05, "after": "3s"},
    {"kind": "conflicting_duplicate", "share": 0.05},
    {"kind": "malformed", "share": 0.05},
)


@settings(max_examples=20)
@given(seed=st.integers(-(2**40), 2**40), start_us=st.integers(10**15, 3 * 10**15))
def test_the_same_seed_and_start_give_the_same_messages_in_the_same_order(seed, start_us):
    scenario = scenario_of(*EVERY_KIND)
    first = emissions_of(scenario, 40, seed, start_us)
    assert first == emissions_of(scenario, 40, seed, start_us)
    assert first != emissions_of(scenario, 40, seed + 1, start_us)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**40))
def test_messages_leave_in_order_of_time_whatever_goes_wrong(seed):
    emissions = emissions_of(scenario_of(*EVERY_KIND), 60, seed)
    assert {e.injection.kind for e in emissions if e.injection} >= {
        FaultKind.SPIKE,
        FaultKind.LATE,
        FaultKind.MALFORMED,
    }
    for one, next_one in pairwise(emissions):
        assert one.send_us <= next_one.send_us
    assert all(e.measured_us <= e.send_us for e in emissions)


def steepest_celsius_per_second(group, weather):
    """No clean device of the group warms or cools faster, noise apart."""
    temperature = group.temperature
    waves = sum(
        weather.swing * share * 2 * math.pi / (length * duration_us(weather.changes_in))
        for length, share in WAVES
    )
    day = temperature.daily * 2 * math.pi / US_PER_DAY
    week = abs(temperature.weekly) * 2 * math.pi / (7 * US_PER_DAY)
    # A device follows its place by a factor of 1.2 at most.
    return 1.2e6 * (day + week + group.outdoors * waves)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**40),
    interval=st.sampled_from(["10ms", "1s", "7s", "1h"]),
    start_us=st.integers(10**15, 3 * 10**15),
)
def test_a_clean_fleet_stays_within_physics_and_its_event_times_apart(seed, interval, start_us):
    scenario = scenario_of(interval=interval)
    group, weather = scenario.groups[0], scenario.weather
    slope = steepest_celsius_per_second(group, weather)
    seconds = group.interval_us * 40 // SECOND_US + 1
    by_device = readings_by_device(emissions_of(scenario, seconds, seed, start_us))
    assert len(by_device) == 5
    for readings in by_device.values():
        for one, next_one in pairwise(readings):
            assert timestamp_ms(one.timestamp) < timestamp_ms(next_one.timestamp)
            passed = next_one.timestamp - one.timestamp
            # The noise of both, and a hundredth that rounding takes from each.
            celsius = slope * passed + 2 * group.temperature.noise + 0.02
            assert abs(next_one.temperature - one.temperature) <= celsius
            percent = group.humidity.coupling * celsius + 2 * group.humidity.noise + 0.02
            assert abs(next_one.humidity - one.humidity) <= percent
            assert 0 <= next_one.humidity <= 100


def test_no_clean_second_is_a_jump_that_a_person_would_call_a_fault():
    group = scenario_of().groups[0]
    steepest = steepest_celsius_per_second(group, scenario_of().weather)
    assert steepest + 2 * group.temperature.noise < 1.1
    assert group.humidity.coupling * steepest + 2 * group.humidity.noise < 5


def test_warm_air_is_dry_air_and_neighbours_share_the_weather():
    scenario = scenario_of(
        devices=2,
        places=["north"],
        interval="5m",
        temperature={"daily": 8, "noise": 0},
        humidity={"coupling": 2, "noise": 0, "mean": 50},
    )
    one, other = readings_by_device(emissions_of(scenario, 2 * 86_400)).values()
    mean = sum(r.temperature for r in one) / len(one)
    warm = [r.humidity for r in one if r.temperature > mean + 2]
    cold = [r.humidity for r in one if r.temperature < mean - 2]
    assert max(warm) < min(cold)
    hotter = [r for r in zip(one, other, strict=True) if r[0].temperature > mean + 4]
    assert hotter
    # Gains of 0.8 to 1.2, biases of half a degree and some minutes between them.
    assert all(there.temperature > mean + 1 for _, there in hotter)


def test_every_device_sends_as_many_readings_as_its_interval_says():
    emissions = emissions_of(scenario_of(devices=7, interval="3s"), 900)
    counts = {name: len(found) for name, found in readings_by_device(emissions).items()}
    assert set(counts.values()) == {300}
    assert len(counts) == 7


def test_a_fleet_keeps_memory_for_its_devices_and_not_for_what_it_sent():
    fleet = ScenarioFleet(
        scenario_of(devices=10_000, jitter=0.1),
        seed=1,
        start_us=START_US,
        end_us=START_US + 10**6 * SECOND_US,
    )
    emissions = fleet.emissions()
    next(emissions)
    tracemalloc.start()
    for _ in itertools.islice(emissions, 60_000):
        pass
    grown, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A heap entry of each device is made anew, and no more.
    assert grown < 3_000_000
    assert peak < 4_000_000


# Each kind of fault does what it says.


def test_a_dropout_withholds_every_reading_of_its_time_and_no_other():
    emissions = emissions_of(
        scenario_of({"kind": "dropout", "devices": ["north_1"], "at": "30s", "for": "40s"})
    )
    withheld = [e for e in emissions if e.is_withheld]
    assert {e.device.device_id for e in withheld} == {"north_1"}
    assert len(withheld) == pytest.approx(40, abs=1)
    assert all(30 <= (e.measured_us - START_US) / 1e6 < 70 for e in withheld)
    sent = [e for e in emissions if e.device.device_id == "north_1" and not e.is_withheld]
    assert not [e for e in sent if 30 <= (e.measured_us - START_US) / 1e6 < 70]
    assert len(withheld) + len(sent) == 120


def test_a_stuck_device_repeats_the_values_it_began_with_to_the_last_digit():
    emissions = emissions_of(
        scenario_of({"kind": "stuck", "devices": ["north_1"], "at": "30s", "for": "40s"})
    )
    stuck = readings_by_device(only(emissions, FaultKind.STUCK))["north_1"]
    assert len({(r.temperature, r.humidity) for r in stuck}) == 1
    assert len({r.timestamp for r in stuck}) == len(stuck) == pytest.approx(40, abs=1)
    clean = [e for e in emissions_of(scenario_of()) if e.device.device_id == "north_1"]
    as_if_clean = next(e for e in clean if (e.measured_us - START_US) >= 30 * SECOND_US)
    assert readings_by_device([as_if_clean])["north_1"][0] == stuck[0]


@pytest.mark.parametrize(("quantity", "size"), [("temperature", 25.0), ("humidity", 40.0)])
def test_a_spike_is_one_value_that_is_off_by_its_size(quantity, size):
    fault = {"kind": "spike", "share": 0.05, "quantity": quantity, "size": size}
    clean = emissions_of(scenario_of())
    other = "humidity" if quantity == "temperature" else "temperature"
    spikes = 0
    for was, now in zip(clean, emissions_of(scenario_of(fault)), strict=True):
        if now.injection is None:
            assert now.payload == was.payload
            continue
        spikes += 1
        before, after = json.loads(was.payload or b""), json.loads(now.payload or b"")
        assert abs(after[quantity] - before[quantity]) == pytest.approx(size)
        assert after[other] == before[other]
        assert isinstance(ReadingDecoder(ReadingRules()).decode(now.payload), Reading)
    assert spikes == pytest.approx(0.05 * len(clean), rel=0.6)


def test_a_drift_grows_in_a_straight_line_and_is_gone_at_its_end():
    fault = {"kind": "drift", "devices": ["north_1"], "at": "10s", "for": "100s", "size": 50}
    off = []
    for was, now in zip(emissions_of(scenario_of()), emissions_of(scenario_of(fault)), strict=True):
        if now.device.device_id != "north_1":
            continue
        seconds = (now.measured_us - START_US) / 1e6
        difference = (
            json.loads(now.payload or b"")["temperature"]
            - json.loads(was.payload or b"")["temperature"]
        )
        expected = (seconds - 10) / 2 if 10 <= seconds < 110 else 0
        assert difference == pytest.approx(expected, abs=0.011)
        off.append(difference)
    assert max(off) > 48
    assert off[-1] == 0


@pytest.mark.parametrize(("skew", "seconds"), [("5m", 300), ("-90s", -90)])
def test_a_wrong_clock_moves_the_event_time_and_nothing_else(skew, seconds):
    fault = {"kind": "clock_skew", "devices": ["north_1"], "at": "10s", "for": "60s", "skew": skew}
    emissions = emissions_of(scenario_of(fault, jitter=0), 600)
    skewed = only(emissions, FaultKind.CLOCK_SKEW)
    assert len(skewed) == 60
    for emission in skewed:
        claimed = json.loads(emission.payload)["timestamp"]
        assert claimed - emission.measured_us / 1e6 == pytest.approx(seconds, abs=0.003)
        assert emission.send_us == emission.measured_us
    # No skewed reading takes the key of one that is right.
    times = [timestamp_ms(r.timestamp) for r in readings_by_device(emissions)["north_1"]]
    assert len(set(times)) == len(times) == 600


def test_right_and_wrong_clocks_never_name_the_same_millisecond():
    fault = {"kind": "clock_skew", "devices": ["north_1"], "at": "10s", "for": "60s", "skew": "7s"}
    emissions = emissions_of(scenario_of(fault), start_us=START_US + 777)
    wrong = only(emissions, FaultKind.CLOCK_SKEW)
    assert wrong
    assert {e.measured_us % 2_000 for e in emissions} == {0}
    claimed = [round(json.loads(e.payload)["timestamp"] * 1e6) for e in wrong]
    assert {us % 2_000 for us in claimed} == {1_000}


def test_late_readings_are_sent_within_their_distribution_and_say_when_they_were_measured():
    delay = {"distribution": "uniform", "min": "10s", "max": "30s"}
    fault = {"kind": "late", "at": "0s", "for": "60s", "delay": delay}
    late = only(emissions_of(scenario_of(fault)), FaultKind.LATE)
    delays = [(e.send_us - e.measured_us) / 1e6 for e in late]
    assert len(delays) == pytest.approx(300, abs=5)
    assert min(delays) >= 10
    assert max(delays) < 30
    assert sum(delays) / len(delays) == pytest.approx(20, abs=1.5)
    assert all(json.loads(e.payload)["timestamp"] == e.measured_us / 1e6 for e in late)


def test_a_reading_out_of_order_is_sent_after_the_one_measured_after_it():
    emissions = emissions_of(scenario_of({"kind": "out_of_order", "share": 0.3}))
    found = 0
    for device_id in {e.device.device_id for e in emissions}:
        of_device = [e for e in emissions if e.device.device_id == device_id]
        for before, emission in pairwise(of_device):
            if emission.injection is None:
                continue
            found += 1
            assert before.measured_us > emission.measured_us
    assert found > 50
    assert sorted(e.payload for e in emissions) == sorted(
        e.payload for e in emissions_of(scenario_of())
    )


def test_a_duplicate_is_the_same_bytes_again_and_comes_after_them():
    fault = {"kind": "duplicate", "share": 0.1, "after": "2s"}
    emissions = emissions_of(scenario_of(fault))
    sent_us = {e.payload: e.send_us for e in emissions if e.injection is None}
    copies = only(emissions, FaultKind.DUPLICATE)
    assert copies
    assert all(0 <= copy.send_us - sent_us[copy.payload] <= 2 * SECOND_US for copy in copies)
    assert len(sent_us) == 600


def test_a_conflicting_duplicate_has_the_same_key_and_other_values():
    emissions = emissions_of(scenario_of({"kind": "conflicting_duplicate", "share": 0.1}))
    first = {}
    for emission in emissions:
        reading = ReadingDecoder(ReadingRules()).decode(emission.payload)
        key = (reading.device_id, reading.timestamp)
        if emission.injection is None:
            first[key] = reading
        else:
            assert abs(first[key].temperature - reading.temperature) >= 0.49
            assert first[key].humidity != reading.humidity
    assert len(only(emissions, FaultKind.CONFLICTING_DUPLICATE)) > 20


@pytest.mark.parametrize(
    "reason",
    ["not_json", "missing_field", "wrong_type", "out_of_range", "too_large", "no_value"],
)
@pytest.mark.parametrize("max_value_bytes", [64 * 1024, 200])
def test_a_malformed_payload_is_rejected_for_exactly_its_reason(reason, max_value_bytes):
    rules = ReadingRules(limited_seed(temperature={"greatest": 60.0}), max_value_bytes)
    scenario = scenario_of({"kind": "malformed", "reasons": [reason], "at": "10s"})
    malformed = only(emissions_of(scenario, rules=rules), FaultKind.MALFORMED)
    assert len(malformed) == 5
    for emission in malformed:
        assert ReadingDecoder(rules).decode(emission.payload).reason == reason
        assert emission.injection.reason == reason


def test_a_fault_at_a_time_without_an_end_hits_one_reading_of_each_device_it_names():
    fault = {"kind": "spike", "devices": ["s*"], "at": "50s", "every": "30s"}
    spikes = only(emissions_of(scenario_of(fault)), FaultKind.SPIKE)
    assert len(spikes) == 2 * 3
    assert {e.device.device_id for e in spikes} == {"south_1", "south_2"}
    assert len({e.injection.number for e in spikes}) == 6


def test_faults_may_pick_some_of_the_devices_by_the_seed():
    def picked(seed):
        fault = {"kind": "spike", "at": "5s", "pick": 3, "devices": ["roof"]}
        hit = only(emissions_of(scenario_of(fault, devices=50), 10, seed), FaultKind.SPIKE)
        return {e.device.device_id for e in hit}

    assert len(picked(1)) == 3
    assert picked(1) == picked(1) != picked(2)


def test_random_faults_begin_about_as_often_as_they_should():
    fault = {"kind": "dropout", "per_hour": 6, "for": "1m"}
    withheld = only(
        emissions_of(scenario_of(fault, interval="10s", devices=20), 4 * 3600), FaultKind.DROPOUT
    )
    begun = {e.injection.number for e in withheld}
    # Every ten minutes on average, and a minute of it: 20 devices, four hours.
    assert len(begun) == pytest.approx(20 * 4 * 60 / 11, rel=0.2)
