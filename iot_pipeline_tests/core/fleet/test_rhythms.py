"""Devices that upload once an hour, or sleep at night, are neither silent nor late nor lacking."""

import pytest

from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.states import FleetStates, fold_rows
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR

START = 1_795_000_000_000 // MS_PER_DAY * MS_PER_DAY
MINUTE = 60_000
LIMITS = QualityLimits(QUANTITIES)


def upload(states: FleetStates, at: int) -> None:
    """The last hour, a reading a minute, in one second."""
    rows = [(at - MS_PER_HOUR + m * MINUTE, at + m, (20 + m % 7 / 10, 50.0)) for m in range(60)]
    fold_rows(states, "hourly", rows)


def awake(states: FleetStates, begin: int, hours: int) -> None:
    rows = [
        (begin + m * MINUTE, begin + m * MINUTE + 40, (20 + m % 7 / 10, 50.0))
        for m in range(60 * hours)
    ]
    fold_rows(states, "sleeper", rows)


def troubles(states: FleetStates, at: int) -> set[Trouble]:
    states.settle(at)
    return {trouble for trouble, found in states.fleet(at).problems.items() if found}


@pytest.mark.parametrize("uploads", range(1, 7))
@pytest.mark.parametrize("minutes", [1, 30, 59])
def test_an_hourly_upload_is_well_from_its_first_one_on(uploads: int, minutes: int) -> None:
    states = FleetStates(LIMITS)
    for hour in range(uploads):
        upload(states, START + hour * MS_PER_HOUR)
    now = START + (uploads - 1) * MS_PER_HOUR + minutes * MINUTE
    assert troubles(states, now) == set()


@pytest.mark.parametrize("uploads", [1, 6])
def test_an_hourly_upload_that_stays_away_is_silent(uploads: int) -> None:
    states = FleetStates(LIMITS)
    for hour in range(uploads):
        upload(states, START + hour * MS_PER_HOUR)
    now = START + (uploads - 1) * MS_PER_HOUR + 6 * MS_PER_HOUR
    assert Trouble.SILENT in troubles(states, now)


def test_a_night_is_known_after_two_of_them_and_a_missing_morning_is_seen() -> None:
    states = FleetStates(LIMITS)
    for day in range(3):
        awake(states, START + day * MS_PER_DAY + 6 * MS_PER_HOUR, 16)
        night = START + day * MS_PER_DAY + 23 * MS_PER_HOUR
        assert (Trouble.SILENT in troubles(states, night)) == (day < 2)
    assert troubles(states, START + 3 * MS_PER_DAY + 5 * MS_PER_HOUR) == set()
    assert Trouble.SILENT in troubles(states, START + 3 * MS_PER_DAY + 11 * MS_PER_HOUR)


def test_a_sleeper_that_falls_silent_at_noon_is_silent() -> None:
    states = FleetStates(LIMITS)
    for day in range(3):
        awake(states, START + day * MS_PER_DAY + 6 * MS_PER_HOUR, 16 if day < 2 else 6)
    assert Trouble.SILENT in troubles(states, START + 2 * MS_PER_DAY + 13 * MS_PER_HOUR)
