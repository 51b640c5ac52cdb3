"""`iot demo` as a process of the test's own: everything a newcomer gets, on ports nobody has."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import PORTS, clean_environment, end_leftovers, free_ports

REPOSITORY = {"repositoryLocationName": "iot_pipeline", "repositoryName": "__repository__"}
_SENSOR = """query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) {
  ... on Sensor { sensorState { id } } } }"""
_STOP_SENSOR = """mutation($id: String!) { stopSensor(id: $id) { __typename } }"""
_START_SENSOR = (
    """mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }"""
)
# Ingestion and checks; a simulation may go on.
_ACTIVE = """query { runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED],
  pipelineName: "ingest"}) { ... on Runs { results { runId } } } }"""


@dataclass
class RunningDemo:
    """Where its UI is, what it prints, and how to run `iot` beside it."""

    address: str
    env: dict[str, str]
    log_path: Path
    process: "subprocess.Popen[bytes]"

    @contextmanager
    def standing_still(self, seconds: float = 120) -> Iterator[None]:
        """The sensor off and no run under way: checks show results, not that they are running."""
        selector = {**REPOSITORY, "sensorName": "iot_data_lag"}
        state = self.ask(_SENSOR, s=selector)["sensorOrError"]["sensorState"]
        self.ask(_STOP_SENSOR, id=state["id"])
        try:
            deadline = until(seconds)
            while self.ask(_ACTIVE)["runsOrError"]["results"]:
                assert time.monotonic() < deadline, "runs go on"
                time.sleep(0.3)
            yield
        finally:
            self.ask(_START_SENSOR, s=selector)

    @property
    def data_dir(self) -> Path:
        return Path(self.env["IOT_DATA_DIR"])

    def iot(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(Path(sys.executable).parent / "iot"), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=480,
            check=False,
        )

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The `data` of a GraphQL answer: what the UI itself would be told."""
        request = urllib.request.Request(
            f"{self.address}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=240) as answer:
            found: dict[str, Any] = json.load(answer)
        assert "errors" not in found, found
        return dict(found["data"])


@contextmanager
def running_demo(folder: Path, env: Mapping[str, str], *arguments: str) -> Iterator[RunningDemo]:
    """A demo whose UI answers; ended with Ctrl-C, its servers with it."""
    *server_ports, ui_port = free_ports(len(PORTS) + 1)
    full = clean_environment(
        {
            **dict(zip(PORTS, map(str, server_ports), strict=True)),
            "IOT_DATA_DIR": str(folder / "data"),
            # Runs that end, so that it can be made to stand still; a run that stays has tests of
            # its own.
            "IOT_INGEST_MODE": "drain",
            **env,
        }
    )
    log_path = folder / "demo.log"
    iot = str(Path(sys.executable).parent / "iot")
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [iot, "demo", "--port", str(ui_port), *arguments],
            env=full,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_default_signals,
        )
    demo = RunningDemo(f"http://127.0.0.1:{ui_port}", full, log_path, process)
    try:
        _wait_for_ui(demo)
        yield demo
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        end_leftovers(folder / "data")


def _wait_for_ui(demo: RunningDemo, seconds: float = 200) -> None:
    deadline = until(seconds)
    while time.monotonic() < deadline:
        text = demo.log_path.read_text()
        if f"The UI: {demo.address}" in text:
            return
        assert demo.process.poll() is None, text[-3000:]
        time.sleep(0.3)
    raise AssertionError(f"no UI within {seconds:g} s:\n{demo.log_path.read_text()[-3000:]}")


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
