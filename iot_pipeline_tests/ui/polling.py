"""The checks of a running demo, looked at again and again, as a person's open page does."""

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from iot_pipeline_tests.patience import until
from iot_pipeline_tests.ui.browser import Ui
from iot_pipeline_tests.ui.running_demo import RunningDemo

# What the UI asks for its badges: without an execution for the latest materialization a check reads
# "Not Evaluated".
_CHECKS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetChecksOrError { ... on AssetChecks { checks { name
    executionForLatestMaterialization { status evaluation { severity description } } } } } } } }"""
_ENDED = """query { runsOrError(filter: {statuses: [SUCCESS], pipelineName: "ingest"}) {
  ... on Runs { results { runId } } } }"""
NOT_EVALUATED = "NOT EVALUATED"
_PAGE_SECONDS = 5.0
_SAMPLE_SECONDS = 1.0


@dataclass
class Polled:
    """What was seen: statuses sample by sample, and what the pages said."""

    samples: list[dict[str, str]] = field(default_factory=list)
    pages: int = 0
    hiding_pages: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[str]:
        return Counter(status for sample in self.samples for status in sample.values())

    def changes(self, name: str) -> int:
        """How often a check changed its status."""
        seen = [sample[name] for sample in self.samples]
        return sum(before != after for before, after in pairwise(seen))


def statuses(demo: RunningDemo) -> dict[str, str]:
    """By check: SUCCEEDED, FAILED, IN_PROGRESS, or NOT EVALUATED."""
    answer = demo.ask(_CHECKS, key={"path": ["iot", "sensor_data"]})
    checks = answer["assetNodeOrError"]["assetChecksOrError"]["checks"]
    return {
        check["name"]: (check["executionForLatestMaterialization"] or {"status": NOT_EVALUATED})[
            "status"
        ]
        for check in checks
    }


def _sample(demo: RunningDemo) -> dict[str, str]:
    """One look; where it shows no verdict, the look right after it.

    Dagster answers with two questions to its storage, rows of checks and the materialization: a
    run that writes both in between gives an answer that never was, gone with the next one.
    """
    seen = statuses(demo)
    return statuses(demo) if NOT_EVALUATED in seen.values() else seen


def wait_for_first_verdicts(demo: RunningDemo, seconds: float = 90) -> None:
    """Until every check has a verdict: from then on there is no reason to show none."""
    deadline = until(seconds)
    while NOT_EVALUATED in statuses(demo).values():
        assert time.monotonic() < deadline, demo.log_path.read_text()[-2000:]
        time.sleep(_SAMPLE_SECONDS)


def _ended(demo: RunningDemo) -> set[str]:
    return {str(run["runId"]) for run in demo.ask(_ENDED)["runsOrError"]["results"]}


def poll(ui: Ui, demo: RunningDemo, runs: int) -> Polled:
    """Ask every second what the UI would show, and read its pages every five.

    Until so many runs of ingestion have ended meanwhile.
    """
    polled = Polled()
    before, deadline = _ended(demo), until(60 * runs)
    read_at = 0.0
    while len(_ended(demo) - before) < runs:
        assert time.monotonic() < deadline, demo.log_path.read_text()[-2000:]
        polled.samples.append(_sample(demo))
        if time.monotonic() >= read_at:
            read_at = time.monotonic() + _PAGE_SECONDS
            for path in ("/assets/iot/sensor_data?view=checks", "/asset-groups"):
                ui.open(path)
                ui.page.get_by_text("sensor_data").first.wait_for()
                ui.page.wait_for_load_state("load")
                text = ui.text()
                polled.pages += 1
                none_passed = rf"(?<!\d)0 / {len(polled.samples[-1])}\b"
                if re.search(rf"Not [eE]valuated|{none_passed}", text):
                    polled.hiding_pages.append(text)
        time.sleep(_SAMPLE_SECONDS)
    return polled
