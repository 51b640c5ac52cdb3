"""Several pipelines, and a team's jobs, in one Dagster: each has its names, data and settings."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs.external import table_spec
from iot_pipeline.defs.history import build_delete_old_runs
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.stages.checks.machinery import facts
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.servers import Services


def env_of(name: str, **others: str) -> dict[str, str]:
    return {
        "IOT_TOPIC": name,
        "IOT_KEYSPACE": name,
        "IOT_DATA_DIR": f"/nowhere/{name}",
        **others,
    }


def named(name: str, **others: str) -> Pipeline:
    return Pipeline(name, env_of(name, **others))


def names_of(definitions: dg.Definitions) -> set[str]:
    repository = definitions.get_repository_def()
    return {
        *(job.name for job in repository.get_all_jobs()),
        *(sensor.name for sensor in repository.sensor_defs),
        *(schedule.name for schedule in repository.schedule_defs),
    } - {"__ASSET_JOB"}


def test_each_has_all_that_one_has_under_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing of a pipeline with a name is read from here.
    monkeypatch.setenv("IOT_TOPIC", "no topic at all")
    both = build_definitions([named("north"), named("south")])
    monkeypatch.delenv("IOT_TOPIC")
    alone = build_definitions()
    assert names_of(both) == {f"{p}_{n}" for p in ("north", "south") for n in names_of(alone)}
    keys = both.get_repository_def().asset_graph.get_all_asset_keys()
    own = alone.get_repository_def().asset_graph.get_all_asset_keys()
    assert {key.path[0] for key in own} == {"iot"}
    assert keys == {
        dg.AssetKey([name, *key.path[1:]]) for name in ("north", "south") for key in own
    }


def test_it_merges_with_jobs_resources_and_an_executor_of_a_team() -> None:
    @dg.op
    def load() -> None:
        pass

    @dg.job
    def ingest() -> None:
        load()

    @dg.asset(deps=[named("north").sensor_data])
    def weather(kafka: dg.ResourceParam[str]) -> None:
        pass

    team = dg.Definitions(
        assets=[weather],
        jobs=[ingest],
        resources={"kafka": "the team's"},
        executor=dg.multiprocess_executor,
    )
    merged = dg.Definitions.merge(team, build_definitions([named("north")]))
    assert {"ingest", "north_ingest"} <= names_of(merged)
    ours = merged.resolve_job_def("north_ingest")
    assert ours.executor_def is dg.in_process_executor
    assert merged.resolve_job_def("north_audit").executor_def is dg.in_process_executor
    assert merged.resolve_job_def("ingest").executor_def is dg.multiprocess_executor


@pytest.mark.parametrize("name", ["North", "1st", "north-west", "iot", "x" * 41, "north "])
def test_a_name_that_dagster_or_we_cannot_use_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a name of up to 40 lower-case letters"):
        Pipeline(name, {})


def test_a_name_without_settings_is_refused_and_a_wrong_setting_names_its_pipeline() -> None:
    with pytest.raises(ConfigurationError, match="pipeline north: expected `env`"):
        Pipeline("north")
    with pytest.raises(ConfigurationError, match="pipeline north: IOT_TOPIC"):
        named("north", IOT_TOPIC="no topic at all")


def test_a_table_has_a_freshness_policy_only_where_it_is_asked_for_and_can_hold() -> None:
    spec = table_spec(named("north", IOT_FRESHNESS_SECONDS="900"))
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(
        fail_window=timedelta(seconds=900)
    )
    assert table_spec(named("north")).freshness_policy is None
    # A run that follows for five minutes materializes once in that time.
    following = {"IOT_FRESHNESS_SECONDS": "300", "IOT_INGEST_MODE": "follow"}
    with pytest.raises(ConfigurationError, match="expected 600 or more"):
        table_spec(named("north", **following))
    with pytest.raises(ConfigurationError, match="expected 60 or more"):
        table_spec(named("north", IOT_FRESHNESS_SECONDS="30"))


def test_dagster_is_told_where_each_table_and_topic_is_and_no_secret() -> None:
    pipeline = named(
        "north",
        IOT_CONTACT_POINTS="cassandra-1,[fd00::2]",
        IOT_CASSANDRA_USERNAME="iot_ingest",
        IOT_CASSANDRA_PASSWORD="shown_nowhere",
        IOT_BOOTSTRAP_SERVERS="kafka-1:9093,kafka-2:9093",
        IOT_KEYSPACE="north",
        IOT_OWNERS="team:sensors, head@example.org",
        IOT_CODE_URL="https://example.org/iot/tree/v3",
    )
    graph = build_definitions([pipeline]).resolve_asset_graph()
    nodes = {key.path[-1]: graph.get(key) for key in graph.get_all_asset_keys()}
    uris = {name: node.metadata["dagster/uri"] for name, node in nodes.items()}
    brokers, hosts = "kafka://kafka-1:9093,kafka-2:9093", "cassandra-1:9042,[fd00::2]:9042"
    assert uris == {
        "iot_data": f"{brokers}/north",
        "dead_letters": f"{brokers}/north.dlq",
        "sensor_data": f"cassandra://{hosts}/north/sensor_data",
        "hourly_readings": f"cassandra://{hosts}/north/hourly_readings",
        "daily_readings": f"cassandra://{hosts}/north/daily_readings",
        "audited_days": f"cassandra://{hosts}/north/audited_days",
    }
    tables = {name for name, node in nodes.items() if "cassandra" in node.kinds}
    for name in tables:
        metadata = nodes[name].metadata
        assert metadata["dagster/table_name"] == f"north.{name}"
        if name != "audited_days":
            assert metadata["dagster/column_schema"].columns[0].name == "device_id"
    for node in nodes.values():
        assert list(node.owners) == ["team:sensors", "head@example.org"]
        (link,) = node.metadata["dagster/code_references"].code_references
        assert link.url == "https://example.org/iot/tree/v3"
        assert "shown_nowhere" not in str(node.metadata)
    assert "dagster/code_references" not in table_spec(named("south")).metadata


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ({"IOT_TOPIC": "north"}, "north and south read the same topic.*set IOT_TOPIC of one"),
        ({"IOT_KEYSPACE": "north"}, "write to the same keyspace: set IOT_KEYSPACE"),
        ({"IOT_DATA_DIR": "/nowhere/north"}, "in the same folder: set IOT_DATA_DIR"),
    ],
)
def test_two_that_would_share_data_are_refused(shared: Mapping[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        build_definitions([named("north"), named("south", **shared)])


def test_the_same_topic_of_another_cluster_is_another_one_with_a_lane_of_its_own() -> None:
    there = {"IOT_TOPIC": "north", "IOT_BOOTSTRAP_SERVERS": "elsewhere:9092"}
    both = build_definitions([named("north"), named("south", **there)])
    lanes = {both.resolve_job_def(f"{name}_ingest").tags["iot/lane"] for name in ("north", "south")}
    assert lanes == {"north/north", "south/north"}
    with pytest.raises(ConfigurationError, match="2 pipelines are called 'north'"):
        build_definitions([named("north"), named("north", **there)])


def test_a_password_is_not_printed() -> None:
    pipeline = named("north", IOT_CASSANDRA_USERNAME="u", IOT_CASSANDRA_PASSWORD="s3cret")
    assert "s3cret" not in repr(pipeline)
    assert pipeline.settings().cassandra_password.get_secret_value() == "s3cret"


def test_a_purge_of_one_deletes_no_run_of_another_or_of_the_team(tmp_path: Path) -> None:
    @dg.op
    def something() -> None:
        pass

    @dg.job(tags={"iot/pipeline": "north"}, executor_def=dg.in_process_executor)
    def north_job() -> None:
        something()

    @dg.job(executor_def=dg.in_process_executor)
    def team_job() -> None:
        something()

    @dg.job(executor_def=dg.in_process_executor)
    def purge() -> None:
        build_delete_old_runs(named("north"))()

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        ours = north_job.execute_in_process(instance=instance)
        theirs = team_job.execute_in_process(instance=instance)
        config = {"keep_days": 0, "keep_failed_days": 0}
        op = "north_delete_old_runs"
        assert purge.execute_in_process(
            instance=instance, run_config={"ops": {op: {"config": config}}}
        ).success
        assert instance.get_run_by_id(ours.run_id) is None
        assert instance.get_run_by_id(theirs.run_id) is not None


@pytest.mark.services
def test_two_pipelines_drain_beside_each_other_each_into_its_own_table(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_TOPIC", "no topic at all")  # nothing of theirs is read from here
    monkeypatch.setattr(facts, "LEAST_BUDGET_SECONDS", 60.0)
    pipelines = {
        name: Pipeline(name, services.environment(IOT_DATA_DIR=str(tmp_path / name)))
        for name in ("north", "south")
    }
    sent = {"north": 300, "south": 200}
    with dg.DagsterInstance.ephemeral() as instance:
        dagster = Dagster(build_definitions(list(pipelines.values())), instance)
        for name, messages in sent.items():
            made = dagster.launch(f"{name}_setup_schema")
            assert made.is_success, made.failure
            config = {"messages": messages, "devices": 10, "as_fast_as_possible": True}
            assert dagster.launch(f"{name}_simulate", config).is_success
        requests = {name: dagster.tick(f"{name}_iot_data_lag") for name in pipelines}
        for name, request in requests.items():
            assert isinstance(request, dg.RunRequest), request
            tags = {**request.tags, "dagster/sensor_name": f"{name}_iot_data_lag"}
            outcome = dagster.launch(f"{name}_ingest", request.run_config, tags, request)
            assert outcome.is_success, outcome.failure
            assert outcome.metadata is not None
            assert outcome.metadata["stored"] == sent[name]
            assert outcome.red == {}
            assert set(outcome.observed) == {f"{name}/iot_data"}
            assert {check.asset_key for check in outcome.checks.values()} == {
                pipelines[name].sensor_data
            }
        for name in pipelines:
            assert "nothing lags" in str(dagster.tick(f"{name}_iot_data_lag"))
            for job in ("audit", "checks", "health_report"):
                found = dagster.launch(f"{name}_{job}")
                assert found.is_success, found.failure
            assert (tmp_path / name / "reports" / "latest.html").is_file()
        day = str(dg.DailyPartitionsDefinition("2026-01-01", end_offset=1).get_last_partition_key())
        assert dagster.launch("north_rollups", partition_key=day).is_success
