"""Whether anything is ingested: looked at on its own, when all of Dagster may be off."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iot_pipeline.core.alerts.conditions import INGESTION_STANDS_STILL, Level
from iot_pipeline.errors import (
    CassandraUnavailableError,
    KafkaUnavailableError,
    SchemaMismatchError,
)
from iot_pipeline.settings import Settings
from iot_pipeline.stages.alerts.looking import look_at_ingestion
from iot_pipeline_tests.stages.world import World

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def settings_of(world: World) -> Settings:
    return Settings(topic=world.log.topic, lag_limit_seconds=60)


def look(world: World, now: datetime) -> dict[str, Level]:
    found = look_at_ingestion(world.log, world.ledger, settings_of(world), now)
    return {item.subject: item.level for item in found.conditions}


def test_ingestion_stands_still_when_a_record_waits_and_the_ledger_does_not_grow() -> None:
    world = World()
    world.write()
    world.drain()
    begin = datetime.fromtimestamp(world.write().produced_ms / 1000, UTC)
    assert look(world, begin + timedelta(seconds=59))[INGESTION_STANDS_STILL] is Level.GREEN
    late = begin + timedelta(seconds=61)
    for age, level in ((59, Level.GREEN), (62, Level.ERROR)):
        for place, entry in world.ledger.entries.items():
            updated_at = late - timedelta(seconds=age)
            world.ledger.entries[place] = replace(entry, updated_at=updated_at)
        assert look(world, late)[INGESTION_STANDS_STILL] is level
    world.drain()
    assert look(world, late)[INGESTION_STANDS_STILL] is Level.GREEN


@dataclass(slots=True)
class Silent:
    """A log or a ledger whose every question ends in this error."""

    error: Exception

    def __getattr__(self, name: str) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KafkaUnavailableError("no broker"), {"server_is_away/Kafka": Level.ERROR}),
        (
            CassandraUnavailableError("no node"),
            {"server_is_away/Cassandra": Level.ERROR, "server_is_away/Kafka": Level.GREEN},
        ),
        (SchemaMismatchError("no such topic"), {}),
    ],
)
def test_a_silent_server_is_named_and_what_was_not_seen_is_not_said(
    error: Exception, expected: dict[str, Level]
) -> None:
    world = World()
    found = look_at_ingestion(Silent(error), world.ledger, settings_of(world), NOW)
    assert {item.subject: item.level for item in found.conditions} == expected
