"""Where alerts go: named channels, which of them is told what, and when it is quiet."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from iot_pipeline.core.alerts.changes import Change
from iot_pipeline.core.alerts.conditions import KINDS, Level

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)(?: (\S+))?")
ALL = "all"
_LEVELS = {"warn": Level.WARN, "error": Level.ERROR}


def parse_channels(text: str) -> dict[str, str]:
    """`ops=json://… mail=mailto://…`: name -> URL; blanks or lines apart, `#` begins a comment.

    Raises:
        ValueError: a part is none; the URL itself is not told, for it is a secret.
    """
    found: dict[str, str] = {}
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for number, part in enumerate(" ".join(lines).split(), start=1):
        name, equals, url = part.partition("=")
        if not equals or not _NAME.fullmatch(name) or "://" not in url:
            raise ValueError(
                f"channel {number}: expected NAME=URL, such as ops=json://host/path; a name is "
                "lower-case letters, digits, _ and -"
            )
        if name in found:
            raise ValueError(f"channel {name} is there twice: expected another name")
        found[name] = url
    return found


def parse_routes(
    text: str, channels: Collection[str], checks: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """`ops=error,run_failed mail=all`: what each channel is told; one without a route is told all.

    Args:
        checks: the names of all checks; empty: they are not looked at.

    Raises:
        ValueError: a part is none, or names what there is not.
    """
    found: dict[str, tuple[str, ...]] = {}
    known = {ALL, *_LEVELS, *KINDS, *checks}
    for part in text.split():
        name, equals, listed = part.partition("=")
        wanted = tuple(item for item in listed.split(",") if item)
        if not equals or not wanted:
            raise ValueError(f"{part}: expected CHANNEL=WHAT,WHAT, such as ops=error,run_failed")
        if name not in channels:
            raise ValueError(f"{part}: no channel is called {name!r}")
        for item in wanted:
            if item not in known and (checks or not re.fullmatch(r"[a-z_]+", item)):
                raise ValueError(
                    f"{part}: expected all, warn, error, a check's name or one of "
                    f"{', '.join(KINDS)}, not {item!r}"
                )
        found[name] = wanted
    return found


def goes_to(change: Change, wanted: Sequence[str]) -> bool:
    """Whether a channel that wants these is told this change."""
    return any(
        item in (ALL, change.condition.kind) or change.level is _LEVELS.get(item) for item in wanted
    )


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` of each day in a time zone; over midnight where `end` comes first."""

    begin: time
    end: time
    zone: ZoneInfo

    def covers(self, now: datetime) -> bool:
        at = now.astimezone(self.zone).time()
        if self.begin <= self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end


def parse_quiet_hours(text: str) -> QuietHours | None:
    """`22:00-07:00 Europe/Berlin`; UTC where no zone is named, None where nothing is.

    Raises:
        ValueError: it is something else.
    """
    if not text.strip():
        return None
    match = _HOURS.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        hours = [int(part) for part in match.groups()[:4]]
        zone = ZoneInfo(match[5] or "UTC")
        return QuietHours(time(hours[0], hours[1]), time(hours[2], hours[3]), zone)
    except (ValueError, ZoneInfoNotFoundError):
        raise ValueError(
            "expected hours and a time zone, such as 22:00-07:00 Europe/Berlin"
        ) from None


def messages_for(
    changes: Sequence[Change], channels: Collection[str], routes: Mapping[str, Sequence[str]]
) -> dict[str, list[Change]]:
    """By channel, what it is told of these changes; channels that are told nothing are left out."""
    found = {
        channel: [change for change in changes if goes_to(change, routes.get(channel, (ALL,)))]
        for channel in channels
    }
    return {channel: chosen for channel, chosen in found.items() if chosen}
