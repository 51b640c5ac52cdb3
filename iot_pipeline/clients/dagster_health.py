"""Dagster's signs of life, asked from outside: its webserver's GraphQL, nothing of its Python."""

import http.client
import json
import re
import time
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from iot_pipeline.core.alerts.conditions import (
    DAEMON_STOPPED,
    SENSOR_STOPPED,
    Condition,
    Level,
)
from iot_pipeline.core.alerts.runs import (
    ALERTS,
    BY_SENSOR,
    INGEST,
    LANE,
    SERVER_AWAY,
    run_failed,
    run_succeeded,
)
from iot_pipeline.core.times import in_words

_TIMEOUT_SECONDS = 5.0
# Every daemon beats twice a minute, every sensor of ours ticks every few seconds.
_SILENT_SECONDS = 300.0
_WEBSERVER = "webserver"
# Each lane's newest run is among as many; a job without lanes needs one.
_RUNS_OF_LANES = 40
_PART_OF_A_TOPIC = re.compile(r"/\d+-of-\d+$")
# Of a run's log, a thousand events each.
_MOST_PAGES = 20
# With this the ticks are the sensor's; without it those of the code server that first ran it, so
# a restarted one seems never to tick (Dagster 1.13).
_QUERY = """{ instance { daemonHealth { allDaemonStatuses {
    daemonType required healthy lastHeartbeatTime lastHeartbeatErrors { message } } } }
  repositoriesOrError { __typename ... on RepositoryConnection { nodes { jobs { name }
    sensors { name
    sensorState { status ticks(limit: 2, afterTimestamp: 1.0) {
      timestamp status error { message causes { message } } }
  } } } } } }"""


@dataclass(slots=True)
class DagsterHealth:
    """A deployment, looked at again and again: its daemons, and every pipeline of ours in it.

    Pipelines are found by their sensors: `iot_data_lag` is that of the one without a name,
    `pumps_iot_data_lag` that of `pumps`; their jobs have the same word in front.

    Args:
        sensors, jobs: what a pipeline without a name calls them.
    """

    ui_url: str
    sensors: Collection[str]
    jobs: Collection[str]
    # By run: why it failed, and the server that was away. Of those alone that are told now.
    _reasons: dict[str, tuple[str, str]] = field(default_factory=dict)

    def look(self, now: float | None = None) -> list[Condition]:
        """Whether the webserver answers, daemons' hearts beat, sensors tick, and jobs succeed.

        A sensor that is off says nothing: a person switched it off. A job, or a lane of ingestion,
        goes by its newest run that has ended; one that a person terminated says nothing, and nor
        do those of a pipeline whose sensor `iot_alerts` is on and well: it tells them itself.
        """
        moment = time.time() if now is None else now
        try:
            found = self._ask(_QUERY)
            prefixes = self._prefixes(found)
            ours = {prefix + sensor for prefix in prefixes for sensor in self.sensors}
            sensors = list(_sensors(found, ours, moment))
            told = {item.name for item in sensors if not item.level}
            runs = self._runs(found, [p for p in prefixes if p + ALERTS not in told])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
            reason = getattr(exc, "reason", None) or exc
            said = f"Dagster's webserver at {self.ui_url} did not answer: {reason}."
            return [Condition(DAEMON_STOPPED, Level.ERROR, said, _WEBSERVER)]
        answers = Condition(DAEMON_STOPPED, Level.GREEN, "It answers.", _WEBSERVER)
        return [answers, *_daemons(found, moment), *sensors, *runs]

    def _ask(self, query: str) -> Any:
        request = urllib.request.Request(
            f"{self.ui_url.rstrip('/')}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return json.load(answer)["data"]

    def _prefixes(self, found: Any) -> list[str]:
        names = [sensor["name"] for node in _nodes(found) for sensor in node["sensors"]]
        return sorted(
            {
                name.removesuffix(sensor)
                for name in names
                for sensor in self.sensors
                if name == sensor or name.endswith(f"_{sensor}")
            }
        )

    def _runs(self, found: Any, prefixes: Sequence[str]) -> list[Condition]:
        there = {job["name"] for node in _nodes(found) for job in node["jobs"]}
        asked = [
            (prefix + job, job) for prefix in prefixes for job in self.jobs if prefix + job in there
        ]
        if not asked:
            return []
        answer = self._ask(runs_query([name for name, _ in asked]))
        told, reasons = [], {}
        for at, (name, job) in enumerate(asked):
            for run in _newest_of_each_lane(answer[f"job{at}"].get("results", [])):
                if run["status"] == "FAILURE":
                    known = self._reasons.get(run["runId"])
                    reasons[run["runId"]] = known or self._why_failed(run["runId"])
                told.append(_of_run(run, name, job, reasons.get(run["runId"], ("", ""))))
        self._reasons = reasons
        return [item for item in told if item is not None]

    def _why_failed(self, run_id: str) -> tuple[str, str]:
        """The error of the first step that failed, and the server that was away, or Dagster's."""
        ended, cursor = "", None
        for _ in range(_MOST_PAGES):
            page = self._ask(log_query(run_id, cursor))["runOrError"]["eventConnection"]
            for event in page["events"]:
                if event["__typename"] == "ExecutionStepFailureEvent":
                    return _why_step_failed(event)
                if event["__typename"] == "RunFailureEvent":
                    ended = " ".join(event["message"].split())
            if not page["hasMore"]:
                break
            cursor = page["cursor"]
        return ended or "its log does not say why", ""


def runs_query(jobs: Sequence[str]) -> str:
    """The newest runs of these jobs that have ended, as `job0`, `job1` and so on."""
    parts = (
        f"job{at}: runsOrError(limit: {_RUNS_OF_LANES}, filter: {{ pipelineName: "
        f"{json.dumps(name)}, statuses: [SUCCESS, FAILURE] }}) {{ ... on Runs {{ results {{ "
        "runId status tags { key value } } } }"
        for at, name in enumerate(jobs)
    )
    return f"{{ {' '.join(parts)} }}"


def log_query(run_id: str, cursor: str | None) -> str:
    """A page of a run's log: what it says of failures."""
    return (
        f"{{ runOrError(runId: {json.dumps(run_id)}) {{ ... on Run {{ eventConnection("
        f"afterCursor: {json.dumps(cursor)}) {{ cursor hasMore events {{ __typename "
        "... on RunFailureEvent { message } "
        "... on ExecutionStepFailureEvent { error { message causes { message } } "
        "failureMetadata { description metadataEntries { label "
        "... on TextMetadataEntry { text } } } } } } } } }"
    )


def _nodes(found: Any) -> Any:
    return found["repositoriesOrError"].get("nodes", [])


def _newest_of_each_lane(runs: Any) -> list[Any]:
    newest: dict[str, Any] = {}
    for run in runs:
        newest.setdefault(_lane_of(run), run)
    return list(newest.values())


def _tags_of(run: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def _lane_of(run: Any) -> str:
    """What lanes of one topic add to its name; empty: the whole topic is one lane."""
    tag = _tags_of(run).get(LANE, "")
    return tag if _PART_OF_A_TOPIC.search(tag) else ""


def _of_run(run: Any, called: str, job: str, reason: tuple[str, str]) -> Condition | None:
    lane = _lane_of(run) if job == INGEST else ""
    name = f"{called} {lane}" if lane else called
    if run["status"] == "SUCCESS":
        return run_succeeded(run["runId"], name)
    is_asked_again = job == INGEST or BY_SENSOR in _tags_of(run)
    return run_failed(run["runId"], name, *reason, is_asked_again=is_asked_again)


def _why_step_failed(event: Any) -> tuple[str, str]:
    ours = event["failureMetadata"]
    if ours is not None:
        said = " ".join((ours["description"] or "").split())
        away = [e["text"] for e in ours["metadataEntries"] if e["label"] == SERVER_AWAY]
        return said, away[0] if away else ""
    return _innermost(event["error"]), ""


def _innermost(error: Any) -> str:
    error = error or {"message": "no error was kept", "causes": []}
    return " ".join([error, *error["causes"]][-1]["message"].split())


def _daemons(found: Any, now: float) -> Iterator[Condition]:
    for daemon in found["instance"]["daemonHealth"]["allDaemonStatuses"]:
        if not daemon["required"]:
            continue
        name, level, said = daemon["daemonType"], Level.GREEN, "Its heart beats."
        if not daemon["healthy"]:
            level = Level.ERROR
            at = daemon["lastHeartbeatTime"]
            since = f"for {in_words(now - at)}" if at else "since the instance was made"
            said = f"Dagster's daemon {name} has had no heartbeat {since}."
            errors = [error["message"] for error in daemon["lastHeartbeatErrors"]]
            said += f" Its last error: {' '.join(errors[0].split())}" if errors else ""
        yield Condition(DAEMON_STOPPED, level, said, name, path="/deployment/daemons")


def _sensors(found: Any, names: Collection[str], now: float) -> Iterator[Condition]:
    for sensor in (one for node in _nodes(found) for one in node["sensors"]):
        state = sensor["sensorState"]
        if sensor["name"] not in names or state["status"] != "RUNNING" or not state["ticks"]:
            continue
        ticks = state["ticks"]
        ended = next((tick for tick in ticks if tick["status"] != "STARTED"), ticks[0])
        level, said = Level.GREEN, "It ticks."
        age = now - max(tick["timestamp"] for tick in ticks)
        if age > _SILENT_SECONDS:
            level, said = Level.ERROR, f"It is on, and did not tick for {in_words(age)}."
        elif ended["status"] == "FAILURE":
            level, said = Level.ERROR, f"Its last tick failed: {_innermost(ended['error'])}"
        yield Condition(SENSOR_STOPPED, level, said, sensor["name"], path="/automation")
