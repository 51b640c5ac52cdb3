from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.cadence import learn_cadence
from iot_pipeline.core.devices import NewestRow, describe_device, silent_first
from iot_pipeline.core.durations import in_words
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.quality_words import Coverage
from iot_pipeline.core.reporting import judge_reporting, report_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rows(age_seconds, cadence_seconds, count=31):
    newest = NOW.timestamp() - age_seconds
    return [
        NewestRow(round((newest - number * cadence_seconds) * 1000), 20.0, 50.0, None)
        for number in range(count)
    ]


def test_a_cadence_is_the_usual_gap_whatever_one_dropout_did():
    assert learn_cadence([0, 10_000, 20_000, 500_000, 510_000, 520_000]) == 10.0
    assert learn_cadence([50_000, 30_000, 10_000, 20_000, 40_000]) == 10.0
    assert learn_cadence([0, 10_000]) is None


@pytest.mark.parametrize(
    ("age", "cadence", "is_silent"),
    [(59, 1, False), (61, 1, True), (299, 60, False), (301, 60, True), (-30, 1, False)],
)
def test_a_device_is_silent_after_five_readings_of_its_own_and_a_minute(age, cadence, is_silent):
    device = describe_device("d", rows(age, cadence), 7, NOW, QualityLimits())
    assert device.is_silent is is_silent
    assert device.silent_since == (NOW - timedelta(seconds=age) if is_silent else None)
    assert device.cadence_seconds == cadence


def test_of_a_device_of_unknown_cadence_nobody_knows_whether_it_is_silent():
    for count, is_silent in ((4, False), (5, True)):
        device = describe_device("d", rows(86_400, 1, count), None, NOW, QualityLimits())
        assert (device.is_silent, device.cadence_seconds is not None) == (is_silent, is_silent)


def test_the_limits_of_silence_are_those_of_the_settings():
    for seconds, intervals, is_silent in ((10, 1, True), (100, 1, False), (10, 99, False)):
        limits = QualityLimits(silent_seconds=seconds, silent_intervals=intervals)
        assert describe_device("d", rows(50, 1), None, NOW, limits).is_silent is is_silent


@given(
    age_seconds=st.integers(-100, 400),
    step_seconds=st.integers(1, 60),
    late_seconds=st.lists(st.integers(-30, 300) | st.just(25 * 3600), min_size=1, max_size=12),
    lag_seconds=st.integers(0, 300),
)
def test_the_check_and_the_list_of_devices_call_the_same_devices_silent(
    age_seconds, step_seconds, late_seconds, lag_seconds
):
    """Whatever its clock says, however late or backfilled its readings: one word, one rule."""
    limits = QualityLimits()
    as_of = NOW - timedelta(seconds=lag_seconds)
    as_of_ms, now_ms = round(as_of.timestamp() * 1000), round(NOW.timestamp() * 1000)
    measured_ms = [
        now_ms - (age_seconds + number * step_seconds) * 1000 for number in range(len(late_seconds))
    ]
    times = [(ms, ms + late * 1000) for ms, late in zip(measured_ms, late_seconds, strict=True)]
    newest = [NewestRow(measured, 20.0, 50.0, arrived) for measured, arrived in times]
    device = describe_device("d", newest, None, as_of, limits)
    report = report_of("d", times, limits)
    verdict = judge_reporting([report] if report else [], as_of_ms, limits, Coverage(1, 1))
    assert device.is_silent is not verdict.passed


def test_a_wrong_clock_and_a_backfilled_month_are_no_silence():
    now_ms = round(NOW.timestamp() * 1000)
    for behind_ms, is_backfilled in ((3_600_000, False), (30 * 86_400_000, True)):
        times = [now_ms - behind_ms - 1000 * number for number in range(31)]
        arrived = [NewestRow(ms, 20.0, 50.0, ms + behind_ms) for ms in times]
        assert not describe_device("d", arrived, None, NOW, QualityLimits()).is_silent
        later = NOW + timedelta(hours=2)
        found = describe_device("d", arrived, None, later, QualityLimits())
        assert found.is_silent is not is_backfilled, "it never reported by itself"


def test_silent_devices_come_first_the_longest_silent_on_top():
    ages = {"a": 0, "b": 100, "c": 900, "d": 0}
    devices = [
        describe_device(name, rows(age, 1), None, NOW, QualityLimits())
        for name, age in ages.items()
    ]
    assert [device.device_id for device in silent_first(devices)] == ["c", "b", "a", "d"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.25, "0.2 s"),
        (45, "45 s"),
        (60, "1 min"),
        (150, "2.5 min"),
        (9000, "2.5 h"),
        (86400 * 4, "4 d"),
        (59.99, "1 min"),
        (-90, "-1.5 min"),
        (0, "0 s"),
        (3599, "1 h"),
    ],
)
def test_durations_are_said_shortly(seconds, words):
    assert in_words(seconds) == words
