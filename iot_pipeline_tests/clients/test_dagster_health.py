"""Dagster's signs of life as its webserver tells them, and what is red of them.

That a living Dagster is green is seen on a real one: `defs/test_follow_dev.py`.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from dagster_graphql.schema import create_schema
from graphql import parse, validate

from iot_pipeline.clients import dagster_health
from iot_pipeline.clients.dagster_health import DagsterHealth, log_query, runs_query
from iot_pipeline.core.alerts.conditions import Level
from iot_pipeline_tests.servers import free_ports

NOW = 1_000_000.0


def look(answers: Any, status: int = 200, looks: int = 1) -> dict[str, tuple[Level, str]]:
    """What the last of some looks finds; `answers` is one to everything, or by what is asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            asked.append(json.loads(self.rfile.read(size))["query"])
            chosen = answers
            if isinstance(answers, list):
                chosen = next(answer for part, answer in answers if part in asked[-1])
            body = json.dumps(chosen).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        health = DagsterHealth(url, ["iot_data_lag", "iot_alerts"], ["ingest", "audit"])
        for _ in range(looks):
            found = health.look(NOW)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    logs = [query for query in asked if "eventConnection" in query]
    assert len(logs) == len(set(logs)), "a run's log is read once"
    return {item.subject: (item.level, item.sentence) for item in found}


def daemon(name: str, healthy: bool, at: float | None, *errors: str) -> dict[str, Any]:
    return {
        "daemonType": name,
        "required": True,
        "healthy": healthy,
        "lastHeartbeatTime": at,
        "lastHeartbeatErrors": [{"message": error} for error in errors],
    }


def sensor(name: str, status: str, *ticks: tuple[float, str]) -> dict[str, Any]:
    error = {"message": "outer", "causes": [{"message": "the topic\n is another one"}]}
    listed = [{"timestamp": at, "status": how, "error": error} for at, how in ticks]
    return {"name": name, "sensorState": {"status": status, "ticks": listed}}


def test_what_is_silent_or_fails_is_red_and_what_is_off_says_nothing() -> None:
    sensors = [
        sensor("iot_data_lag", "RUNNING", (NOW - 5, "STARTED"), (NOW - 10, "FAILURE")),
        sensor("iot_alerts", "RUNNING", (NOW - 600, "SKIPPED")),
        sensor("of_another_team", "RUNNING", (NOW - 600, "SKIPPED")),
    ]
    daemons = [
        daemon("SENSOR", False, NOW - 120, "it ran\n out of memory"),
        daemon("SCHEDULER", False, None),
        daemon("ASSET", True, NOW),
        {**daemon("BACKFILL", False, None), "required": False},
    ]
    found = look(
        {
            "data": {
                "instance": {"daemonHealth": {"allDaemonStatuses": daemons}},
                "repositoriesOrError": {"nodes": [{"jobs": [], "sensors": sensors}]},
            }
        }
    )
    assert {name: level for name, (level, _) in found.items()} == {
        "daemon_stopped/webserver": Level.GREEN,
        "daemon_stopped/SENSOR": Level.ERROR,
        "daemon_stopped/SCHEDULER": Level.ERROR,
        "daemon_stopped/ASSET": Level.GREEN,
        "sensor_stopped/iot_data_lag": Level.ERROR,
        "sensor_stopped/iot_alerts": Level.ERROR,
    }
    assert (
        "no heartbeat for 2 min. Its last error: it ran out of memory"
        in found["daemon_stopped/SENSOR"][1]
    )
    assert found["sensor_stopped/iot_data_lag"][1].endswith("failed: the topic is another one")
    assert "did not tick for 10 min" in found["sensor_stopped/iot_alerts"][1]
    off = [sensor("iot_data_lag", "STOPPED", (NOW - 9_000, "SKIPPED"))]
    found = look(
        {
            "data": {
                "instance": {"daemonHealth": {"allDaemonStatuses": []}},
                "repositoriesOrError": {"nodes": [{"jobs": [], "sensors": off}]},
            }
        }
    )
    assert list(found) == ["daemon_stopped/webserver"]


def test_the_question_is_one_that_this_version_of_dagster_understands() -> None:
    schema = create_schema().graphql_schema
    for query in (
        dagster_health._QUERY,
        runs_query(["ingest", 'a "name"']),
        log_query("run", None),
        log_query("run", "cursor"),
    ):
        assert validate(schema, parse(query)) == []


def run(run_id: str, status: str, **tags: str) -> dict[str, Any]:
    listed = [{"key": key.replace("__", "/"), "value": value} for key, value in tags.items()]
    return {"runId": run_id, "status": status, "tags": listed}


def log_of(*events: dict[str, Any]) -> dict[str, Any]:
    page = {"events": events, "hasMore": False, "cursor": "c"}
    return {"data": {"runOrError": {"eventConnection": page}}}


def test_failed_runs_of_every_pipeline_are_red_until_one_succeeds() -> None:
    jobs = [{"name": name} for name in ("ingest", "audit", "pumps_ingest", "pumps_audit", "team")]
    node = {
        "jobs": jobs,
        "sensors": [
            sensor("iot_data_lag", "STOPPED"),
            sensor("iot_alerts", "STOPPED"),
            sensor("pumps_iot_data_lag", "RUNNING", (NOW - 900, "SKIPPED")),
            sensor("fans_iot_alerts", "RUNNING", (NOW - 5, "SKIPPED")),
        ],
    }
    first = {
        "data": {
            "instance": {"daemonHealth": {"allDaemonStatuses": []}},
            "repositoriesOrError": {
                "nodes": [node, {"jobs": [{"name": "fans_audit"}], **{"sensors": []}}]
            },
        }
    }
    # In the order of the pipelines and of the jobs: ingest, audit, pumps_ingest, pumps_audit.
    runs = [
        [
            run("a1", "FAILURE", iot__lane="iot_data/1-of-2"),
            run("a2", "SUCCESS", iot__lane="iot_data/2-of-2"),
            run("a3", "SUCCESS", iot__lane="iot_data/1-of-2"),
        ],
        [run("b1", "SUCCESS"), run("b2", "FAILURE")],
        [run("c1", "FAILURE", iot__lane="pumps/iot_data")],
        [run("d1", "FAILURE")],
    ]
    results = {f"job{at}": {"results": found} for at, found in enumerate(runs)}
    ours = {"description": "rows\n are lost", "metadataEntries": []}
    away = {
        "description": "no node",
        "metadataEntries": [{"label": "server_away", "text": "Kafka"}],
    }
    error = {"message": "outer", "causes": [{"message": "the disk is full"}]}
    step = {"__typename": "ExecutionStepFailureEvent", "error": error}
    answers = [
        ("daemonHealth", first),
        ("job0: ", {"data": results}),
        ('"a1"', log_of({"__typename": "LogMessageEvent"}, {**step, "failureMetadata": None})),
        ('"c1"', log_of({**step, "failureMetadata": away})),
        ('"d1"', log_of({**step, "failureMetadata": ours})),
    ]
    found = look(answers, looks=2)
    assert found.pop("daemon_stopped/webserver")[0] is Level.GREEN
    assert found.pop("sensor_stopped/pumps_iot_data_lag")[0] is Level.ERROR
    assert found.pop("sensor_stopped/fans_iot_alerts")[0] is Level.GREEN
    assert found == {
        "run_failed/ingest iot_data/1-of-2": (Level.ERROR, "Run a1 failed: the disk is full"),
        "run_failed/ingest iot_data/2-of-2": (Level.GREEN, "Run a2 succeeded."),
        "run_failed/audit": (Level.GREEN, "Run b1 succeeded."),
        # That of pumps_ingest failed with Kafka, and is asked for again.
        "run_failed/pumps_audit": (Level.ERROR, "Run d1 failed: rows are lost"),
    }


def test_a_webserver_that_is_away_or_answers_something_else_is_red() -> None:
    (port,) = free_ports(1)
    (gone,) = DagsterHealth(f"http://127.0.0.1:{port}", [], []).look()
    assert gone.level is Level.ERROR
    assert "refused" in gone.sentence
    for answer, status in (({}, 502), ({"errors": []}, 200)):
        assert look(answer, status)["daemon_stopped/webserver"][0] is Level.ERROR
