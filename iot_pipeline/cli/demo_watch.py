"""Looks at a running demo every few seconds and says what changed, until Dagster ends or Ctrl-C."""

import contextlib
import http.client
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from iot_pipeline.artifacts import kept
from iot_pipeline.cli import output
from iot_pipeline.cli.demo_news import CheckSeen, Look, RunSeen, tell_changes
from iot_pipeline.cli.main import EXIT_TRANSIENT
from iot_pipeline.core.checks.verdicts import COULD_NOT_LOOK
from iot_pipeline.core.words import as_written
from iot_pipeline.errors import ServiceError
from iot_pipeline.local.dagster_ui import DagsterUi
from iot_pipeline.local.processes import Child
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings

ASSET = ("iot", "sensor_data")
_LOOK_SECONDS = 3.0
# A fleet that ends again and again, for a reason that no server is, is started less and less often.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 60.0
# Dagster on a busy machine may be slow; only a process that has ended is gone.
_NO_ANSWER = (OSError, http.client.HTTPException, ServiceError)
_FIRST_ROW = re.compile(r"\A.*\n.*\n\| `+ ?(.*?) ?`+ \|")


class DagsterEndedError(ServiceError):
    """Dagster's process ended under the demo; what else it started goes on."""


@dataclass(slots=True)
class Watch:
    """What is looked at, and what was told already.

    Told are the runs of `sensor`, but those that were over before this demo (`earlier`).
    `start_fleet` starts another one when this one gave up because a server was away.
    """

    settings: Settings
    ui: DagsterUi
    dagster: Child
    fleet: Child
    services: LocalServices
    sensor: str
    earlier: Collection[str]
    start_fleet: Callable[[], Child]
    began_at: float = field(default_factory=time.time)
    seen: Look = field(default_factory=Look)
    loaded_first_day: date = field(default_factory=lambda: datetime.now(UTC).date())
    clock: Callable[[], float] = time.monotonic
    _pause_seconds: float = _FIRST_PAUSE_SECONDS
    _not_before: float = 0.0

    def until_it_ends(self) -> None:
        """Say what changes.

        Raises:
            DagsterEndedError: Dagster's process is gone.
        """
        first_day = kept.first_day(self.settings).read()
        self.loaded_first_day = first_day or self.loaded_first_day
        while True:
            if not self.dagster.is_alive:
                raise DagsterEndedError(
                    f"Dagster ended (exit code {self.dagster.process.poll()}; its log is "
                    f"{self.dagster.log}). Kafka and Cassandra keep running: `make demo` takes "
                    "them over and goes on, `iot down` stops them"
                )
            try:
                look = self.look().after(self.seen)
                self._begin_earlier()
            except _NO_ANSWER:
                # Dagster is starting, stopping or busy; the next look tells which.
                time.sleep(_LOOK_SECONDS)
                continue
            for line in tell_changes(self.seen, look, iot_command()):
                say(line)
            self.seen = look
            self.send_again(look)
            time.sleep(_LOOK_SECONDS)

    def send_again(self, look: Look) -> None:
        """Start the fleet anew, if it gave up while a server was away and all answer again."""
        gave_up = not self.fleet.is_alive and self.fleet.process.poll() == EXIT_TRANSIENT
        if not all(look.servers.values()):
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        elif gave_up and self.clock() >= self._not_before:
            self.fleet = self.start_fleet()
            self._not_before = self.clock() + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
            # What it ends with next is news.
            self.seen = replace(self.seen, fleet_end="")
            say("the fleet is started again")

    def until_judged(self, seconds: float) -> str:
        """Until a run has ended that stored readings, and all checks passed; says so.

        Raises:
            ServiceError: a run failed, a check is red, the fleet ended, or nothing came in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(1)
            look = self.look()
            if look.fleet_end:
                raise ServiceError(f"the fleet ended too soon:\n{look.fleet_end}")
            over = [run for run in look.runs.values() if run.is_over]
            for run in over:
                if run.status != "SUCCESS":
                    raise ServiceError(f"run {run.run_id} ended as {run.status}: {self.ui.address}")
            # A verdict is missing for a moment, until it is the newest materialization's.
            is_seen = len(look.checks) + len(look.unlooked) == look.check_count > 0
            if not (over and look.stored and is_seen):
                continue
            red = {name: check.sentence for name, check in look.checks.items() if not check.passed}
            told = "; ".join(f"{name}: {why}" for name, why in {**red, **look.unlooked}.items())
            if told:
                raise ServiceError(f"run {over[-1].run_id}: {told}")
            return (
                f"run {over[-1].run_id[:8]} stored {look.stored:,} readings, all "
                f"{look.check_count} checks passed: {', '.join(sorted(look.checks))}"
            )
        raise ServiceError(f"no run of {self.sensor} stored readings within {seconds:g} s")

    def look(self) -> Look:
        runs, asset = self.ui.look(self.sensor, ASSET)
        # A run that stays materializes once and then observes.
        reports = asset.get("assetMaterializations", []) + asset.get("assetObservations", [])
        newest = max(reports, key=lambda report: float(report["timestamp"]), default=None)
        # What a demo before this one stored is no news.
        is_news = newest is not None and float(newest["timestamp"]) / 1000 > self.began_at
        numbers = {} if newest is None else _numbers(newest["metadataEntries"])
        known = asset.get("assetChecksOrError", {}).get("checks", [])
        checks = {
            check["name"]: CheckSeen(
                evaluation["success"],
                as_written(evaluation["description"] or ""),
                worst_device(evaluation["metadataEntries"]),
            )
            for check in known
            # As the asset's page shows it; a check without one reads "Not Evaluated" there.
            for evaluation in [(check["executionForLatestMaterialization"] or {}).get("evaluation")]
            if evaluation
        }
        unlooked = {
            name: check.sentence.removeprefix(COULD_NOT_LOOK)
            for name, check in checks.items()
            if check.sentence.startswith(COULD_NOT_LOOK)
        }
        follow = {"key": "iot/mode", "value": "follow"}
        return Look(
            runs={
                run["runId"]: RunSeen(run["runId"], run["status"], follow in run["tags"])
                for run in reversed(runs)
                if run["runId"] not in self.earlier
            },
            checks={name: check for name, check in checks.items() if name not in unlooked},
            unlooked=unlooked,
            check_count=len(known),
            servers={status.name: status.is_answering for status in self.services.status()},
            stored=int(numbers.get("stored", 0)) if is_news else 0,
            latency_ms=numbers.get("latency_p50_ms"),
            fleet_end="" if self.fleet.is_alive else self.fleet.last_lines(3) or "without a word",
        )

    def _begin_earlier(self) -> None:
        """Load the definitions anew when readings came that are older than the partitions."""
        day = kept.first_day(self.settings).read()
        if day is None or day >= self.loaded_first_day:
            return
        self.ui.reload()
        self.loaded_first_day = day
        say(f"readings of {day} came: the rollups' partitions begin there now")


def _numbers(entries: Collection[Mapping[str, Any]]) -> dict[str, float]:
    found = {entry["label"]: entry.get("intValue", entry.get("floatValue")) for entry in entries}
    return {label: value for label, value in found.items() if value is not None}


def worst_device(entries: Collection[Mapping[str, Any]]) -> str:
    """The device in the first row of a verdict's table, or the first of its suspects; else ""."""
    by_label = {entry["label"]: entry for entry in entries}
    table = _FIRST_ROW.match(by_label.get("worst_devices", {}).get("mdStr") or "")
    if table:
        return table[1]
    suspects = json.loads(by_label.get("suspects", {}).get("jsonString") or "[]")
    return str(suspects[0]) if suspects else ""


def iot_command() -> str:
    """How a person in this folder calls the `iot` that runs here."""
    beside = Path(sys.executable).parent / "iot"
    on_path = shutil.which("iot")
    if on_path is not None and Path(on_path).samefile(beside if beside.exists() else on_path):
        return "iot"
    here = Path.cwd()
    return str(beside.relative_to(here)) if beside.is_relative_to(here) else str(beside)


def say(text: str) -> None:
    """One line, with its time in UTC; lost when the terminal or the pipe is gone."""
    tell(f"{datetime.now(UTC):%H:%M:%S} {text}")


def tell(text: str) -> None:
    """Text on stderr. A terminal or pipe that is gone must not keep the demo from stopping."""
    with contextlib.suppress(OSError):
        output.say(text, err=True)
