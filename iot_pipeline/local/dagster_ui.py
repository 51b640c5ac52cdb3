"""A running `dagster dev`, asked over GraphQL; what is defined in Dagster is unknown here."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Literal

from iot_pipeline.errors import ServiceError
from iot_pipeline.local.processes import Child

_START_SECONDS = 120.0


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


class DagsterUi:
    """A running `dagster dev`, by its address."""

    def __init__(self, port: int, location: str) -> None:
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

    def start(self, kind: Literal["Sensor", "Schedule"], name: str) -> None:
        """Switch a sensor or a schedule on; one that is on stays on."""
        selector = {
            "repositoryLocationName": self._location,
            "repositoryName": "__repository__",
            f"{kind.lower()}Name": name,
        }
        query = _START.format(kind=kind, argument=kind.lower())
        answer = self.ask(query, selector=selector)[f"start{kind}"]
        if answer["__typename"] not in ("Sensor", "ScheduleStateResult"):
            raise ServiceError(f"starting {kind.lower()} {name}: {answer}")

    def reload(self) -> None:
        self.ask(_RELOAD, name=self._location)

    def end_runs(self, seconds: float = 30.0) -> None:
        """Terminate what runs, as its button does, so that no run ends as a failure.

        What is not over in time is left to the one that ends Dagster's processes.
        """
        deadline = time.monotonic() + seconds
        asked: set[str] = set()
        while time.monotonic() < deadline:
            alive = [run["runId"] for run in self.ask(_ALIVE)["runsOrError"].get("results", [])]
            if not alive:
                return
            if not asked.issuperset(alive):
                self.ask(_TERMINATE, ids=alive)
                asked.update(alive)
            time.sleep(0.2)

    def look(
        self, sensor: str, asset_key: Sequence[str], limit: int = 10
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What a person would see now; one question.

        Returns:
            The runs that the sensor asked for, newest first, and the asset, as `_LOOK` names them:
            an empty mapping, or nearly, where it is not loaded.
        """
        tags = [{"key": "dagster/sensor_name", "value": sensor}]
        answer = self.ask(_LOOK, filter={"tags": tags}, limit=limit, key={"path": list(asset_key)})
        return answer["runsOrError"].get("results", []), answer["assetNodeOrError"]


_LOCATION = """query($name: String!) { workspaceLocationEntryOrError(name: $name) { __typename
  ... on WorkspaceLocationEntry { locationOrLoadError { __typename
    ... on PythonError { message } } } } }"""
_START = """mutation($selector: {kind}Selector!) {{
  start{kind}({argument}Selector: $selector) {{ __typename
    ... on PythonError {{ message }} }} }}"""
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
        ... on MarkdownMetadataEntry { mdStr } ... on JsonMetadataEntry { jsonString } } } } } } }
  } } }"""
_ALIVE = """{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) {
  ... on Runs { results { runId } } } }"""
_TERMINATE = """mutation($ids: [String!]!) {
  terminateRuns(runIds: $ids, terminatePolicy: SAFE_TERMINATE) { __typename } }"""
_RELOAD = """mutation($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"""
