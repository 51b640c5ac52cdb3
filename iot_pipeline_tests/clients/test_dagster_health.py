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
from iot_pipeline.clients.dagster_health import look_at_dagster
from iot_pipeline.core.alerts.conditions import Level
from iot_pipeline_tests.servers import free_ports

NOW = 1_000_000.0


def look(answer: Any, status: int = 200) -> dict[str, tuple[Level, str]]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        found = look_at_dagster(url, ["iot_data_lag", "iot_alerts"], NOW)
    finally:
        thread.join()
        server.server_close()
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
                "repositoriesOrError": {"nodes": [{"sensors": sensors}]},
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
                "repositoriesOrError": {"nodes": [{"sensors": off}]},
            }
        }
    )
    assert list(found) == ["daemon_stopped/webserver"]


def test_the_question_is_one_that_this_version_of_dagster_understands() -> None:
    assert validate(create_schema().graphql_schema, parse(dagster_health._QUERY)) == []


def test_a_webserver_that_is_away_or_answers_something_else_is_red() -> None:
    (port,) = free_ports(1)
    (gone,) = look_at_dagster(f"http://127.0.0.1:{port}", [])
    assert gone.level is Level.ERROR
    assert "refused" in gone.sentence
    for answer, status in (({}, 502), ({"errors": []}, 200)):
        assert look(answer, status)["daemon_stopped/webserver"][0] is Level.ERROR
