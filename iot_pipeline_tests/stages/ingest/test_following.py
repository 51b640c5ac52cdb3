"""A run that follows: rows while they arrive, checkpoints, its end, and quiet Cassandra logs."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import Connections, drain_config, open_connections
from iot_pipeline.core.ledger.chain import find_flaws
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.following import Follow, open_ended
from iot_pipeline.stages.ingest.planning import make_plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import (
    OwnServices,
    Services,
    clean_environment,
)

pytestmark = pytest.mark.services

_T0 = 1_735_444_800
_IOT = Path(sys.executable).parent / "iot"


@pytest.fixture
def env(services: Services) -> dict[str, str]:
    return services.environment()


@pytest.fixture
def connections(env: dict[str, str]) -> Iterator[Connections]:
    settings = Settings.from_env(env)
    with open_connections(settings) as opened:
        opened.set_up()
        yield opened


def _send(settings: Settings, first: int, count: int, devices: int) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "acks": "all"})
    for number in range(first, first + count):
        reading = {
            "device_id": f"device_{number % devices}",
            "timestamp": _T0 + number,
            "temperature": 20.0,
            "humidity": 0.0,
        }
        key = reading["device_id"]
        producer.produce(settings.topic, b"{" if number % 50 == 7 else json.dumps(reading), key)
    assert producer.flush(30) == 0


def _rows(connections: Connections) -> int:
    found = connections.cassandra.execute(
        f"SELECT count(*) FROM {connections.settings.keyspace}.sensor_data", doing="counting"
    )
    return int(found[0][0])


def _checkpoints(connections: Connections) -> int:
    settings = connections.settings
    found = connections.ledger.read_checkpoints(settings.topic, range(settings.partitions))
    return sum(checkpoint.next_offset for checkpoint in found.values())


def _plan(connections: Connections):
    return make_plan(connections.log, connections.ledger, connections.settings.topic)


def _follow(connections: Connections, how: Follow, progress: DrainProgress | None = None):
    plan, config = open_ended(_plan(connections)), drain_config(connections.settings)
    config = replace(config, follow=how)
    return drain(plan, connections.ports, new_cli_run(), config, progress=progress)


def test_a_following_run_writes_what_arrives_moves_the_checkpoint_and_ends_when_asked(
    connections: Connections,
) -> None:
    settings = connections.settings
    stop = threading.Event()
    progress = DrainProgress([])
    thread = threading.Thread(
        target=_follow, args=(connections, Follow(60.0, should_stop=stop.is_set), progress)
    )
    thread.start()
    try:
        for step in range(3):
            _send(settings, step * 100, 100, 7)
            deadline = until(60)
            while time.monotonic() < deadline and _checkpoints(connections) < (step + 1) * 100:
                time.sleep(0.1)
            assert _checkpoints(connections) == (step + 1) * 100
            assert _rows(connections) == (step + 1) * 98
    finally:
        stop.set()
        asked_at = time.monotonic()
        thread.join(30)
    assert time.monotonic() - asked_at < 20, "of the minute it was asked to stay"
    assert progress.total.stored == 294
    assert progress.total.rejected == 6
    assert progress.done_offsets == 300
    partitions = range(settings.partitions)
    entries = connections.ledger.read_entries(settings.topic, partitions)
    checkpoints = connections.ledger.read_checkpoints(settings.topic, partitions)
    assert len(entries) == len(progress.ranges), "one ledger row per run and partition"
    assert find_flaws(entries, checkpoints.values()) == []


def test_the_run_after_a_following_one_starts_where_it_ended(connections: Connections) -> None:
    settings = connections.settings
    _send(settings, 0, 100, 3)
    first = _follow(connections, Follow(1.5))
    _send(settings, 100, 100, 3)
    second = drain(_plan(connections), connections.ports, new_cli_run(), drain_config(settings))
    assert (first.done_offsets, second.done_offsets) == (100, 100)
    assert _rows(connections) == 196


def test_sigterm_ends_iot_drain_follow_with_everything_committed(
    connections: Connections, env: dict[str, str]
) -> None:
    _send(connections.settings, 0, 200, 5)
    process = subprocess.Popen(
        [str(_IOT), "drain", "--follow", "--seconds", "60", "--json"],
        env=clean_environment(env),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = until(120)  # a loaded machine needs most of it to start Python
        while time.monotonic() < deadline and _checkpoints(connections) < 200:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    said = json.loads(out)
    assert (said["stored"], said["rejected"]) == (196, 4)
    assert _checkpoints(connections) == 200


def test_many_devices_with_few_rows_each_leave_no_warning_about_batches(
    services: Services, connections: Connections
) -> None:
    log_file = services.local.server("cassandra").log if isinstance(services, OwnServices) else None
    before = log_file.stat().st_size if log_file else 0
    _send(connections.settings, 0, 6_000, 2_500)
    done = drain(
        _plan(connections), connections.ports, new_cli_run(), drain_config(connections.settings)
    )
    assert done.total.stored == _rows(connections) == 5_880
    if log_file:
        with log_file.open("rb") as lines:
            lines.seek(before)
            text = lines.read().decode(errors="replace")
        assert not re.findall(r"^.*WARN.*[Bb]atch.*(?:size|partitions).*$", text, re.MULTILINE)


def test_a_follow_run_has_no_end_to_give(env: dict[str, str]) -> None:
    for options in (["--follow", "--max-records", "5"], ["--seconds", "5"]):
        run = subprocess.run(
            [str(_IOT), "drain", *options],
            env=clean_environment(env),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 2
        assert "--follow" in run.stderr
