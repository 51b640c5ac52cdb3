"""A web server for people who look: docs/security.md names its command and what it refuses."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline_tests.defs.dev_server import wait_for
from iot_pipeline_tests.servers import clean_environment, free_ports

# Dagster's own web server, and no code of ours: it answers within seconds.
pytestmark = pytest.mark.services

_ASKED = """query { permissions { permission value } }"""
_REFUSED = (
    'mutation { terminateRun(runId: "x") { __typename } }',
    """mutation { startSensor(sensorSelector: {repositoryLocationName: "iot_pipeline",
      repositoryName: "__repository__", sensorName: "iot_data_lag"}) { __typename } }""",
    """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "iot_pipeline",
      repositoryName: "__repository__", jobName: "replay"}, runConfigData: "{}"})
      { __typename } }""",
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    home, (port,) = prepare_instance(tmp_path / "home"), free_ports(1)
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "--read-only"]
    environment = clean_environment({"DAGSTER_HOME": str(home)})
    server = subprocess.Popen(
        [*command, "--empty-workspace", "-p", str(port)],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/graphql"

    def answers() -> str | None:
        assert server.poll() is None
        try:
            ask(url, _ASKED)
        except OSError:
            return None
        return url

    try:
        yield wait_for(answers, 120)
    finally:
        server.kill()
        server.wait(30)


def ask(url: str, query: str) -> dict[str, object]:
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, object] = json.load(answer)["data"]
    return found


def test_read_only_refuses_every_mutation_and_shows_the_rest(address: str) -> None:
    permissions = ask(address, _ASKED)["permissions"]
    assert isinstance(permissions, list)
    assert len(permissions) > 10
    assert [one["permission"] for one in permissions if one["value"]] == []
    for mutation in _REFUSED:
        (answer,) = ask(address, mutation).values()
        assert answer == {"__typename": "UnauthorizedError"}
    assert ask(address, "{ version }")["version"]
