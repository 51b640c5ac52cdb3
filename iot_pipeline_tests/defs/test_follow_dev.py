"""Follow mode as a person runs it: `dagster dev`, the sensor on, a load, a power cut."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from iot_pipeline.clients.dagster_health import DagsterHealth
from iot_pipeline.connections import open_connections
from iot_pipeline.core.alerts.conditions import Level
from iot_pipeline.core.reading.lag import total_lag
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.rights.needed import JOBS, SENSORS
from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline.defs.lanes import parse_ranges
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.lag import read_lag
from iot_pipeline_tests.defs.dev_server import DevServer, wait_for
from iot_pipeline_tests.defs.test_dagster_dev import Set
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.receivers import Webhook, webhook
from iot_pipeline_tests.servers import OwnServices, Services

pytestmark = pytest.mark.services


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


@pytest.fixture
def dev(services: Services, tmp_path: Path, hook: Webhook) -> Iterator[Set]:
    env = services.environment(
        IOT_DATA_DIR=str(tmp_path / "data"),
        IOT_INGEST_MODE="follow",
        IOT_FOLLOW_SECONDS="6",
        IOT_ALERT_CHANNELS=f"ops=json://{hook.address}/hook",
        IOT_ALERT_SETTLE_SECONDS="0",
    )
    settings = Settings.from_env(env)
    home = prepare_instance(tmp_path / "home")
    with open_connections(settings) as connections:
        connections.set_up()
        yield Set(home, env, tmp_path / "dagster.log", connections)


@contextmanager
def loaded(dev: Set) -> Iterator[None]:
    """200 readings a second until the end of the block."""
    settings = dev.connections.settings
    is_over = threading.Event()

    def produce_on() -> None:
        number = 0
        while not is_over.wait(0.25):
            number += 1
            produce(settings.bootstrap_servers, settings.topic, fleet(f"d{number}", 10, 50))

    thread = threading.Thread(target=produce_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(20)


def ingest_runs(server: DevServer, *statuses: str) -> list[dict[str, Any]]:
    """Ingest runs in these states, oldest first."""
    runs = server.runs(pipelineName="ingest")
    return [run for run in reversed(runs) if run["status"] in statuses]


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def test_runs_that_stay_follow_each_other_through_a_power_cut_and_lose_nothing(
    dev: Set, services: Services, hook: Webhook
) -> None:
    with ExitStack() as stack:
        with loaded(dev):
            with dev.start() as server:
                server.start_sensor("iot_data_lag")
                first, second = _two_runs_succeed(server, dev)
                _checks_are_green_and_in_progress_nowhere(server, [first, second])
                killed = _a_run_is_at_work(server, dev)
                server.kill()
            server = stack.enter_context(dev.start())
            sensor_id = server.start_sensor("iot_data_lag")
            run = server.finish(killed, 60)
            assert run["status"] == "FAILURE"
            assert any("is gone" in line for line in server.messages(killed))
            _a_run_is_at_work(server, dev)
            _lag_is_near_zero(dev)
            _a_silent_cassandra_is_one_message_and_its_return_another(server, dev, services, hook)
            _terminate_ends_at_once(server, dev)
        wait_for(lambda: True if _done(dev) == dev.sent() else None, 60)
        server.stop_sensor(sensor_id)
        _a_reexecution_drains_the_same_offsets(server, first)
    dev.assert_everything_accounted_for()


def _done(dev: Set) -> int:
    return sum(entry.span for entry in dev.chain().entries)


def _two_runs_succeed(server: DevServer, dev: Set) -> tuple[dict[str, Any], dict[str, Any]]:
    def two() -> list[dict[str, Any]] | None:
        runs = ingest_runs(server, "SUCCESS")
        assert not ingest_runs(server, "FAILURE", "CANCELED")
        assert len(ingest_runs(server, "STARTED", "STARTING")) <= 1, "one lane"
        return runs if len(runs) >= 2 else None

    first, second = wait_for(two, 90, lambda: str(server.runs(pipelineName="ingest")))[:2]
    assert dev.chain().flaws == []
    earlier, later = _achieved(first), _achieved(second)
    # A run of a busy machine may have met readings of some partitions only.
    shared = earlier.keys() & later.keys()
    assert shared, (earlier, later)
    assert [earlier[p].end for p in shared] == [later[p].start for p in shared]
    return first, second


def _achieved(run: dict[str, Any]) -> dict[int, OffsetRange]:
    return {item.partition: item for item in parse_ranges(tags_of(run)["dagster/iot_achieved"])}


def _checks_are_green_and_in_progress_nowhere(
    server: DevServer, runs: list[dict[str, Any]]
) -> None:
    ids = [run["runId"] for run in runs]
    for name in (
        "every_offset_is_accounted_for",
        "ledger_has_no_gap",
        "row_count_matches_ledger",
        "lag_is_within_limit",
        "rows_read_back_equal",
    ):
        results = server.checks(name)
        mine = [result["status"] for result in results if result["runId"] in ids]
        assert mine == ["SUCCEEDED", "SUCCEEDED"], (name, results)
        assert {result["status"] for result in results} == {"SUCCEEDED"}, (name, results)


def _a_run_is_at_work(server: DevServer, dev: Set) -> str:
    """Wait until a run that stays commits, and give its id."""

    def at_work() -> str | None:
        started = {run["runId"] for run in ingest_runs(server, "STARTED")}
        owners = {entry.run_id for entry in dev.chain().entries}
        return next(iter(started & owners), None)

    return wait_for(at_work, 60, lambda: str(server.runs(pipelineName="ingest")))


def _lag_is_near_zero(dev: Set) -> None:
    settings = dev.connections.settings

    def is_near_zero() -> float | None:
        lags = read_lag(
            dev.connections.log, dev.connections.ledger, settings.topic, datetime.now(UTC)
        )
        seconds = total_lag(lags).lag_seconds
        return seconds if seconds < 2.0 else None

    wait_for(is_near_zero, 20)


def _a_silent_cassandra_is_one_message_and_its_return_another(
    server: DevServer, dev: Set, services: Services, hook: Webhook
) -> None:
    def newest_is_well() -> bool | None:
        ended = ingest_runs(server, "SUCCESS", "FAILURE")
        return True if ended and ended[-1]["status"] == "SUCCESS" else None

    # Until then the run that was killed is what is to be told.
    wait_for(newest_is_well, 60)
    server.start_sensor("iot_alerts")
    expected = {"daemon_stopped/SENSOR", "daemon_stopped/webserver", "sensor_stopped/iot_data_lag"}

    def signs() -> dict[str, Level]:
        found = DagsterHealth(f"http://127.0.0.1:{server.port}", SENSORS, JOBS).look()
        return {item.subject: item.level for item in found}

    def all_is_alive() -> bool | None:
        found = signs()
        return True if expected <= found.keys() and not any(found.values()) else None

    wait_for(all_is_alive, 60, lambda: str(signs()))
    if not isinstance(services, OwnServices):
        return
    services.sigstop("cassandra")
    try:
        wait_for(lambda: hook.posted or None, 60)
        # The tick of the lag says it too, and the run that follows gives up or is about to.
        wait_for(lambda: True if _lag_check(server) == "FAILED" else None, 60)
    finally:
        services.sigcont("cassandra")
    wait_for(lambda: True if len(hook.posted) >= 2 else None, 60, lambda: str(hook.titles))
    _a_run_is_at_work(server, dev)
    _lag_is_near_zero(dev)
    wait_for(lambda: True if _lag_check(server) == "SUCCEEDED" else None, 60)
    assert hook.titles == [
        "iot: server_is_away/Cassandra is red",
        "iot: server_is_away/Cassandra is green again",
    ], hook.posted


def _lag_check(server: DevServer) -> str:
    return str(server.checks("lag_is_within_limit")[0]["status"])


def _terminate_ends_at_once(server: DevServer, dev: Set) -> None:
    run_id = _a_run_is_at_work(server, dev)
    while not server.try_terminate(run_id):
        run_id = _a_run_is_at_work(server, dev)
    run = server.finish(run_id, 30)
    assert run["status"] in ("CANCELED", "SUCCESS"), "SUCCESS: its time was over just then"

    def tag_is_of_the_ledger() -> bool | None:
        ledger = {
            entry.partition: (entry.start_offset, entry.end_offset)
            for entry in dev.chain().entries
            if entry.run_id == run_id
        }
        said = parse_ranges(tags_of(server.run(run_id)).get("dagster/iot_achieved", ""))
        # Interrupted within Dagster's own code, the tag is that of the last report, or of the
        # first commit: behind the ledger, never ahead, so a re-execution drains no foreign offset.
        is_true = all(
            item.partition in ledger
            and ledger[item.partition][0] == item.start
            and item.end <= ledger[item.partition][1]
            for item in said
        )
        return True if said and is_true else None

    # Dagster may say CANCELED a moment before the run's process has closed what it does.
    wait_for(tag_is_of_the_ledger, 10, lambda: str(tags_of(server.run(run_id))))


def _a_reexecution_drains_the_same_offsets(server: DevServer, first: dict[str, Any]) -> None:
    wait_for(lambda: True if not ingest_runs(server, "STARTED", "STARTING", "QUEUED") else None, 60)
    again = server.succeed(server.reexecute(first["runId"]), 60)
    assert tags_of(again)["dagster/iot_achieved"] == tags_of(first)["dagster/iot_achieved"]
    assert any("the same offsets" in line for line in server.messages(again["runId"]))
