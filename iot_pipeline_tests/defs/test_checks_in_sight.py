"""After every single event that Dagster stores, each check shows a verdict."""

import uuid
from typing import Any

import pytest

from iot_pipeline.defs.ingest import follow_config
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.defs.seen import IN_PROGRESS, NOT_EVALUATED, seen
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: row counts compare whole days."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture
def watched(dagster: Dagster, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What the UI showed after each event; empty it when you like."""
    storage = dagster.instance.event_log_storage
    store = storage.store_event
    samples: list[dict[str, str]] = []

    def store_and_look(event: Any) -> None:
        store(event)
        samples.append(seen(dagster.instance))

    monkeypatch.setattr(storage, "store_event", store_and_look)
    return samples


def send(pipeline: Pipeline) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet(f"d{uuid.uuid4().hex[:6]}", 5, 50))


def hidden(samples: list[dict[str, str]]) -> set[str]:
    return {
        name
        for sample in samples
        for name, shown in sample.items()
        if shown in (NOT_EVALUATED, IN_PROGRESS, "IN_PROGRESS")
    }


def test_no_run_and_no_look_hides_a_check_in_either_mode(
    dagster: Dagster,
    pipeline: Pipeline,
    watched: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(pipeline)
    assert dagster.drain_by_sensor().is_success
    assert hidden(watched[-1:]) == set(), "the first run shows all of them"
    watched.clear()
    send(pipeline)
    assert dagster.drain_by_sensor().is_success
    assert dagster.launch("checks").is_success
    send(pipeline)
    assert dagster.drain_by_sensor().is_success
    assert len(watched) > 60
    assert hidden(watched) == set(), "draining"
    watched.clear()
    monkeypatch.setenv("IOT_INGEST_MODE", "follow")
    monkeypatch.setenv("IOT_FOLLOW_SECONDS", "5")
    for _ in range(2):
        send(pipeline)
        request = dagster.tick()
        assert not isinstance(request, str)
        assert dagster.launch("ingest", follow_config(), request.tags, request).is_success
        assert dagster.launch("checks").is_success
    assert hidden(watched) == set(), "following"
    assert set(watched[-1].values()) == {"SUCCEEDED"}
