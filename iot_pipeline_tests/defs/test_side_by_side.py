"""Two lanes of one topic in a real `dagster dev` on Postgres: two runs at once, and one dies."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from iot_pipeline.connections import open_connections
from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline.defs.names import LANE, PROCESS, RunProcess
from iot_pipeline.settings import Settings
from iot_pipeline_tests.defs.dev_server import DevServer, wait_for
from iot_pipeline_tests.defs.test_dagster_dev import Set
from iot_pipeline_tests.defs.test_follow_dev import ingest_runs, loaded, tags_of
from iot_pipeline_tests.postgres import Postgres
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services

LANES = 2


@pytest.fixture
def dev(services: Services, on_postgres: Postgres, tmp_path: Path) -> Iterator[Set]:
    env = services.environment(
        IOT_DATA_DIR=str(tmp_path / "data"),
        IOT_INGEST_MODE="follow",
        IOT_FOLLOW_SECONDS="30",
        IOT_LANES=str(LANES),
    )
    settings = Settings.from_env(env)
    home = prepare_instance(tmp_path / "home", LANES)
    with open_connections(settings) as connections:
        connections.set_up()
        yield Set(home, env, tmp_path / "dagster.log", connections)


def test_lanes_work_side_by_side_and_neither_a_dead_run_nor_a_dead_storage_loses_anything(
    dev: Set, on_postgres: Postgres
) -> None:
    with dev.start() as server:
        sensor_id = server.start_sensor("iot_data_lag")
        with loaded(dev):
            at_work = _every_lane_commits(server, dev)
            for place, run_id in at_work.items():
                assert _partitions(dev, run_id) <= set(range(place, 64, LANES))
            _one_of_them_judges_the_devices(server)
            killed = _every_lane_commits(server, dev)[0]
            process = RunProcess.parse(tags_of(server.run(killed))[PROCESS])
            assert process is not None
            before = _span(dev, 1)
            os.kill(process.pid, signal.SIGKILL)
            wait_for(partial(_has_grown, dev, 1, before), 30)
            again = _every_lane_commits(server, dev, but=killed)
            assert server.run(killed)["status"] == "FAILURE"
            _a_run_of_all_partitions_waits_for_both(server, again)
            _dagsters_storage_dies_and_ingestion_goes_on(server, dev, on_postgres)
        wait_for(lambda: True if _span(dev, 0) + _span(dev, 1) == dev.sent() else None, 90)
        _until_dagster_answers(lambda: server.stop_sensor(sensor_id))
    dev.assert_everything_accounted_for()


def _every_lane_commits(server: DevServer, dev: Set, but: str = "") -> dict[int, str]:
    """Wait until each lane has a run that has committed while those of the others are at work."""

    def both() -> dict[int, str] | None:
        owners = {entry.run_id for entry in dev.chain().entries} - {but}
        found = {
            _place(run): str(run["runId"])
            for run in ingest_runs(server, "STARTED")
            if run["runId"] in owners and "-of-" in tags_of(run)[LANE]
        }
        return found if len(found) == LANES else None

    return wait_for(both, 90, lambda: str(server.runs(pipelineName="ingest")))


def _place(run: dict[str, Any]) -> int:
    return int(tags_of(run)[LANE].rpartition("/")[2].partition("-")[0])


def _partitions(dev: Set, run_id: str) -> set[int]:
    return {entry.partition for entry in dev.chain().entries if entry.run_id == run_id}


def _span(dev: Set, place: int) -> int:
    entries = dev.chain().entries
    return sum(entry.span for entry in entries if entry.partition % LANES == place)


def _one_of_them_judges_the_devices(server: DevServer) -> None:
    def judged_by(check: str) -> set[int]:
        places = {str(run["runId"]): _place(run) for run in server.runs(pipelineName="ingest")}
        return {places[result["runId"]] for result in server.checks(check)}

    wait_for(lambda: True if judged_by("lag_is_within_limit") == {0, 1} else None, 60)
    wait_for(lambda: True if judged_by("devices_are_reporting") else None, 60)
    assert judged_by("devices_are_reporting") == {0}


def _dagsters_storage_dies_and_ingestion_goes_on(
    server: DevServer, dev: Set, postgres: Postgres
) -> None:
    """What was ingested is known to the ledger, not to Dagster: runs at work go on committing."""
    _every_lane_commits(server, dev)
    before = {place: _span(dev, place) for place in range(LANES)}
    postgres.kill()
    time.sleep(5)  # as long as it takes something to start it again
    postgres.start()
    for place, stood in before.items():
        wait_for(partial(_has_grown, dev, place, stood), 90)


def _until_dagster_answers(ask: Callable[[], object]) -> None:
    """Its pool has connections of before the outage; each is found out once."""

    def answered() -> bool | None:
        try:
            ask()
        except AssertionError:
            return None
        return True

    wait_for(answered, 30)


def _has_grown(dev: Set, place: int, stood: int) -> bool | None:
    return _span(dev, place) > stood or None


def _a_run_of_all_partitions_waits_for_both(server: DevServer, at_work: dict[int, str]) -> None:
    run_id = server.launch("ingest")
    run = server.finish(run_id, 90)
    said = server.messages(run_id)
    assert run["status"] == "SUCCESS", said[-8:]
    assert any("waiting for run" in line and "all partitions" in line for line in said), said
    for other in at_work.values():
        ended = server.run(other)
        assert ended["status"] == "SUCCESS"
        assert ended["endTime"] <= run["endTime"]
