"""A message is sent once, and again only by a process that died before it kept that."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from iot_pipeline.core.alerts.changes import Memory, Message
from iot_pipeline.core.alerts.conditions import (
    INGESTION_STANDS_STILL,
    SERVER_IS_AWAY,
    Condition,
    Level,
)
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.alerts.telling import refuse_unknown_checks, tell
from iot_pipeline.stages.checks.lag_is_within_limit import CHECK

NOW = datetime(2026, 1, 1, 23, 0, tzinfo=UTC)
RED = Condition("topic_is_safe", Level.WARN, "It is not.")
GREEN = Condition("topic_is_safe", Level.GREEN, "It is.")


class DiedError(Exception):
    """The process ends here."""


@dataclass(slots=True)
class Told:
    """Two channels, a memory on disk as text, and a process that may die at any step."""

    settings: Settings
    names: Sequence[str] = ("ops", "mail")
    disk: str = ""
    taken: list[Message] = field(default_factory=list)
    dies_after: int | None = None
    steps: int = 0

    def _step(self) -> None:
        self.steps += 1
        if self.dies_after is not None and self.steps > self.dies_after:
            raise DiedError

    def keep(self, memory: Memory) -> None:
        self._step()
        self.disk = memory.as_text()

    def send(self, message: Message, dropped: int) -> str:
        self._step()
        self.taken.append(message)
        return ""

    def look(self, *conditions: Condition, seconds: float = 0) -> None:
        now = NOW + timedelta(seconds=seconds)
        memory = Memory.of_text(self.disk)
        tell(conditions, memory, self.keep, self, self.settings, "iot", now)


def settings(**more: str) -> Settings:
    channels = "ops=json://127.0.0.1:9/x mail=json://127.0.0.1:9/y"
    return Settings.from_env(
        {"IOT_ALERT_CHANNELS": channels, "IOT_ALERT_SETTLE_SECONDS": "10", **more}
    )


def test_wherever_the_process_dies_nothing_is_lost_and_what_is_repeated_has_its_id() -> None:
    steps = 8
    for dies_after in range(steps + 1):
        told = Told(settings(), dies_after=dies_after)
        for second in range(0, 60, 10):
            try:
                told.look(RED, seconds=second)
            except DiedError:
                told.dies_after = None  # the next process
        sent = [(message.channel, message.message_id) for message in told.taken]
        assert {channel for channel, _ in sent} == {"ops", "mail"}, dies_after
        assert len(set(sent)) == 2, dies_after
        assert len(sent) <= 4, "at most those of one look are sent twice"
        assert not Memory.of_text(told.disk).outbox


def test_quiet_hours_and_routes_of_the_settings_hold() -> None:
    told = Told(
        settings(IOT_ALERT_QUIET_HOURS="22:00-07:00", IOT_ALERT_ROUTES="mail=error ops=warn")
    )
    for second in range(0, 60, 10):
        told.look(RED, seconds=second)
    assert told.taken == []
    told.look(RED, seconds=9 * 3600)
    assert [message.channel for message in told.taken] == ["ops"]
    told.look(GREEN, seconds=9 * 3600 + 10)
    told.look(GREEN, seconds=9 * 3600 + 30)
    assert [message.title for message in told.taken][1:] == ["iot: topic_is_safe is green again"]


def test_after_an_outage_ingestion_has_its_time_to_go_on_before_its_lag_is_told() -> None:
    """As recorded: Cassandra dead for 73 s, and a run that goes on 20 s after it is back."""
    told = Told(settings(IOT_ALERT_SETTLE_SECONDS="0"), names=["ops"])
    away = Condition(SERVER_IS_AWAY, Level.ERROR, "It does not answer.", "Cassandra")
    back = Condition(SERVER_IS_AWAY, Level.GREEN, "It answers.", "Cassandra")
    still = Condition(INGESTION_STANDS_STILL, Level.ERROR, "Nothing was ingested.")
    moves = Condition(INGESTION_STANDS_STILL, Level.GREEN, "It is.")
    lag = Condition(CHECK.name, Level.WARN, "73 s.")
    for second in range(0, 80, 10):
        told.look(away, seconds=second)
    for second in range(80, 110, 10):
        told.look(back, still, lag, seconds=second)
    told.look(back, moves, replace(lag, level=Level.GREEN), seconds=110)
    subject = "server_is_away/Cassandra"
    assert [message.title for message in told.taken] == [
        f"iot: {subject} is red",
        f"iot: {subject} is green again",
    ]
    # One that does not go on is told, once its time is over.
    told.look(back, still, lag, seconds=131)
    assert told.taken[-1].title == "iot: ingestion_stands_still is red"


def test_a_memory_of_another_version_begins_anew() -> None:
    assert Memory.of_text('{"told": 7}') == Memory()
    assert Memory.of_text(None) == Memory()


def test_a_route_to_a_check_that_there_is_not_is_refused() -> None:
    refuse_unknown_checks(settings(IOT_ALERT_ROUTES="ops=topic_is_safe,run_failed"))
    with pytest.raises(ConfigurationError, match="not 'topic_is_save'"):
        refuse_unknown_checks(settings(IOT_ALERT_ROUTES="ops=topic_is_save"))
