from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.simulator.simulation import (
    MAX_RATE,
    parse_rate,
    parse_start,
    plan_simulation,
    to_us,
)
from iot_pipeline.errors import ConfigurationError

NOW_US = 1_735_444_918_316_686
START = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_rate_and_a_duration_are_an_exact_count():
    plan = plan_simulation(devices=3, rate=100, duration_seconds=10)
    assert plan.count == 1_000
    assert plan.duration_seconds is None


def test_a_live_fleet_measures_at_the_pace_it_is_sent():
    plan = plan_simulation(devices=3, rate=1, count=900)
    assert plan.interval_us == 3_000_000
    readings = plan.fleet(NOW_US).readings(0, 4)
    assert [round(r.timestamp * 1e6) - NOW_US for r in readings] == [0, 10**6, 2 * 10**6, 3 * 10**6]


@given(devices=st.integers(1, 2_000), count=st.integers(1, 10**6))
def test_live_readings_at_rate_max_are_never_of_the_future(devices, count):
    plan = plan_simulation(devices=devices, rate="max", count=count)
    [last] = plan.fleet(NOW_US).readings(count - 1, 1)
    assert round(last.timestamp * 1e6) <= NOW_US


@given(devices=st.integers(1, 3_000), seconds=st.floats(min_value=0.1, max_value=60))
def test_live_readings_for_a_duration_are_never_of_the_future(devices, seconds):
    plan = plan_simulation(devices=devices, rate="max", duration_seconds=seconds)
    last_number = int(MAX_RATE * seconds)
    [last] = plan.fleet(NOW_US).readings(last_number, 1)
    # One interval of slack: the last round may be under way.
    assert round(last.timestamp * 1e6) <= NOW_US + seconds * 1e6 + 1_000


def test_a_backfill_starts_where_asked_and_keeps_its_interval():
    plan = plan_simulation(devices=2, rate="max", count=8, start=START, interval_seconds=60)
    assert plan.begin_us(NOW_US) == to_us(START)
    times = [r.timestamp for r in plan.fleet(NOW_US).readings(0, 8) if r.device_id == "device_1"]
    assert times == [START.timestamp() + 60 * n for n in range(4)]


def test_a_backfill_at_rate_max_is_one_reading_a_second_and_device():
    assert plan_simulation(devices=2, rate="max", count=8, start=START).interval_us == 10**6


def test_an_interval_that_floats_cannot_say_is_exact():
    plan = plan_simulation(devices=1, rate="max", count=1, start=START, interval_seconds=0.1)
    assert plan.interval_us == Fraction(100_000)


def test_the_reading_interval_may_be_the_shortest_but_not_shorter():
    assert plan_simulation(devices=3, rate=3_000, count=1).interval_us == 1_000
    with pytest.raises(ConfigurationError, match=r"at most 3,000 messages.* at least 4 devices"):
        plan_simulation(devices=3, rate=3_001, count=1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"devices": 0}, "devices 0"),
        ({"devices": 1_000_001}, "devices 1000001"),
        ({"rate": 0}, "rate 0"),
        ({"rate": -5.0}, "rate -5"),
        ({"rate": float("nan")}, "rate nan"),
        ({"rate": float("inf")}, "rate inf"),
        ({"count": 0}, "count 0"),
        ({"count": 5, "duration_seconds": 5}, "one of them"),
        ({"duration_seconds": 0}, "duration 0"),
        ({"duration_seconds": float("nan")}, "duration nan"),
        ({"rate": "max"}, "give a count or a duration"),
        ({"interval_seconds": 1}, "give a start"),
        ({"start": START, "interval_seconds": 0.0001}, "interval 0.0001"),
        ({"start": datetime(1999, 12, 31, tzinfo=UTC)}, "between 2000 and 2100"),
        ({"start": datetime(2101, 1, 1, tzinfo=UTC)}, "between 2000 and 2100"),
        ({"start": START, "interval_seconds": 86_400, "count": 10**6}, "between 2000 and 2100"),
        ({"devices": 1, "rate": "max", "duration_seconds": 10**6}, "more than ten years ago"),
    ],
)
def test_a_simulation_that_makes_no_sense_is_refused_by_name(wrong, named):
    with pytest.raises(ConfigurationError, match=named):
        plan_simulation(**({"devices": 3, "rate": 10} | wrong))


def test_rates_and_starts_are_read_as_people_write_them():
    assert parse_rate("max") == "max"
    assert parse_rate("0.5") == 0.5
    assert parse_start("2026-01-01T01:00:00+01:00") == START
    with pytest.raises(ConfigurationError, match="fast"):
        parse_rate("fast")
    for text in ("yesterday", "2026-01-01T00:00:00"):
        with pytest.raises(ConfigurationError, match="with its zone"):
            parse_start(text)


def test_an_instant_keeps_its_microseconds():
    assert to_us(datetime(2024, 12, 29, 4, 1, 58, 316_686, tzinfo=UTC)) == NOW_US
