"""Times as a person says them."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.times import (
    Window,
    choose_window,
    in_utc,
    in_words,
    moment_of,
    moment_of_us,
    parse_duration,
    parse_moment,
    us_of,
)
from iot_pipeline.errors import ConfigurationError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("2d", 172_800), ("1.5h", 5400)]
)
def test_durations_are_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "0s", "1w", "1h30m", "9999999999d", "nand"])
def test_any_other_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigurationError, match="such as 30s, 15m, 1h or 2d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", NOW),
        ("2026-01-31T13:00:00+01:00", NOW),
        ("2026-01-31T12:00:00Z", NOW),
    ],
)
def test_moments_are_utc_unless_they_say_otherwise(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment
    assert parse_moment(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["yesterday", "", "0001-01-01T00:00:00+01:00"])
def test_any_other_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigurationError, match="such as 2026-01-31"):
        parse_moment(text)


def test_a_window_touches_the_day_of_its_start_and_not_that_of_an_end_at_midnight() -> None:
    window = Window(datetime(2026, 1, 29, 23, 59, tzinfo=UTC), datetime(2026, 1, 31, tzinfo=UTC))
    days = [date(2026, 1, day) for day in range(27, 32)]
    assert window.days_within(days) == [date(2026, 1, 30), date(2026, 1, 29)]


def test_the_last_hour_has_no_end_because_a_devices_clock_may_be_ahead() -> None:
    window = choose_window("1h", None, None, NOW)
    assert window is not None
    assert window.since == NOW - timedelta(hours=1)
    assert window.until.year == 9999


def test_no_window_was_asked_for() -> None:
    assert choose_window(None, None, None, NOW) is None


def test_an_open_start_is_the_beginning_of_everything() -> None:
    window = choose_window(None, None, "2026-01-31", NOW)
    assert window is not None
    assert window.since.year == 1


@pytest.mark.parametrize(
    ("last", "since", "until"),
    [
        ("1h", "2026-01-01", None),
        ("1h", None, "2026-01-01"),
        (None, "2026-01-02", "2026-01-01"),
        (None, "2026-01-01", "2026-01-01"),
    ],
)
def test_windows_that_contradict_themselves_are_refused(
    last: str | None, since: str | None, until: str | None
) -> None:
    with pytest.raises(ConfigurationError):
        choose_window(last, since, until, NOW)


def test_what_is_said_of_a_time_can_be_asked_for() -> None:
    moment = moment_of(1_769_860_800_123)
    assert in_utc(moment, "milliseconds") == "2026-01-31T12:00:00.123Z"
    assert in_utc(moment) == "2026-01-31T12:00:00Z"
    assert in_utc(moment, "minutes") == "2026-01-31T12:00Z"
    assert parse_moment(in_utc(moment, "milliseconds")) == moment
    assert in_utc(moment.astimezone(timezone(timedelta(hours=2)))) == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.01, "10 ms"), (0.099, "99 ms"), (0.0996, "0.1 s"), (-0.02, "-20 ms")]
)
def test_what_is_shorter_than_a_tenth_of_a_second_is_not_nothing(seconds, words):
    assert in_words(seconds) == words


@given(st.integers(946_684_800_000_000, 4_102_444_800_000_000))
def test_an_instant_keeps_its_microseconds(us: int) -> None:
    assert us_of(moment_of_us(us)) == us


def test_an_instant_is_counted_from_1970() -> None:
    at = datetime(2024, 12, 29, 4, 1, 58, 316_686, tzinfo=UTC)
    assert us_of(at) == 1_735_444_918_316_686
    assert us_of(at.astimezone(timezone(timedelta(hours=2)))) == us_of(at)
