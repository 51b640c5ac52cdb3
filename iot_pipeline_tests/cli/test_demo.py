"""`iot demo` as a person has it: one at a time, green, and gone with its terminal."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest

from iot_pipeline.stages.checks.machinery.registry import checks_of
from iot_pipeline_tests.defs.dev_server import listening_addresses
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import PORTS, clean_environment, end_leftovers, free_ports

pytestmark = pytest.mark.services


@dataclass
class Demo:
    """A demo in a terminal of its own, and what it said."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, seconds: float = 120) -> str:
        """The first line with these words."""
        deadline = until(seconds)
        while True:
            for line in self.said().splitlines():
                if words in line:
                    return line
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)

    def end(self, signal_number: signal.Signals) -> int:
        """Ask the demo alone; what it started is its business."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal_number)
        code = self.process.wait(90)
        left = [member for member in family if member.is_running()]
        assert not left, (left, self.said())
        return code


@contextmanager
def demo(env: Mapping[str, str], log: Path, port: int) -> Iterator[Demo]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [IOT, "demo", "--devices", "20", "--port", str(port)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # as a terminal's window is one
        )
    try:
        yield Demo(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def iot(env: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [IOT, *arguments], env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A machine of one's own: its own ports, its own folder."""
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    made = clean_environment({"IOT_DATA_DIR": str(tmp_path / "data"), **ports})
    yield made
    iot(made, "down")
    end_leftovers(tmp_path)


def test_a_demo_turns_green_refuses_a_second_one_and_ends_with_its_terminal(
    env: dict[str, str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with demo(env, tmp_path / "demo.log", taken) as first:
            said = first.wait_for(f"port {taken} is taken; the UI is at ", 300)
            address = f"http://127.0.0.1:{said.rsplit(' ', 1)[1]}"
            first.wait_for(f"The UI: {address}")
            here = first.wait_for("In other terminals set what is set here: ")
            assert "IOT_DATA_DIR" in here
            second = iot(env, "demo", "--port", str(taken))
            assert second.returncode == 1
            assert f"a demo runs already; its UI is at {address}" in second.stderr
            readings = first.wait_for("first readings: ")
            assert re.match(r"\d\d:\d\d:\d\d first readings: [\d,]+ rows stored, each ", readings)
            first.wait_for(f"all {len(checks_of())} checks green")
            assert listening_addresses(first.process.pid) == {"127.0.0.1"}, "the UI has no login"
            assert first.end(signal.SIGHUP) == 0
        assert "stopping cassandra and kafka; their data stays" in first.said()
        with dg.DagsterInstance.from_config(str(tmp_path / "data" / "dagster")) as instance:
            states = {run.status.value for run in instance.get_runs()}
        assert states, "one followed the topic"
        # The sensor may have asked for one more at the last moment: the next demo begins it.
        assert states <= {"SUCCESS", "CANCELED", "QUEUED"}, "none failed because the demo ended"
        # The port is still the other program's.
        socket.create_connection(("127.0.0.1", taken), timeout=5).close()
    assert iot(env, "status").stdout.count("stopped") == 2


def test_demos_leave_what_they_did_not_start_and_what_lost_its_dagster_and_the_next_takes_over(
    env: dict[str, str], tmp_path: Path
) -> None:
    up = iot(env, "up", "--only", "kafka")
    assert up.returncode == 0, up.stderr
    with demo(env, tmp_path / "first.log", free_ports(1)[0]) as first:
        first.wait_for("The UI: ", 300)
        assert first.end(signal.SIGINT) == 0
        assert "stopping cassandra; their data stays" in first.said()
    found = json.loads(iot(env, "status", "--json").stdout)
    assert {entry["service"]: entry["state"] for entry in found} == {
        "kafka": "up",
        "cassandra": "stopped",
    }
    assert os.path.exists(tmp_path / "data")
    _a_demo_whose_dagster_dies_leaves_the_servers(env, tmp_path)
    assert iot(env, "status").stdout.count("stopped") == 0
    _take_over_and_end_with_a_pipe_that_is_gone(env)
    # Its forerunner's Cassandra ends with it; Kafka was there before all of them.
    assert iot(env, "status").stdout.count("stopped") == 1


def _a_demo_whose_dagster_dies_leaves_the_servers(env: dict[str, str], tmp_path: Path) -> None:
    with demo(env, tmp_path / "second.log", free_ports(1)[0]) as second:
        second.wait_for("first readings: ", 300)
        dagster = json.loads((tmp_path / "data" / "demo" / "dagster.json").read_text())
        psutil.Process(dagster["pid"]).kill()
        assert second.process.wait(90) == 1
        said = second.wait_for("Dagster ended (exit code -9; its log is ")
        assert "`make demo` takes them over and goes on, `iot down` stops them" in said
        assert second.said().count("Dagster ended") == 1


def _take_over_and_end_with_a_pipe_that_is_gone(env: dict[str, str]) -> None:
    process = subprocess.Popen(
        [IOT, "demo", "--devices", "20", "--port", str(free_ports(1)[0])],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any(b"first readings: " in line for line in process.stdout)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    os.set_blocking(process.stdout.fileno(), False)
    time.sleep(15)
    new = (process.stdout.read() or b"").splitlines()
    assert len(new) <= 3, "nothing is said when nothing changes"
    process.stdout.close()  # as `iot demo | tee log` does at Ctrl-C
    process.send_signal(signal.SIGINT)
    process.wait(90)
    assert [member for member in family if member.is_running()] == []
