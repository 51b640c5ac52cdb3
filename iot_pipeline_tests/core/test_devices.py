from datetime import UTC, datetime, timedelta

import pytest

from iot_pipeline.core.cadence import learn_cadence, silence_limit
from iot_pipeline.core.devices import NewestRow, describe_device, silent_first
from iot_pipeline.core.durations import in_words

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rows(age_seconds, cadence_seconds, count=31):
    newest = NOW.timestamp() - age_seconds
    return [
        NewestRow(round((newest - number * cadence_seconds) * 1000), 20.0, 50.0, None)
        for number in range(count)
    ]


def test_a_cadence_is_the_usual_gap_whatever_one_dropout_did():
    assert learn_cadence([0, 10_000, 20_000, 500_000, 510_000, 520_000]) == 10.0
    assert learn_cadence([30_000, 10_000, 20_000]) == 10.0
    assert learn_cadence([0, 10_000]) is None


@pytest.mark.parametrize(
    ("age", "cadence", "is_silent"),
    [(59, 1, False), (61, 1, True), (299, 60, False), (301, 60, True), (-30, 1, False)],
)
def test_a_device_is_silent_after_five_readings_of_its_own_and_a_minute(age, cadence, is_silent):
    device = describe_device("d", rows(age, cadence), 7, NOW)
    assert device.is_silent is is_silent
    assert device.silent_since == (NOW - timedelta(seconds=age) if is_silent else None)
    assert device.cadence_seconds == cadence


def test_a_device_of_unknown_cadence_has_an_hour():
    assert silence_limit(None) == timedelta(hours=1)
    assert not describe_device("d", rows(3599, 1, 2), None, NOW).is_silent
    assert describe_device("d", rows(3601, 1, 2), None, NOW).is_silent


def test_silent_devices_come_first_the_longest_silent_on_top():
    ages = {"a": 0, "b": 100, "c": 900, "d": 0}
    devices = [describe_device(name, rows(age, 1), None, NOW) for name, age in ages.items()]
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
