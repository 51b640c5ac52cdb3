"""Definitions on the session's servers, and an instance that is gone with the test.

`IOT_TEST_DAGSTER_POSTGRES=1`: every instance here keeps its runs in a real Postgres.
"""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs.instance import POSTGRES_URL, prepare_instance
from iot_pipeline.stages.checks.machinery import facts
from iot_pipeline_tests.defs.keys import SENSOR_DATA
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.postgres import Postgres, running_postgres

_ALL_ON_POSTGRES = bool(os.environ.get("IOT_TEST_DAGSTER_POSTGRES"))


@dataclass(frozen=True)
class Outcome:
    """A run that has ended."""

    run: dg.DagsterRun
    metadata: dict[str, Any] | None
    checks: dict[str, dg.AssetCheckEvaluation]
    observed: dict[str, dict[str, Any]]
    failure: str

    @property
    def is_success(self) -> bool:
        return self.run.status == dg.DagsterRunStatus.SUCCESS

    @property
    def red(self) -> dict[str, str | None]:
        return {name: c.description for name, c in self.checks.items() if not c.passed}


@dataclass(frozen=True)
class Dagster:
    """What a person can launch, and what they see of it."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance

    def launch(
        self,
        job: str,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        request: dg.RunRequest | None = None,
        **selection: Any,
    ) -> Outcome:
        chosen = self.definitions.resolve_job_def(job)
        if request is not None:
            assert request.asset_selection is not None
            assert request.asset_check_keys is not None
            chosen = chosen.get_subset(
                asset_selection=set(request.asset_selection),
                asset_check_selection=set(request.asset_check_keys),
            )
        result = chosen.execute_in_process(
            instance=self.instance,
            run_config=dict(config or {}),
            tags=dict(tags or {}),
            raise_on_error=False,
            **selection,
        )
        return self.outcome(result)

    def outcome(self, result: dg.ExecuteInProcessResult) -> Outcome:
        metadata = None
        checks, observed, failure = {}, {}, ""
        for event in result.all_events:
            kind = event.event_type_value
            if kind == "ASSET_MATERIALIZATION":
                found = event.materialization.metadata
                metadata = {name: value.value for name, value in found.items()}
            elif kind == "ASSET_CHECK_EVALUATION":
                check = event.asset_check_evaluation_data
                checks[check.check_name] = check
            elif kind == "ASSET_OBSERVATION":
                seen = event.asset_observation_data.asset_observation
                observed[seen.asset_key.to_user_string()] = {
                    name: value.value for name, value in seen.metadata.items()
                }
            elif kind == "STEP_FAILURE":
                data = event.step_failure_data
                failure = (
                    data.user_failure_data.description if data.user_failure_data else ""
                ) or str(data.error)
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        return Outcome(run, metadata, checks, observed, failure)

    def materialize(self) -> Outcome:
        """The button on the asset: Dagster's own job, without any tag of ours."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=self.instance, asset_selection=[SENSOR_DATA], raise_on_error=False
        )
        return self.outcome(result)

    def tick(self, sensor: str = "iot_data_lag") -> dg.RunRequest | str:
        """What the sensor asks for, or why it skips."""
        with dg.build_sensor_context(
            instance=self.instance, definitions=self.definitions
        ) as context:
            answer = self.definitions.resolve_sensor_def(sensor)(context)
        if isinstance(answer, dg.SkipReason):
            assert answer.skip_message is not None
            return answer.skip_message
        assert isinstance(answer, dg.SensorResult)
        (request,) = answer.run_requests or []
        return request

    def drain_by_sensor(self) -> Outcome:
        request = self.tick()
        assert isinstance(request, dg.RunRequest), request
        tags = {**request.tags, "dagster/sensor_name": "iot_data_lag"}
        return self.launch("ingest", request.run_config, tags, request)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server; its databases are those of instances."""
    with running_postgres() as running:
        yield running


@pytest.fixture
def on_postgres(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """Homes that the test makes keep their runs there."""
    monkeypatch.setenv(POSTGRES_URL, postgres.new_database())
    return postgres


@pytest.fixture(autouse=True)
def storage(request: pytest.FixtureRequest) -> None:
    if _ALL_ON_POSTGRES:
        request.getfixturevalue("on_postgres")


@contextmanager
def _instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    if _ALL_ON_POSTGRES:
        with dg.DagsterInstance.from_config(str(prepare_instance(folder))) as instance:
            yield instance
    else:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance


@pytest.fixture
def dagster(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Dagster]:
    for name, value in pipeline.env.items():
        monkeypatch.setenv(name, value)
    # What a run's checks see is not to depend on how fast the machine is; what they leave out when
    # time is short has tests of its own.
    monkeypatch.setattr(facts, "LEAST_BUDGET_SECONDS", 60.0)
    with _instance(tmp_path / "dagster_home") as instance:
        yield Dagster(build_definitions(), instance)


@pytest.fixture
def sent(pipeline: Pipeline) -> int:
    """How many readings of a fleet of five are in the topic."""
    return produce(pipeline.brokers, pipeline.topic, fleet(f"d{uuid.uuid4().hex[:6]}", 5, 500))
