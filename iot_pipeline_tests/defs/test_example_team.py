"""examples/team in a real `dagster dev`: two pipelines drain, and one that is killed stops none."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline.defs.names import PROCESS, RunProcess
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline_tests.defs.dev_server import ROOT, DevServer, dagster_dev, wait_for
from iot_pipeline_tests.defs.test_follow_dev import tags_of
from iot_pipeline_tests.servers import Services, free_ports

pytestmark = pytest.mark.services

TEAM = ROOT / "examples" / "team"
NAMES = ("north", "greenhouse")


@pytest.fixture
def env(services: Services, tmp_path: Path) -> dict[str, str]:
    return {
        "KAFKA": services.bootstrap_servers,
        "CASSANDRA": ",".join(services.contact_points),
        "CASSANDRA_PORT": str(services.cassandra_port),
        "DATA": str(tmp_path / "data"),
        "PYTHONPATH": os.pathsep.join([str(TEAM / "src"), str(ROOT)]),
    }


@pytest.fixture
def pipelines(services: Services, env: dict[str, str]) -> Iterator[dict[str, Connections]]:
    """The same Kafka and Cassandra as the project's pipelines have, seen from the test."""
    reading = TEAM / "src" / "team" / "defs" / "greenhouse" / "reading.yaml"
    own = {"north": {}, "greenhouse": {"IOT_READING": str(reading)}}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                open_connections(
                    Settings.from_env(
                        services.environment(
                            topic=f"readings_{name}",
                            keyspace=name,
                            IOT_DATA_DIR=f"{env['DATA']}/{name}",
                            **own[name],
                        )
                    )
                )
            )
            for name in NAMES
        }


def test_two_pipelines_of_a_team_drain_and_one_that_is_killed_stops_no_other(
    env: dict[str, str], pipelines: dict[str, Connections], tmp_path: Path
) -> None:
    home = prepare_instance(tmp_path / "home")
    with dagster_dev(
        home,
        free_ports(1)[0],
        env,
        tmp_path / "dagster.log",
        code=("-m", "team.definitions"),
        location="team.definitions",
    ) as server:
        for run_id in [server.launch(f"{name}_setup_schema") for name in NAMES]:
            server.succeed(run_id)
        for name in NAMES:
            server.start_sensor(f"{name}_iot_data_lag")
        fleet = {"devices": 10, "rate": 50, "seconds": 25.0}
        sent = [server.launch(f"{name}_simulate", fleet) for name in NAMES]
        at_work = {name: _run_that_commits(server, name, pipelines[name]) for name in NAMES}
        _kill(server, at_work["greenhouse"])
        before = _done(pipelines["north"])
        wait_for(lambda: True if _done(pipelines["north"]) > before else None, 30)
        _run_that_commits(server, "greenhouse", pipelines["greenhouse"], but=at_work["greenhouse"])
        assert server.run(at_work["north"])["status"] == "STARTED"
        assert server.run(at_work["greenhouse"])["status"] == "FAILURE"
        for run_id in sent:
            server.succeed(run_id, 90)
        for name in NAMES:
            wait_for(_all_done(pipelines[name]), 60)
        # The component's own declaration: quantities that north knows nothing of.
        (row,) = pipelines["greenhouse"].cassandra.execute(
            "SELECT co2, temperature FROM greenhouse.sensor_data LIMIT 1", doing="looking at a row"
        )
        assert 300 <= row.co2 <= 5000
        assert 0 <= row.temperature <= 60, "sent in °F"
        looks = [server.launch(f"{name}_checks") for name in NAMES]
        for name, run_id in zip(NAMES, looks, strict=True):
            server.succeed(run_id)
            for check in ("every_offset_is_accounted_for", "row_count_matches_ledger"):
                newest = server.checks(check, name)[0]
                assert newest["status"] == "SUCCEEDED", (name, newest)


def _run_that_commits(server: DevServer, name: str, seen: Connections, but: str = "") -> str:
    def found() -> str | None:
        topic, parts = seen.settings.topic, range(seen.settings.partitions)
        owners = {entry.run_id for entry in read_chain(seen.ledger, topic, parts).entries}
        runs = server.runs(pipelineName=f"{name}_ingest", statuses=["STARTED"])
        return next((r["runId"] for r in runs if r["runId"] in owners - {but}), None)

    return wait_for(found, 90, lambda: str(server.runs(pipelineName=f"{name}_ingest")))


def _kill(server: DevServer, run_id: str) -> None:
    process = RunProcess.parse(tags_of(server.run(run_id))[PROCESS])
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def _done(seen: Connections) -> int:
    topic, parts = seen.settings.topic, range(seen.settings.partitions)
    return sum(entry.counts.stored for entry in read_chain(seen.ledger, topic, parts).entries)


def _all_done(seen: Connections) -> Callable[[], bool | None]:
    def look() -> bool | None:
        marks = seen.log.watermarks(seen.settings.topic)
        return _done(seen) == sum(mark.last_stable - mark.low for mark in marks) or None

    return look
