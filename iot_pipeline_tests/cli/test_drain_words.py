"""What `iot drain` says of a run that found nothing to do, or failed before it did anything."""

import pytest

from iot_pipeline.cli.drain import _report
from iot_pipeline.core.ingest.latency import Latencies
from iot_pipeline.stages.run_ingest import new_outcome
from iot_pipeline_tests.stages.world import T0, World, WorldPorts


def said(
    capsys: pytest.CaptureFixture[str], world: World, *, is_planned: bool = True, is_done: bool
) -> str:
    outcome = new_outcome(WorldPorts(world, world.ports()))
    if is_planned:
        outcome.plan = world.plan()
    for as_json in (False, True):
        _report(outcome, "run", Latencies(), None, is_done=is_done, as_json=as_json)
    return capsys.readouterr().out


def test_nothing_lags_is_said_after_a_run_that_looked_and_ended_well(capsys) -> None:
    world = World(partitions=2)
    world.write(0, at=T0)
    world.log.tick()
    world.drain()
    assert "nothing lags: ingestion has reached the end" in said(capsys, world, is_done=True)


def test_a_run_that_failed_before_it_did_anything_claims_nothing(capsys) -> None:
    world = World(partitions=2)
    world.write(0, at=T0)
    world.log.tick()
    assert "nothing lags" not in said(capsys, world, is_done=False)
    # Not even JSON where no plan came about: nothing is known.
    assert said(capsys, world, is_planned=False, is_done=False) == ""
