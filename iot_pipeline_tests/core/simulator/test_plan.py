from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.simulator.plan import MAX_RATE, plan_fleet, plan_scenario
from iot_pipeline.core.times import us_of
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.scenario_files import load_scenario

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_US = us_of(NOW)
DAY_US = 86_400_000_000


def plan_of(name="smart_home", **options):
    return plan_scenario(load_scenario(name)[1], name=name, now=NOW, **options)


def test_a_live_scenario_begins_now_and_ends_by_itself():
    plan = plan_of()
    assert (plan.begin_us(NOW_US), plan.speed) == (NOW_US, 1.0)
    assert plan.duration_us == 600_000_000


@pytest.mark.parametrize("speed", [2, 60, 1000])
def test_faster_than_live_begins_so_that_it_ends_now(speed):
    plan = plan_of(speed=speed, duration_seconds=86_400)
    takes_us = plan.duration_us / speed
    assert plan.begin_us(NOW_US) + plan.duration_us == pytest.approx(NOW_US + takes_us, abs=1)


def test_a_backfill_covers_the_time_between_two_and_ends_now_by_default():
    since, until = NOW - timedelta(days=9), NOW - timedelta(days=2)
    plan = plan_of(since=since, until=until)
    assert (plan.begin_us(NOW_US), plan.duration_us) == (us_of(since), 7 * DAY_US)
    assert plan.speed is None
    assert plan_of(since=since).duration_us == 9 * DAY_US


def test_a_month_to_backfill_is_the_last_thirty_days():
    plan = plan_of("backfill_month")
    assert plan.begin_us(NOW_US) == NOW_US - 30 * DAY_US
    assert plan.expected_messages == 4_320_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"until": NOW}, "give its since too"),
        ({"since": NOW - timedelta(days=1), "speed": 60}, "leave out speed"),
        ({"since": NOW - timedelta(days=1), "duration_seconds": 60}, "leave out duration"),
        ({"since": NOW - timedelta(days=1), "start": NOW}, "leave out start"),
        ({"since": NOW, "until": NOW + timedelta(days=1)}, "in the future"),
        ({"since": NOW, "until": NOW}, "is not before"),
        ({"since": datetime(1990, 1, 1, tzinfo=UTC)}, "at most 366d"),
        ({"start": datetime(1990, 1, 1, tzinfo=UTC)}, "between 2000 and 2100"),
        ({"speed": 0}, "above 0"),
        ({"speed": 100_000, "name": "smart_city"}, "give a lower speed"),
        ({"duration_seconds": 0}, "more than 0"),
        ({"max_value_bytes": 10_000_000, "name": "rough_day"}, "IOT_MAX_VALUE_BYTES"),
    ],
)
def test_what_contradicts_itself_is_refused_with_what_would_be_right(options, said):
    with pytest.raises(ConfigurationError, match=said):
        plan_of(**options)


# A fleet of devices that are well, without a file.

LIVE_US = 1_735_444_918_316_686
START = datetime(2026, 1, 1, tzinfo=UTC)


def event_times(plan, count):
    """(device_id, microseconds) of the plan's first messages."""
    emissions = islice(plan.fleet(LIVE_US, ReadingRules()).emissions(), count)
    return [(e.device.device_id, e.measured_us) for e in emissions]


def interval_us(plan):
    return plan.scenario.groups[0].interval_us


def test_a_rate_and_a_duration_are_an_exact_count():
    plan = plan_fleet(devices=3, rate=100, duration_seconds=10)
    assert plan.count == plan.expected_messages == 1_000
    assert plan.seconds is None


@pytest.mark.parametrize(("rate", "takes"), [(1, 900), (7, 900 / 7), (0.3, 3_000)])
def test_a_live_fleet_measures_at_the_pace_it_is_sent(rate, takes):
    plan = plan_fleet(devices=3, rate=rate, count=900)
    assert (plan.speed, plan.begin_us(LIVE_US)) == (1.0, LIVE_US)
    assert interval_us(plan) == 3_000_000 / Fraction(str(rate))
    assert float(plan.sending_seconds) == pytest.approx(takes, abs=1e-6)
    offsets = [at - LIVE_US for _, at in event_times(plan, 4)]
    assert offsets == pytest.approx([n * 10**6 / rate for n in range(4)], abs=2)


@settings(max_examples=30, deadline=None)
@given(devices=st.integers(1, 2_000), count=st.integers(1, 30_000))
def test_live_readings_at_rate_max_are_never_of_the_future(devices, count):
    plan = plan_fleet(devices=devices, rate="max", count=count)
    times = event_times(plan, count + 1)
    assert len(times) == count
    assert times[-1][1] <= LIVE_US


@given(devices=st.integers(1, 3_000), seconds=st.floats(min_value=0.1, max_value=60))
def test_live_readings_for_a_duration_are_never_of_the_future(devices, seconds):
    plan = plan_fleet(devices=devices, rate="max", duration_seconds=seconds)
    assert plan.expected_messages is None
    # As many rounds as can be sent in that time, and one that is under way.
    rounds = int(MAX_RATE * seconds) // devices + 1
    last_us = plan.begin_us(LIVE_US) + rounds * 1_000
    assert last_us <= LIVE_US + seconds * 1e6 + 1_001


def test_a_backfill_starts_where_asked_and_keeps_its_interval():
    plan = plan_fleet(devices=2, rate="max", count=8, start=START, interval_seconds=60)
    assert plan.begin_us(LIVE_US) == us_of(START)
    times = [at for device_id, at in event_times(plan, 8) if device_id == "device_1"]
    assert times == [us_of(START) + 60_000_000 * n for n in range(4)]


def test_a_backfill_at_a_rate_passes_its_event_time_as_fast_as_that():
    plan = plan_fleet(devices=10, rate=100, count=1_000, start=START, interval_seconds=60)
    assert plan.speed == 600
    assert plan.sending_seconds == 10


def test_a_backfill_at_rate_max_is_one_reading_a_second_and_device():
    assert interval_us(plan_fleet(devices=2, rate="max", count=8, start=START)) == 10**6


def test_an_interval_that_floats_cannot_say_is_exact():
    plan = plan_fleet(devices=1, rate="max", count=1, start=START, interval_seconds=0.1)
    assert interval_us(plan) == Fraction(100_000)


def test_the_reading_interval_may_be_the_shortest_but_not_shorter():
    assert interval_us(plan_fleet(devices=3, rate=3_000, count=1)) == 1_000
    with pytest.raises(ConfigurationError, match=r"at most 3,000 messages.* at least 4 devices"):
        plan_fleet(devices=3, rate=3_001, count=1)


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
        plan_fleet(**({"devices": 3, "rate": 10} | wrong))
