"""What runs beside ingestion never takes its slot, and a tick names what a queued run waits for."""

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from iot_pipeline.connections import open_connections
from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline.defs.lanes import why_queued
from iot_pipeline.settings import Settings
from iot_pipeline_tests.defs.dev_server import dagster_dev, wait_for
from iot_pipeline_tests.servers import Services, free_ports

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def small(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with two slots in all, as a person may have set it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("concurrency: {runs: {max_concurrent_runs: 2}}\n")
    with dg.DagsterInstance.from_config(str(prepare_instance(home))) as instance:
        yield instance


def test_a_tick_names_the_runs_that_have_all_slots_and_what_to_do(
    small: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_TOPIC", "slots")
    definitions = build_definitions()
    simulate, ingest = (definitions.resolve_job_def(name) for name in ("simulate", "ingest"))
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("iot_pipeline"), "__repository__")
    ours = small.create_run_for_job(
        ingest,
        status=dg.DagsterRunStatus.QUEUED,
        tags=dict(ingest.tags),
        remote_job_origin=RemoteJobOrigin(origin, "ingest"),
    )
    first = small.create_run_for_job(simulate, status=STARTED)
    assert why_queued(small) == "", "a slot is free: it starts within a second"
    second = small.create_run_for_job(simulate, status=STARTED)
    with dg.build_sensor_context(instance=small, definitions=definitions) as context:
        answer = definitions.resolve_sensor_def("iot_data_lag")(context)
    assert isinstance(answer, dg.SkipReason)
    said = str(answer.skip_message)
    assert said.startswith(f"run {ours.run_id[:8]} of iot/sensor_data is QUEUED: all 2 slots of ")
    for run in (first, second):
        assert re.search(rf"{run.run_id[:8]} \(simulate, since 2\S+ \d\d:\d\d UTC\)", said)
    assert "Terminate one of them, or raise concurrency.runs.max_concurrent_runs" in said


@pytest.mark.services
def test_ingestion_starts_beside_any_number_of_simulations(
    services: Services, tmp_path: Path
) -> None:
    env = services.environment(IOT_DATA_DIR=str(tmp_path / "data"), IOT_PARTITIONS="1")
    with open_connections(Settings.from_env(env)) as connections:
        connections.set_up()
    home = prepare_instance(tmp_path / "home")
    with dagster_dev(home, free_ports(1)[0], env, tmp_path / "dagster.log") as server:
        day = {"devices": 5, "rate": 5, "seconds": 86_400}
        sent = [server.launch("simulate", day) for _ in range(8)]

        def two_send() -> bool | None:
            runs = server.runs(statuses=["STARTED"], pipelineName="simulate")
            return True if len(runs) == 2 else None

        wait_for(two_send, 120)
        server.start_sensor("iot_data_lag")

        def ingested() -> bool | None:
            return bool(server.runs(statuses=["SUCCESS"], pipelineName="ingest")) or None

        wait_for(ingested, 120, lambda: str(server.runs(pipelineName="ingest")))
        states = [server.run(run_id)["status"] for run_id in sent]
        assert sorted(states) == ["QUEUED"] * 6 + ["STARTED"] * 2
        # One after the other: a queued one would begin when another ends.
        for run_id in reversed(sent):
            server.terminate(run_id)
