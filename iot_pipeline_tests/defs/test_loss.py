"""What expired unread, before and while a run is at it: by the policy, in Dagster as in the CLI."""

import uuid

import pytest

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.ingest import run_config_for
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.load import delete_before, fleet, produce
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


@pytest.fixture
def name() -> str:
    return f"loss_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def keyspace() -> str:
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture
def overtaken(pipeline: Pipeline, name: str) -> None:
    """Offsets 0 to 100 of partition 0 were ingested, 100 to 150 expired, 150 to 200 wait."""
    produce(pipeline.brokers, pipeline.topic, fleet(name, 2, 100), partition=0)
    pipeline.drain()
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_more", 2, 100), partition=0)
    delete_before(pipeline.brokers, pipeline.topic, 0, 150)


def test_by_default_a_run_halts_and_says_what_expired_and_both_ways_on(
    dagster: Dagster, overtaken: None
) -> None:
    for config in ({}, run_config_for([OffsetRange(0, 100, 200)])):
        outcome = dagster.launch("ingest", config)
        assert not outcome.is_success
        for part in ("100 to 149", "up to 50 records", "retention.ms", "IOT_ON_EXPIRED=record"):
            assert part in outcome.failure


def test_by_the_policy_record_the_loss_is_in_the_ledger_and_the_run_goes_on(
    dagster: Dagster, pipeline: Pipeline, overtaken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_ON_EXPIRED", "record")
    outcome = dagster.drain_by_sensor()
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert outcome.metadata["offsets_expired"] == outcome.metadata["stored"] == 50
    assert outcome.metadata["ranges"] == "0:150-200"
    assert "iot losses" in outcome.metadata["in_words"]
    (loss,) = pipeline.iot("losses", "--json")["losses"]
    assert loss["run_id"] == outcome.run.run_id
    assert not pipeline.iot("ledger", "--json")["flaws"]


def test_ranges_that_were_planned_before_a_part_of_them_expired_are_drained_but_for_that_part(
    dagster: Dagster, overtaken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_ON_EXPIRED", "record")
    outcome = dagster.launch("ingest", run_config_for([OffsetRange(0, 100, 180)]))
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert outcome.metadata["ranges"] == "0:150-180"
    assert outcome.metadata["offsets_expired"] == 50


def test_a_run_whose_ranges_expired_whole_records_that_and_drains_nothing_else(
    dagster: Dagster, overtaken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_ON_EXPIRED", "record")
    outcome = dagster.launch("ingest", run_config_for([OffsetRange(0, 100, 150)]))
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None
    assert (outcome.metadata["offsets"], outcome.metadata["offsets_expired"]) == (0, 50)
    assert outcome.metadata["lag_offsets"] == 50
