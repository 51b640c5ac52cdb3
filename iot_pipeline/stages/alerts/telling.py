"""Tell each change once: note it, keep it, send it, keep that it was sent.

At-least-once: what is to be told is kept before it is sent, so a process that dies loses no
message; one that dies between sending and keeping sends its last messages again, with the same
message_id.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from iot_pipeline.core.alerts.changes import Memory, Message, note, put, send_due
from iot_pipeline.core.alerts.channels import messages_for, parse_routes
from iot_pipeline.core.alerts.conditions import Condition, is_any_away, without_consequences
from iot_pipeline.core.alerts.message import write_message
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import lag_is_within_limit
from iot_pipeline.stages.checks.machinery.registry import all_checks

_log = logging.getLogger(__name__)
# A look comes again soon: what is not sent by then waits for it.
_SEND_SECONDS = 20.0


class Channels(Protocol):
    """The channels of the settings."""

    @property
    def names(self) -> Sequence[str]: ...

    def send(self, message: Message, dropped: int) -> str:
        """Send a message, and how many before it were dropped.

        Returns:
            Why it was not taken, without the channel's address; empty: it was.
        """


@dataclass(frozen=True, slots=True)
class Told:
    """What a look led to: messages that were written, those that were sent, and what failed."""

    written: int
    sent: int
    failures: Mapping[str, str]
    waiting: int

    def __str__(self) -> str:
        said = [f"{self.sent} sent"] if self.sent else []
        said += [f"{name} did not take a message: {why}" for name, why in self.failures.items()]
        if self.waiting:
            said.append(f"{self.waiting} wait for their channel")
        return "; ".join(said) or "nothing to tell"


def refuse_unknown_checks(settings: Settings) -> None:
    """Refuse a route to a check that there is not: it would never be told.

    Raises:
        ConfigurationError: which one.
    """
    names = {check.name for check in all_checks()}
    try:
        parse_routes(settings.alert_routes, settings.alert_urls, names)
    except ValueError as exc:
        raise ConfigurationError(f"IOT_ALERT_ROUTES={settings.alert_routes}: {exc}") from None


def tell(
    conditions: Iterable[Condition],
    memory: Memory,
    keep: Callable[[Memory], None],
    channels: Channels,
    settings: Settings,
    pipeline: str,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
) -> Told:
    """Tell what changed since `memory`, and send what still waits for its channel.

    Args:
        conditions: as they are now; consequences of others may be among them.
        keep: makes a memory durable; called before anything is sent, and after.
    """
    now_ms = round(now.timestamp() * 1000)
    quiet, found = settings.quiet_hours, list(conditions)
    seen = replace(memory, away_ms=now_ms) if is_any_away(found) else memory
    # Ingestion goes on some seconds after its servers do: it has as long as at any other time.
    since_away_ms = math.inf if seen.away_ms is None else now_ms - seen.away_ms
    noted, changes = note(
        seen,
        without_consequences(
            found,
            [lag_is_within_limit.CHECK.name],
            is_recovering=since_away_ms < settings.lag_limit_seconds * 1000,
        ),
        now_ms,
        settle_seconds=settings.alert_settle_seconds,
        is_quiet=quiet is not None and quiet.covers(now),
    )
    by_channel = messages_for(changes, channels.names, settings.alert_wanted)
    messages = [
        write_message(channel, chosen, pipeline, settings.ui_url, now_ms)
        for channel, chosen in by_channel.items()
    ]
    noted = put(noted, messages)
    if noted != memory:
        keep(noted)
    until = clock() + _SEND_SECONDS

    def send(message: Message, dropped: int) -> str:
        return channels.send(message, dropped) if clock() < until else "no time was left"

    after, failures = send_due(noted, now_ms, channels.names, send)
    if after != noted:
        keep(after)
    for name, why in failures:
        _log.warning("alerts: channel %s did not take a message: %s; tried again", name, why)
    sent = len(noted.outbox) - len(after.outbox)
    return Told(len(messages), sent, dict(failures), len(after.outbox))
