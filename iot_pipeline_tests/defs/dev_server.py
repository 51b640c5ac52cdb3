"""`dagster dev` for a test: started, asked over GraphQL, and stopped for certain."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import clean_environment

ROOT = Path(__file__).resolve().parents[2]
LOCATION = "iot_pipeline"
REPOSITORY = "__repository__"
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")
_T = TypeVar("_T")

_LAUNCH = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
_REEXECUTE = """mutation($p: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_TERMINATE = """mutation($r: String!, $p: TerminateRunPolicy) {
  terminateRun(runId: $r, terminatePolicy: $p) { __typename
  ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
_START_SENSOR = """mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename
  ... on Sensor { sensorState { id } } ... on PythonError { message } } }"""
_STOP_SENSOR = """mutation($id: String!) { stopSensor(id: $id) { __typename } }"""
_RUN = """query($r: ID!) { runOrError(runId: $r) { ... on Run {
  runId status jobName parentRunId startTime endTime tags { key value }
  stats { ... on RunStatsSnapshot { materializations } } } } }"""
_RUNS = """query($f: RunsFilter) { runsOrError(filter: $f, limit: 50) { ... on Runs { results {
  runId status jobName startTime endTime tags { key value } } } } }"""
_CHECKS = """query($a: AssetKeyInput!, $n: String!) { assetCheckExecutions(
  assetKey: $a, checkName: $n, limit: 5) { runId status evaluation { severity description } } }"""
_EVENTS = """query($r: ID!) { logsForRun(runId: $r) { ... on EventConnection { events {
  __typename ... on MessageEvent { message } } } } }"""
_PAGES = """query { assetsOrError { ... on AssetConnection { nodes { key { path } } } }
  repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name }
  sensors { name sensorState { status } } schedules { name } } } } }"""


@dataclass
class DevServer:
    """One `dagster dev`, its process group, and what a person would click."""

    process: "subprocess.Popen[bytes]"
    port: int
    log_path: Path
    location: str = LOCATION

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as exc:  # the answer is a PythonError, and the status 500
            found = json.load(exc)
        assert "errors" not in found, found
        return found["data"]

    def try_launch(self, job: str, config: Mapping[str, object] | None = None) -> dict[str, Any]:
        selector = {
            "repositoryLocationName": self.location,
            "repositoryName": REPOSITORY,
            "jobName": job,
        }
        params = {"selector": selector, "runConfigData": json.dumps(config or {})}
        return dict(self.ask(_LAUNCH, p=params)["launchRun"])

    def launch(self, job: str, config: Mapping[str, object] | None = None) -> str:
        answer = self.try_launch(job, config)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def reexecute(self, run_id: str) -> str:
        params = {"parentRunId": run_id, "strategy": "ALL_STEPS"}
        answer = self.ask(_REEXECUTE, p=params)["launchRunReexecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """Click Terminate."""
        assert self.try_terminate(run_id), "it is over already"

    def try_terminate(self, run_id: str) -> bool:
        """Click Terminate; False where the run ended by itself before."""
        answer = self.ask(_TERMINATE, r=run_id, p="SAFE_TERMINATE")["terminateRun"]
        if answer["__typename"] == "TerminateRunSuccess":
            return True
        assert "due to having status SUCCESS" in answer["message"], answer
        return False

    def start_sensor(self, name: str) -> str:
        selector = {
            "repositoryLocationName": self.location,
            "repositoryName": REPOSITORY,
            "sensorName": name,
        }
        answer = self.ask(_START_SENSOR, s=selector)["startSensor"]
        assert answer["__typename"] == "Sensor", answer
        return str(answer["sensorState"]["id"])

    def stop_sensor(self, sensor_id: str) -> None:
        self.ask(_STOP_SENSOR, id=sensor_id)

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.ask(_RUN, r=run_id)["runOrError"])

    def runs(self, **chosen: object) -> list[dict[str, Any]]:
        return list(self.ask(_RUNS, f=chosen)["runsOrError"]["results"])

    def checks(self, name: str, group: str = "iot") -> list[dict[str, Any]]:
        found = self.ask(_CHECKS, a={"path": [group, "sensor_data"]}, n=name)
        return list(found["assetCheckExecutions"])

    def messages(self, run_id: str) -> list[str]:
        events = self.ask(_EVENTS, r=run_id)["logsForRun"]["events"]
        return [event["message"] for event in events if event.get("message")]

    def pages(self) -> dict[str, Any]:
        return self.ask(_PAGES)

    def finish(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until the run has ended, and give it back."""

        def ended() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["status"] in FINISHED else None

        return wait_for(ended, seconds, lambda: f"run {run_id}: {self.messages(run_id)[-5:]}")

    def succeed(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        run = self.finish(run_id, seconds)
        assert run["status"] == "SUCCESS", self.messages(run_id)[-8:]
        return run

    def kill(self) -> None:
        """SIGKILL all of it, the processes of its runs too, as a machine that loses power."""
        for process in [*psutil.Process(self.process.pid).children(recursive=True)]:
            process.kill()
        self.process.kill()
        self.process.wait(30)
        _end_group(self.process.pid)


def listening_addresses(pid: int) -> set[str]:
    """Where a process, or any that it has started, can be reached by network."""
    ours = psutil.Process(pid)
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in [ours, *ours.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def wait_for(
    look: Callable[[], _T | None],
    seconds: float,
    complaint: Callable[[], str] = lambda: "",
    *,
    every_seconds: float = 0.2,
) -> _T:
    """The first answer that is not None."""
    deadline = until(seconds)
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(every_seconds)
    raise AssertionError(f"not within {seconds:g} s: {complaint()}")


@contextmanager
def dagster_dev(
    home: Path,
    port: int,
    env: Mapping[str, str],
    log_path: Path,
    *,
    code: Sequence[str] = ("-w", "workspace.yaml"),
    location: str = LOCATION,
) -> Iterator[DevServer]:
    """A server that answers; ended at the end, by SIGKILL if it must be.

    `code` is what it is told to load, `location` what that is called.
    """
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "dagster"),
                # As the README has it: no host is named, and it listens on loopback all the same.
                *("dev", *code, "-p", str(port)),
            ],
            cwd=ROOT,
            env={**clean_environment(env), "DAGSTER_HOME": str(home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            # One group to stop; and a shell's `&` leaves SIGINT ignored, to which dagster maps
            # SIGTERM.
            start_new_session=True,
            preexec_fn=_default_signals,
        )
    server = DevServer(process, port, log_path, location)
    try:
        wait_for(lambda: _answers(port) or None, 180, lambda: log_path.read_text()[-3000:])
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        _end_group(process.pid)


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=2):
            return True
    except OSError:
        return False


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
