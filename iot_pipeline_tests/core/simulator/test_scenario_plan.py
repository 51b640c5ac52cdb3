from datetime import UTC, datetime, timedelta

import pytest

from iot_pipeline.core.simulator.scenario_plan import plan_scenario
from iot_pipeline.core.simulator.simulation import to_us
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.scenario_files import load_scenario

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_US = to_us(NOW)
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
    assert (plan.begin_us(NOW_US), plan.duration_us) == (to_us(since), 7 * DAY_US)
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
