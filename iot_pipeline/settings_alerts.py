"""Alerts, metrics and logs: who is told, and what is served."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from iot_pipeline.core.alerts.channels import (
    QuietHours,
    parse_channels,
    parse_quiet_hours,
    parse_routes,
)


class AlertSettings(BaseModel):
    """`Settings` checks channels, routes and hours; the addresses of channels are secrets."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    alert_channels: SecretStr = SecretStr("")
    """where alerts go: NAME=URL, blanks or lines apart; URLs are Apprise's (docs/alerts.md)"""
    alert_routes: str = ""
    """what a channel is told: NAME=all, or warn, error, checks and kinds of alerts, by comma"""
    alert_quiet_hours: str = ""
    """only errors are told then, the rest afterwards: 22:00-07:00 Europe/Berlin"""
    alert_settle_seconds: float = Field(30, ge=0, le=3600)
    """a change that turns back within this is not told; what else changed comes along"""
    ui_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        json_schema_extra={"form": "an address such as http://host:3000"},
    )
    """address of Dagster's UI: for the links of alerts, and for `iot watch`"""
    metrics_port: int = Field(0, ge=0, le=65535)
    """runs that follow serve metrics for Prometheus on this port; 0: they do not"""
    metrics_address: str = "127.0.0.1"
    """address at which metrics are served; 0.0.0.0: at all of them, to everyone who can connect"""
    log_format: Literal["text", "json"] = "text"
    """how commands log, to stderr: text, or one JSON object a line"""

    @property
    def alert_urls(self) -> Mapping[str, str]:
        """The channels' addresses by name; they are secrets."""
        return parse_channels(self.alert_channels.get_secret_value())

    @property
    def alert_wanted(self) -> Mapping[str, tuple[str, ...]]:
        """What each channel with a route is told."""
        return parse_routes(self.alert_routes, self.alert_urls)

    @property
    def quiet_hours(self) -> QuietHours | None:
        return parse_quiet_hours(self.alert_quiet_hours)


def wrong_with(settings: AlertSettings) -> Iterator[str]:
    """A sentence for each thing that cannot work; no address is told."""
    urls: Mapping[str, str] = {}
    try:
        urls = settings.alert_urls
    except ValueError as exc:
        yield f"IOT_ALERT_CHANNELS: {exc}"
    else:
        yield from (
            f"IOT_ALERT_CHANNELS: channel {name}: its URL is none that Apprise understands; "
            "docs/alerts.md has examples"
            for name, url in urls.items()
            if make_channel(url) is None
        )
        try:
            parse_routes(settings.alert_routes, urls)
        except ValueError as exc:
            yield f"IOT_ALERT_ROUTES={settings.alert_routes}: {exc}"
    try:
        parse_quiet_hours(settings.alert_quiet_hours)
    except ValueError as exc:
        yield f"IOT_ALERT_QUIET_HOURS={settings.alert_quiet_hours}: {exc}"


def make_channel(url: str) -> Any:
    """Apprise's object for an address; None where it understands none of it.

    Nothing that Apprise or what it stands on logs is told: the address would be in it.
    """
    # An eighth of a second, only where alerts go somewhere.
    from apprise import Apprise

    # It has a handler of its own that says nothing.
    logging.getLogger("apprise").propagate = False
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return Apprise.instantiate(url)
