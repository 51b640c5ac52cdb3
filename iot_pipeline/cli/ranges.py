"""Which part of the log, which time and which days: said to every command in the same words."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from iot_pipeline.core.reading.declared_times import EARLIEST_SECONDS, LATEST_SECONDS, timestamp_ms
from iot_pipeline.core.reading.messages import find_device_id_problem
from iot_pipeline.core.times import Window, choose_window, parse_day, parse_moment
from iot_pipeline.errors import ConfigurationError

EARLIEST = datetime.fromtimestamp(EARLIEST_SECONDS, UTC)
LATEST = datetime.fromtimestamp(LATEST_SECONDS, UTC)
_SMALLER_UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_LONGEST_DAYS = 36_525


def _check_devices(_: click.Context, __: click.Parameter, value: Any) -> Any:
    for device_id in [value] if isinstance(value, str) else value:
        problem = find_device_id_problem(device_id)
        if problem is not None:
            raise ConfigurationError(problem)
    return value


device_argument = click.argument("device_id", metavar="DEVICE", callback=_check_devices)
devices_argument = click.argument(
    "device_ids", metavar="DEVICE...", nargs=-1, required=True, callback=_check_devices
)
day_option = click.option("--day", metavar="DAY", help="This UTC day, such as 2026-01-31.")
since_option = click.option("--since", metavar="DAY", help="From this UTC day on.")
until_option = click.option("--until", metavar="DAY", help="Before this UTC day.")
# The one way to say a range.
offsets_option = click.option(
    "--offsets",
    multiple=True,
    metavar="P:START-END",
    help="Exactly these offsets of Kafka partition P, END excluded; repeatable.",
)


def timestamp_ms_of(text: str) -> int:
    """The milliseconds of a TIMESTAMP: as `iot readings` shows it, or in seconds since 1970.

    Raises:
        ConfigurationError: neither, or not between 2000 and 2100, with the unit it may be in.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_moment(text).timestamp()
    if not EARLIEST_SECONDS <= seconds < LATEST_SECONDS:
        hint = next(
            (
                f"; these may be {unit}: {seconds / factor:.3f} is in seconds"
                for unit, factor in _SMALLER_UNITS.items()
                if EARLIEST_SECONDS <= seconds / factor < LATEST_SECONDS
            ),
            "",
        )
        raise ConfigurationError(
            f"{text}: expected a time between 2000 and 2100, such as 2026-01-31T12:00:00Z, or in "
            f"seconds since 1970{hint}"
        )
    return timestamp_ms(seconds)


def day_or_window(day: str | None, since: str | None, until: str | None) -> Window | None:
    """The time that `--day`, or `--since` and `--until`, mean; None when none was given."""
    if day is not None:
        begin = parse_day(day)
        return Window(begin, begin + timedelta(days=1))
    return choose_window(None, since, until, datetime.now(UTC))


def span_of_days(day: str | None, since: str | None, until: str | None) -> tuple[date, date]:
    """[first, end) of the days that `--day`, or `--since` and `--until`, mean.

    The first is date.min without `--since`, the end date.max without `--until`.

    Raises:
        ConfigurationError: neither way or both, or an end that is not after its start.
    """
    if (day is None) == (since is None and until is None):
        raise ConfigurationError("say which days: --day, or --since and --until or one of them")
    if day is not None:
        first = parse_day(day).date()
        return first, first + timedelta(days=1)
    first = date.min if since is None else parse_day(since).date()
    end = date.max if until is None else parse_day(until).date()
    if end <= first:
        raise ConfigurationError(f"--since {since} --until {until}: expected a day after the first")
    return first, end


def choose_days(day: str | None, since: str | None, until: str | None, today: date) -> list[date]:
    """Each of these days, at least one; those since a day end with today.

    Raises:
        ConfigurationError: as `span_of_days`; or the days have no start, or are too many.
    """
    first, end = span_of_days(day, since, until)
    if first == date.min:
        raise ConfigurationError(f"--until {until}: expected --since with it")
    if end == date.max:
        end = today + timedelta(days=1)
    if not 0 < (end - first).days <= _LONGEST_DAYS:
        raise ConfigurationError(
            f"--since {since} --until {until or 'today'}: expected a day after the first one, and "
            "a century at most"
        )
    return [first + timedelta(days=number) for number in range((end - first).days)]
