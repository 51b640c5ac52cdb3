"""Runs that Celery hands to workers: what is refused, what is said, when none is asked for."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml

from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs import instance_needs, rollup_sensor, workers
from iot_pipeline.defs.instance import (
    CONFIG_NAME,
    POSTGRES_URL,
    REDIS_URL,
    prepare_instance,
    shipped_config,
)
from iot_pipeline.defs.instance_needs import Needs
from iot_pipeline.defs.workers import Worker, look_at_workers
from iot_pipeline.errors import ConfigurationError
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.redis_server import Redis, running_redis
from iot_pipeline_tests.stages.rollups.test_rebuild import DAY, DAY_MS, World

SECRET = "shown_nowhere"
NOBODY = f"redis://:{SECRET}@127.0.0.1:1/0"


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    with running_redis(tmp_path / "redis") as running:
        monkeypatch.setenv(REDIS_URL, running.url)
        yield running


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "expected redis://:password@host:6379/0"),
        (NOBODY, "Redis does not let us in: .*Connection refused$"),
    ],
)
def test_a_redis_that_cannot_be_reached_is_one_sentence_without_its_password(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDIS_URL, url)
    with pytest.raises(ConfigurationError, match=said) as raised:
        prepare_instance(tmp_path / "home")
    assert SECRET not in str(raised.value)


@pytest.mark.services
def test_a_home_with_workers_needs_a_storage_that_they_reach_and_a_launcher(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(POSTGRES_URL, raising=False)
    with pytest.raises(ConfigurationError, match=f"{POSTGRES_URL} is not: Dagster's runs would be"):
        prepare_instance(tmp_path / "home")
    config = tmp_path / CONFIG_NAME
    config.write_text("telemetry: {enabled: false}\n")
    with pytest.raises(ConfigurationError, match="says nothing of a run launcher") as raised:
        prepare_instance(tmp_path)
    config.write_text(str(raised.value).split("`")[1])
    prepare_instance(tmp_path)
    assert yaml.safe_load(config.read_text()) == {
        "run_launcher": yaml.safe_load(shipped_config(by_celery=True))["run_launcher"]
    }


@pytest.mark.services
def test_while_redis_is_away_the_sensor_asks_for_no_run_and_says_why(
    redis: Redis, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in pipeline.env.items():
        monkeypatch.setenv(name, value)
    produce(pipeline.settings.bootstrap_servers, pipeline.settings.topic, fleet("d", 2, 3))
    home = tmp_path / "home"
    home.mkdir()
    (home / CONFIG_NAME).write_text(shipped_config(by_celery=True))
    redis.kill()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        dagster = Dagster(build_definitions(), instance)
        said = dagster.tick()
        assert isinstance(said, str)
        assert f"127.0.0.1:{redis.port}/0 does not answer, so no run can be handed" in said
        assert SECRET not in said
        redis.start()
        assert isinstance(dagster.tick(), dg.RunRequest)


def test_while_redis_is_away_the_sensor_of_the_rollups_asks_for_no_run_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.ingest("device_1", {DAY_MS: (20.0, 50.0)})
    monkeypatch.setattr(
        rollup_sensor, "Tables", lambda _: SimpleNamespace(rollup_ports=world.ports)
    )
    monkeypatch.setattr(rollup_sensor, "_client", lambda _: None)
    monkeypatch.setenv("IOT_ROLLUP_START", str(DAY))
    monkeypatch.setenv("IOT_ROLLUP_QUIET_SECONDS", "0")
    monkeypatch.setenv(REDIS_URL, NOBODY)
    definitions = build_definitions()
    with dg.DagsterInstance.ephemeral() as instance:
        asked = Dagster(definitions, instance).tick("rollups_of_touched_days")
        assert isinstance(asked, dg.RunRequest), asked
    (tmp_path / CONFIG_NAME).write_text(shipped_config(by_celery=True))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        said = Dagster(definitions, instance).tick("rollups_of_touched_days")
    assert isinstance(said, str), said
    assert "127.0.0.1:1/0 does not answer, so no run can be handed" in said


def lacks_of(home: Path, **changed: object) -> list[str]:
    config = yaml.safe_load(shipped_config(by_celery=True)) | changed
    (home / CONFIG_NAME).write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [f"{lack.key}: {lack.consequence}" for lack in Needs.of(instance, 1).find_lacks()]


@pytest.fixture
def hung() -> Iterator[str]:
    """A Redis that accepts connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_a_redis_that_hangs_holds_nobody_up_and_limits_that_lack_are_named(
    hung: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDIS_URL, hung)
    monkeypatch.setattr(workers, "_CONNECT_SECONDS", 0.2)
    launcher = yaml.safe_load(shipped_config(by_celery=True))["run_launcher"]
    del launcher["config"]["config_source"]
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.extend(lacks_of(tmp_path, run_launcher=launcher)), daemon=True
    )
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for Redis"
    said = [lack for lack in found if lack.startswith("run_launcher")]
    assert len(said) == 2, found
    assert "does not answer" in said[0]
    assert (
        "broker_transport_options.socket_timeout and redis_socket_timeout: Dagster's daemon waits"
        in said[1]
    )


@pytest.mark.parametrize("backend", [None, "rpc://"])
def test_a_result_backend_that_others_cannot_ask_is_named(
    backend: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDIS_URL, NOBODY)
    launcher = yaml.safe_load(shipped_config(by_celery=True))["run_launcher"]
    if backend is None:
        del launcher["config"]["backend"]
    else:
        launcher["config"]["backend"] = backend
    found = lacks_of(tmp_path, run_launcher=launcher)
    assert any(
        lack.startswith(
            "run_launcher: the result backend is rpc://: only the process that launched"
        )
        for lack in found
    ), found


def test_of_workers_that_cannot_be_asked_the_broker_is_named_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDIS_URL, NOBODY)
    storage, launcher = lacks_of(tmp_path)
    assert "storage: Dagster's storage is SQLite in a folder" in storage
    assert "run_launcher: redis://:**@127.0.0.1:1/0 does not answer" in launcher
    monitoring = {"enabled": True, "start_timeout_seconds": 0}
    assert any(
        "run_monitoring: start_timeout_seconds is 0" in lack
        for lack in lacks_of(tmp_path, run_monitoring=monitoring)
    )


def test_a_broker_that_goes_away_while_workers_are_asked_is_named_as_one_that_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDIS_URL, NOBODY)
    monkeypatch.setattr(instance_needs, "why_none_is_launched", lambda _: None)
    _, launcher = lacks_of(tmp_path)
    assert "run_launcher: redis://:**@127.0.0.1:1/0 does not answer" in launcher


def test_of_a_redis_that_others_use_only_the_workers_of_our_queue_count() -> None:
    error = {"error": "it did not work"}
    stats: list[dict[str, Any]] = [
        {"celery@a": {"pool": {"max-concurrency": 2}}},
        {"celery@other": {"pool": {"max-concurrency": 8}}},
        {"shop@b": error},
        {"celery@solo": {"pool": {"implementation": "solo"}}},
    ]
    dagster, other = [{"name": "dagster"}], [{"name": "other"}]
    queues: list[dict[str, Any]] = [
        {"celery@a": dagster},
        {"celery@other": other},
        {"shop@b": error},
        {"celery@solo": [*other, *dagster]},
    ]
    assert workers.workers_of(stats, queues, "dagster") == [
        Worker("celery@a", 2),
        Worker("celery@other", 8, takes_runs=False),
        Worker("celery@solo", 0),
        Worker("shop@b", 0, takes_runs=False),
    ]


def test_the_result_of_a_run_outlives_the_longest_run() -> None:
    launcher = yaml.safe_load(shipped_config(by_celery=True))["run_launcher"]
    assert launcher["config"]["config_source"]["result_expires"] > 2 * 86_400


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (
            [],
            ["no worker answers that takes runs: runs wait in the broker, where one that waits"],
        ),
        ([Worker("celery@a", 2), Worker("celery@b", 2)], []),
        ([Worker("celery@a", 2), Worker("celery@b", 2), Worker("shop@c", 0, False)], []),
        (
            [Worker("celery@a", 8, False)],
            ["no worker answers that takes runs (celery@a on that Redis take none): runs wait"],
        ),
        (
            [Worker("shop@c", 8, False), Worker("celery@a", 1), Worker("celery@b", 2)],
            [
                "the workers have 3 slots (shop@c on that Redis take none): 2 lanes",
                "when the machine b dies, the others have 1 slot ",
            ],
        ),
        (
            [Worker("celery@a", 1), Worker("celery@b", 2)],
            [
                "the workers have 3 slots: 2 lanes",
                "when the machine b dies, the others have 1 slot ",
            ],
        ),
        (
            [Worker("celery@a", 8), Worker("x@a", 8), Worker("celery@b", 1)],
            ["when the machine a dies, the others have 1 slot for 2 lanes"],
        ),
        ([Worker("celery@a", 4)] * 2, ["2 workers are called celery@a", "when the machine a dies"]),
    ],
)
def test_slots_of_workers_and_lanes_belong_together(workers: list[Worker], said: list[str]) -> None:
    found = list(look_at_workers(workers, 2, 120))
    assert len(found) == len(said), found
    for sentence, begin in zip(found, said, strict=True):
        assert sentence.startswith(begin)
    assert all("(120 s)" in sentence for sentence in found if "broker" in sentence)
