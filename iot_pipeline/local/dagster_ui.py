"""Dagster's UI as a process of ours: start `dagster dev`, ask it over GraphQL, stop it.

Speaks HTTP only; what is defined in Dagster is none of its business.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from iot_pipeline.core.words import as_written
from iot_pipeline.errors import ServiceError
from iot_pipeline.local.processes import reset_signals

_STOP_SECONDS = 30.0
_START_SECONDS = 120.0


class Child:
    """A process in a session of its own, with its output in a log; stopped as a group.

    Args:
        command: what to run.
        log: where stdout and stderr go; begun anew.
        env: its whole environment.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
                preexec_fn=reset_signals,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def last_lines(self, count: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def stop(self, grace_seconds: float = _STOP_SECONDS) -> bool:
        """Ask it to end, as Ctrl-C would, then what it started; False when one had to be killed.

        Dagster's runs are processes of their own that outlive the server that started them: they
        are asked in their turn, and say what they achieved.
        """
        family = self._family()
        in_time = True
        if self.is_alive:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                in_time = False
        left = [member for member in family if member.is_running()]
        for member in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGINT)
        _, deaf = psutil.wait_procs(left, timeout=grace_seconds / 2)
        for member in deaf:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        return in_time and not deaf

    def _family(self) -> list[psutil.Process]:
        """Processes that it started; those of its session also when it was killed itself."""
        found = set()
        if self.is_alive:
            found.update(psutil.Process(self.pid).children(recursive=True))
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if process.pid != self.pid and os.getsid(process.pid) == self.pid:
                    found.add(process)
        return list(found)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


def find_free_port(wanted: int) -> int:
    """`wanted` when no program listens there on loopback, else one that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServiceError("no free port on 127.0.0.1")


@dataclass(frozen=True, slots=True)
class UiLook:
    """What the UI shows of an asset and of the runs that a sensor asked for.

    `runs` newest first: runId, status, tags as a mapping. `numbers` are those of the newest
    materialization or observation, at `reported_at` (seconds since 1970, 0 when there is none).
    `verdicts`: check -> success, description, metadataEntries, as the asset's page shows them;
    checks without one are left out, `check_count` counts all.
    """

    runs: list[dict[str, Any]]
    numbers: dict[str, float]
    reported_at: float
    verdicts: dict[str, dict[str, Any]]
    check_count: int


class DagsterUi:
    """A running `dagster dev`, by its address."""

    def __init__(self, port: int, location: str) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self._location = location

    def wait(self, child: Child, seconds: float = _START_SECONDS) -> None:
        """Until it answers and has loaded the code location.

        Raises:
            ServiceError: it died, did not answer in time, or cannot load the code; with the end
                of its log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not child.is_alive:
                raise ServiceError(f"dagster dev ended:\n{child.last_lines()}")
            try:
                entry = self.ask(_LOCATION, name=self._location)["workspaceLocationEntryOrError"]
            except (OSError, http.client.HTTPException):
                entry = None
            if entry and entry["__typename"] == "WorkspaceLocationEntry":
                loaded = entry["locationOrLoadError"]
                if loaded and loaded["__typename"] == "RepositoryLocation":
                    return
                if loaded:
                    raise ServiceError(f"Dagster cannot load the code: {loaded['message']}")
            time.sleep(0.3)
        raise ServiceError(f"dagster dev: no answer in {seconds:g} s:\n{child.last_lines()}")

    def ask(self, query: str, **variables: object) -> Any:
        """The `data` of a GraphQL answer.

        Raises:
            ServiceError: the query was refused.
            OSError: no answer.
        """
        request = urllib.request.Request(
            f"{self.address}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as exc:
            raise ServiceError(f"asking Dagster: {exc}: {exc.read()[:500]!r}") from exc
        if body.get("errors"):
            raise ServiceError(f"asking Dagster: {body['errors'][0]['message']}")
        return body["data"]

    def start_sensor(self, name: str) -> None:
        """Switch a sensor on; one that is on stays on."""
        answer = self.ask(_START_SENSOR, selector=self._selector("sensorName", name))["startSensor"]
        if answer["__typename"] != "Sensor":
            raise ServiceError(f"starting sensor {name}: {answer}")

    def start_schedule(self, name: str) -> None:
        """Switch a schedule on; one that is on stays on."""
        selector = self._selector("scheduleName", name)
        answer = self.ask(_START_SCHEDULE, selector=selector)["startSchedule"]
        if answer["__typename"] != "ScheduleStateResult":
            raise ServiceError(f"starting schedule {name}: {answer}")

    def _selector(self, kind: str, name: str) -> dict[str, str]:
        return {
            "repositoryLocationName": self._location,
            "repositoryName": "__repository__",
            kind: name,
        }

    def runs_of_sensor(self, name: str, limit: int = 10) -> list[dict[str, Any]]:
        """Its newest runs, newest first: runId, status, startTime, endTime."""
        tags = [{"key": "dagster/sensor_name", "value": name}]
        answer = self.ask(_RUNS, filter={"tags": tags}, limit=limit)["runsOrError"]
        return list(answer.get("results", []))

    def reload(self) -> None:
        """Load the code location's definitions anew."""
        self.ask(_RELOAD, name=self._location)

    def look(self, sensor: str, asset_key: Sequence[str], limit: int = 10) -> UiLook:
        """What a person would see now; one question."""
        tags = [{"key": "dagster/sensor_name", "value": sensor}]
        answer = self.ask(_LOOK, filter={"tags": tags}, limit=limit, key={"path": list(asset_key)})
        runs = answer["runsOrError"].get("results", [])
        node = answer["assetNodeOrError"]
        checks = node.get("assetChecksOrError", {}).get("checks", [])
        # A run that stays materializes once and then observes.
        reports = node.get("assetMaterializations", []) + node.get("assetObservations", [])
        newest = sorted(reports, key=lambda report: float(report["timestamp"]))[-1:]
        return UiLook(
            [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs],
            _numbers(newest[0]["metadataEntries"]) if newest else {},
            float(newest[0]["timestamp"]) / 1000 if newest else 0.0,
            {
                check["name"]: _as_written(check["executionForLatestMaterialization"]["evaluation"])
                for check in checks
                if (check["executionForLatestMaterialization"] or {}).get("evaluation")
            },
            len(checks),
        )

    def results_of_run(self, run_id: str) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
        """What a run says of itself: (numbers of its materialization, checks by name).

        Each check has success, severity and description.
        """
        run = self.ask(_RUN, runId=run_id)["runOrError"]
        numbers: dict[str, float] = {}
        checks: dict[str, dict[str, Any]] = {}
        for event in run.get("eventConnection", {}).get("events", []):
            numbers |= _numbers(event.get("metadataEntries", ()))
            if event.get("evaluation"):
                checks[event["evaluation"]["checkName"]] = _as_written(event["evaluation"])
        return numbers, checks


def _as_written(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {**evaluation, "description": as_written(evaluation["description"] or "")}


def _numbers(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    found = {entry["label"]: entry.get("intValue", entry.get("floatValue")) for entry in entries}
    return {label: value for label, value in found.items() if value is not None}


_LOCATION = """query($name: String!) { workspaceLocationEntryOrError(name: $name) { __typename
  ... on WorkspaceLocationEntry { locationOrLoadError { __typename
    ... on PythonError { message } } } } }"""
_START_SENSOR = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }"""
_START_SCHEDULE = """mutation($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) { __typename ... on PythonError { message } } }"""
_RUNS = """query($filter: RunsFilter!, $limit: Int) { runsOrError(filter: $filter, limit: $limit) {
  ... on Runs { results { runId status startTime endTime } } } }"""
_LOOK = """query($filter: RunsFilter!, $limit: Int, $key: AssetKeyInput!) {
  runsOrError(filter: $filter, limit: $limit) { ... on Runs { results {
    runId status tags { key value } } } }
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    assetMaterializations(limit: 1) { timestamp metadataEntries { label
      ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } }
    assetObservations(limit: 1) { timestamp metadataEntries { label
      ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } }
    assetChecksOrError { ... on AssetChecks { checks { name
      executionForLatestMaterialization { evaluation { success description metadataEntries { label
        ... on MarkdownMetadataEntry { mdStr } ... on JsonMetadataEntry { jsonString }
        ... on TextMetadataEntry { text } } } } } } }
  } } }"""
_RELOAD = """mutation($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"""
_RUN = """query($runId: ID!) { runOrError(runId: $runId) { ... on Run { status
  eventConnection(limit: 1000) { events {
    ... on MaterializationEvent { metadataEntries { label
      ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } }
    ... on AssetCheckEvaluationEvent { evaluation {
      checkName success severity description } } } } } } }"""
