"""Times as a person says them: `15m`, `2026-01-31`, and the window between two of them.

Everything is UTC: a time without a zone is taken as such, and what we say ends in Z.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from iot_pipeline.errors import ConfigurationError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST = timedelta(days=36_525)


@dataclass(frozen=True, slots=True)
class Window:
    """Instants [since, until), aware UTC."""

    since: datetime
    until: datetime

    def days_within(self, days: Iterable[date]) -> list[date]:
        """Those UTC days that the window touches, newest first."""
        last = (self.until - timedelta(microseconds=1)).date()
        return sorted((day for day in days if self.since.date() <= day <= last), reverse=True)


def parse_duration(text: str) -> timedelta:
    """Read `30s`, `15m`, `1h` or `2d`.

    Raises:
        ConfigurationError: anything else, nothing, or more than a century.
    """
    match = _DURATION.fullmatch(text.strip())
    duration = timedelta()
    if match is not None and float(match[1]) * _UNIT_SECONDS[match[2]] <= _LONGEST.total_seconds():
        duration = timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])
    if not duration:
        raise ConfigurationError(f"{text}: expected a duration such as 30s, 15m, 1h or 2d")
    return duration


def parse_moment(text: str) -> datetime:
    """Read an ISO 8601 time or day; without a zone it is UTC.

    Raises:
        ConfigurationError: anything else.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{text}: expected a time such as 2026-01-31, 2026-01-31T12:00:00 or "
            "2026-01-31T12:00:00+01:00"
        ) from None


def parse_day(text: str) -> datetime:
    """The first instant of the UTC day `2026-01-31`.

    Raises:
        ConfigurationError: anything else.
    """
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(f"{text}: expected a day such as 2026-01-31") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def moment_of(ms: int) -> datetime:
    """The instant so many milliseconds after 1970, aware UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def in_utc(
    moment: datetime, timespec: Literal["minutes", "seconds", "milliseconds"] = "seconds"
) -> str:
    """`2026-01-31T12:00:00Z`: how every command says a time, and what `parse_moment` reads.

    Without a blank, so that it can be pasted behind `--since`. What is finer than `timespec` is
    cut off, not rounded.
    """
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def choose_window(
    last: str | None, since: str | None, until: str | None, now: datetime
) -> Window | None:
    """The window that `--last` or `--since/--until` mean; None when none of them was given.

    An open start is the beginning of all readings, an open end is the end: a device's clock may be
    ahead of ours, and `--last 1h` leaves nothing out that is newer.

    Raises:
        ConfigurationError: both ways at once, or an end that is not after its start.
    """
    if last is not None and (since is not None or until is not None):
        raise ConfigurationError("--last says it all: leave --since and --until out")
    if last is not None:
        return Window(now - parse_duration(last), datetime.max.replace(tzinfo=UTC))
    if since is None and until is None:
        return None
    window = Window(
        parse_moment(since) if since else datetime.min.replace(tzinfo=UTC),
        parse_moment(until) if until else datetime.max.replace(tzinfo=UTC),
    )
    if window.until <= window.since:
        raise ConfigurationError(f"--until {until}: expected a time after --since {since}")
    return window
