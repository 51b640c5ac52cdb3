"""Times as a person says them: moments (`2026-01-31`), spans (`15m`), and how long in words.

Everything is UTC: a time without a zone is taken as such, and what we say ends in Z.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from iot_pipeline.errors import ConfigurationError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNIX_EPOCH = _EPOCH.date()
MS_PER_HOUR = 3_600_000
HOURS_PER_DAY = 24
MS_PER_DAY = HOURS_PER_DAY * MS_PER_HOUR
US_PER_SECOND = 1_000_000
US_PER_HOUR = 3600 * US_PER_SECOND
US_PER_DAY = HOURS_PER_DAY * US_PER_HOUR
_UNITS_US = {
    "ms": 1_000,
    "s": US_PER_SECOND,
    "m": 60 * US_PER_SECOND,
    "h": US_PER_HOUR,
    "d": US_PER_DAY,
}
_UNITS_SAID = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))
_SPAN = r"\d+(\.\d+)?(ms|s|m|h|d)"
_PARTS = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST = timedelta(days=36_525)

# In a scenario file.
Duration = Annotated[
    str,
    Meta(
        pattern=f"^{_SPAN}$",
        description="A time span with its unit: 500ms, 90s, 15m, 2h, 30d.",
        examples=["90s", "15m"],
    ),
]
Shift = Annotated[
    str,
    Meta(
        pattern=f"^-?{_SPAN}$",
        description="How far a clock is off: 90s is ahead, -90s behind.",
        examples=["90s", "-2m"],
    ),
]


@dataclass(frozen=True, slots=True)
class Window:
    """Instants [since, until), aware UTC."""

    since: datetime
    until: datetime

    def days_within(self, days: Iterable[date]) -> list[date]:
        """Those UTC days that the window touches, newest first."""
        last = (self.until - timedelta(microseconds=1)).date()
        return sorted((day for day in days if self.since.date() <= day <= last), reverse=True)


def day_of(number: int) -> date:
    """The UTC day of a number of days since 1970."""
    return UNIX_EPOCH + timedelta(days=number)


def day_number(day: date) -> int:
    return (day - UNIX_EPOCH).days


def moment_of(ms: float) -> datetime:
    """Aware UTC, of milliseconds since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def us_of(moment: datetime) -> int:
    """Microseconds since 1970 of an aware instant, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of_us(us: int) -> datetime:
    """Aware UTC, of microseconds since 1970, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def duration_us(text: str) -> int:
    """Whole microseconds of a `Duration` or a `Shift`.

    Raises:
        ValueError: it is neither; both types refuse such a text first.
    """
    match = _PARTS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: expected a time span such as 90s, 15m, 2h or 30d")
    return int(Decimal(match[1]) * _UNITS_US[match[2]])


def parse_duration(text: str) -> timedelta:
    """Read `30s`, `15m`, `1h` or `2d`.

    Raises:
        ConfigurationError: anything else, nothing, or more than a century.
    """
    try:
        us = duration_us(text.strip())
    except ValueError:
        us = 0
    if not 0 < us <= _LONGEST / timedelta(microseconds=1):
        raise ConfigurationError(f"{text}: expected a duration such as 30s, 15m, 1h or 2d")
    return timedelta(microseconds=us)


def exact_span(us: int) -> str:
    """A span as a file has it, in the largest unit that divides it: 90s, 15m, 30d."""
    for unit in ("d", "h", "m", "s"):
        if us and us % _UNITS_US[unit] == 0:
            return f"{us // _UNITS_US[unit]}{unit}"
    return f"{us / 1000:g}ms"


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


def in_words(seconds: float) -> str:
    """`20 ms`, `0.2 s`, `45 s`, `3 min`, `2.5 h`, `4 d`; two digits or so, maybe a minus."""
    size = abs(seconds)
    sign = "-" if seconds < 0 else ""
    for unit, name in _UNITS_SAID:
        if size >= unit * 0.9995:
            return f"{sign}{_short(size / unit)} {name}"
    if 0 < size < 0.0995:
        return f"{sign}{size * 1000:.0f} ms"
    return f"{sign}{_short(size)} s"


def _short(number: float) -> str:
    if number >= 9.95 or abs(number - round(number)) < 0.05:
        return f"{number:.0f}"
    return f"{number:.1f}"
