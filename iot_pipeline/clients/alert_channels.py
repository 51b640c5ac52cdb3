"""The only speaker of chat, e-mail and webhooks: Apprise, one object per channel.

An address is a secret, so neither it nor what Apprise logs of it is told anywhere.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from iot_pipeline.core.alerts.changes import Message
from iot_pipeline.core.alerts.conditions import Level
from iot_pipeline.core.words import counted
from iot_pipeline.settings_alerts import make_channel

_TIMEOUT_SECONDS = 5.0
_PACE_SECONDS = 0.5
_STATUS = re.compile(r"\berror=(\d{3})\b")
_TYPES = {Level.GREEN: "success", Level.WARN: "warning", Level.ERROR: "failure"}


class _Reason(logging.Handler):
    """Remembers the HTTP status of what Apprise complains about, and nothing else of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.status = ""

    def emit(self, record: logging.LogRecord) -> None:
        if found := _STATUS.search(record.getMessage()):
            self.status = found[1]


class AppriseChannels:
    """The channels of the settings, by name.

    `urls` are Apprise's addresses, checked by the settings.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = dict(urls)

    @property
    def names(self) -> Sequence[str]:
        return list(self._urls)

    def send(self, message: Message, dropped: int) -> str:
        """Send a message within some seconds; see `stages.alerts.telling.Channels`."""
        if dropped:
            lost = counted(dropped, "earlier message was", "earlier messages were")
            said = f"{lost} not delivered: the channel took none, and too many waited."
            message = replace(message, body=f"{message.body}\n\n{said}")
        plugin, reason = _plugin(self._urls[message.channel]), _Reason()
        logger = logging.getLogger("apprise")
        logger.addHandler(reason)
        try:
            # What Apprise cannot do it answers with False: it lets no error out.
            is_taken = plugin.notify(
                body=message.body,
                title=message.title,
                notify_type=_TYPES[message.level],
                body_format="text",
            )
        finally:
            logger.removeHandler(reason)
        if is_taken:
            return ""
        return f"it answered {reason.status}" if reason.status else "it did not answer, or refused"


@cache
def _plugin(url: str) -> Any:
    plugin = make_channel(url)
    plugin.socket_connect_timeout = plugin.socket_read_timeout = _TIMEOUT_SECONDS
    # It sleeps between two messages, up to 5.5 s for e-mail; ours are few.
    plugin.request_rate_per_sec = min(plugin.request_rate_per_sec, _PACE_SECONDS)
    return plugin
