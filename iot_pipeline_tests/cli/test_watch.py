"""`iot watch` as a process: tells, keeps what it told, serves, and ends when it is asked."""

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iot_pipeline_tests.defs.dev_server import wait_for
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.receivers import webhook
from iot_pipeline_tests.servers import clean_environment, free_ports


@contextmanager
def watching(env: dict[str, str], log: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [IOT, "watch", "--every", "1", "--checks-every", "0", *options],
            env=clean_environment(env),
            stderr=file,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    kafka, cassandra, ui = free_ports(3)
    return {
        "IOT_BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka}",
        "IOT_CASSANDRA_PORT": str(cassandra),
        "IOT_UI_URL": f"http://127.0.0.1:{ui}",
        "IOT_DATA_DIR": str(tmp_path / "data"),
        "IOT_ALERT_SETTLE_SECONDS": "0",
    }


def test_it_tells_once_also_over_restarts_serves_metrics_and_ends_on_sigterm_and_ctrl_c(
    nowhere: dict[str, str], tmp_path: Path
) -> None:
    log, kept = tmp_path / "log", tmp_path / "data" / "alerts" / "watch.json"

    with webhook() as hook:
        env = nowhere | {"IOT_ALERT_CHANNELS": f"ops=json://{hook.address}/hunter2"}
        with watching(env, log, "--port", "0") as process:
            found = wait_for(lambda: re.search(r"http://\S+/metrics", log.read_text()), 60)
            again = subprocess.run(
                [IOT, "watch"], env=clean_environment(env), capture_output=True, check=False
            )
            assert again.returncode == 2
            assert b"another iot watch is at work" in again.stderr
            wait_for(lambda: hook.posted or None, 60)
            assert 'iot_up{server="Kafka"} 0.0' in _scrape(found[0])
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert "hunter2" not in log.read_text()
        assert hook.titles == [f"iot_data: 2 are red, {_FIRST} first"]
        assert "server_is_away/Kafka" in hook.posted[0][1]["message"]
        assert '"server_is_away/Kafka":2' in kept.read_text()
        # The same is red, and nothing is to be told: the restart repeats nothing.
        with watching(env, log, "--port", "0") as process:
            found = wait_for(lambda: re.search(r"http://\S+/metrics", log.read_text()), 60)
            wait_for(lambda: "iot_look" in _scrape(found[0]) or None, 60)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        assert len(hook.posted) == 1


_FIRST = "daemon_stopped/webserver"


def _scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
