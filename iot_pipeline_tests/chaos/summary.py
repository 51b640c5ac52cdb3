"""What chaos tests said, at the end of the session: kills, records, the longest recovery, seeds.

`make test` has each fault once. What rounds of minutes and hours found (`make chaos`, `make soak`)
is kept by test file in `last_rounds.json`, in git, and each summary says how old it is.
"""

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

# Names of properties of a test's report.
SAID, TALLY, ROUND = "chaos_said", "chaos_tally", "chaos_round"
ROUNDS = Path(__file__).with_name("last_rounds.json")


def write_summary(reporter: pytest.TerminalReporter) -> None:
    """Write the section, if a chaos test ran; in a session of several processes too."""
    found = [
        told
        for reports in reporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for told in report.user_properties
    ]
    lines = [str(value) for name, value in found if name == SAID]
    tallies = [value for name, value in found if name == TALLY]
    if not lines and not tallies:
        return
    reporter.section("chaos")
    for line in lines:
        reporter.write_line(line)
    rounds = rounds_of(reporter.stats, _commit(), datetime.now(UTC).date().isoformat())
    if rounds:
        keep_rounds(ROUNDS, rounds)
    for line in say_rounds(ROUNDS):
        reporter.write_line(line)
    if tallies:
        processes, servers, records, recoveries = zip(*tallies, strict=True)
        reporter.write_line(
            f"in all: {sum(processes) + sum(servers)} kills ({sum(processes)} of processes, "
            f"{sum(servers)} of servers), {sum(records):,} records acknowledged, longest recovery "
            f"{max(recoveries):.1f} s"
        )


def rounds_of(
    stats: Mapping[str, list[Any]], commit: str, day: str
) -> dict[str, dict[str, object]]:
    """By test file: what its rounds in this session were; none where nothing ran for minutes."""
    found: dict[str, dict[str, object]] = {}
    bad = {report.nodeid for key in ("failed", "error") for report in stats.get(key, ())}
    for report in (report for reports in stats.values() for report in reports):
        told = dict(getattr(report, "user_properties", ()))
        if getattr(report, "when", "") != "teardown" or ROUND not in told:
            continue
        file = Path(report.nodeid.partition("::")[0]).name
        last = found.setdefault(file, {"day": day, "commit": commit, **told[ROUND], "kills": 0})
        processes, servers, *_ = told.get(TALLY, (0, 0))
        last["kills"] = int(str(last["kills"])) + processes + servers
        last["passed"] = bool(last.get("passed", True)) and report.nodeid not in bad
    return found


def keep_rounds(path: Path, rounds: Mapping[str, object]) -> None:
    """Put them in the place of earlier ones of the same files."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(before | rounds, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def say_rounds(path: Path) -> list[str]:
    """A line for each file: when its rounds ran last, and what came of them."""
    if not path.exists():
        return ["`make chaos`: no round has been kept yet"]
    return [
        f"`make chaos` ran {file} last on {last['day']} (commit {last['commit']}, seed "
        f"{last['seed']}, {last['minutes']:g} minutes, {last['kills']} kills): "
        + ("passed" if last["passed"] else "FAILED")
        for file, last in json.loads(path.read_text(encoding="utf-8")).items()
    ]


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROUNDS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"
