"""Dagster's signs of life, asked from outside: its webserver's GraphQL, nothing of its Python."""

import http.client
import json
import time
import urllib.request
from collections.abc import Collection, Iterator
from typing import Any

from iot_pipeline.core.alerts.conditions import (
    DAEMON_STOPPED,
    SENSOR_STOPPED,
    Condition,
    Level,
)
from iot_pipeline.core.times import in_words

_TIMEOUT_SECONDS = 5.0
# Every daemon beats twice a minute, every sensor of ours ticks every few seconds.
_SILENT_SECONDS = 300.0
_WEBSERVER = "webserver"
# With this the ticks are the sensor's; without it those of the code server that first ran it, so
# a restarted one seems never to tick (Dagster 1.13).
_QUERY = """{ instance { daemonHealth { allDaemonStatuses {
    daemonType required healthy lastHeartbeatTime lastHeartbeatErrors { message } } } }
  repositoriesOrError { __typename ... on RepositoryConnection { nodes { sensors { name
    sensorState { status ticks(limit: 2, afterTimestamp: 1.0) {
      timestamp status error { message causes { message } } }
  } } } } } }"""


def look_at_dagster(
    ui_url: str, sensors: Collection[str], now: float | None = None
) -> list[Condition]:
    """Whether the webserver answers, each daemon's heart beats, and these sensors tick.

    A sensor that is off says nothing: a person switched it off.
    """
    moment = time.time() if now is None else now
    try:
        found = _ask(ui_url)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
        reason = getattr(exc, "reason", None) or exc
        said = f"Dagster's webserver at {ui_url} did not answer: {reason}."
        return [Condition(DAEMON_STOPPED, Level.ERROR, said, _WEBSERVER)]
    answers = Condition(DAEMON_STOPPED, Level.GREEN, "It answers.", _WEBSERVER)
    return [answers, *_daemons(found, moment), *_sensors(found, sensors, moment)]


def _ask(ui_url: str) -> Any:
    request = urllib.request.Request(
        f"{ui_url.rstrip('/')}/graphql",
        json.dumps({"query": _QUERY}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
        return json.load(answer)["data"]


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
    nodes = found["repositoriesOrError"].get("nodes", [])
    for sensor in (one for node in nodes for one in node["sensors"]):
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
            error = ended["error"] or {"message": "no error was kept", "causes": []}
            innermost = [error, *error["causes"]][-1]["message"]
            level, said = Level.ERROR, f"Its last tick failed: {' '.join(innermost.split())}"
        yield Condition(SENSOR_STOPPED, level, said, sensor["name"], path="/automation")
