"""Our drain as `iot drain` runs it, saying when how many rows were safe; `--profile` says where.

The profile is cProfile's: it makes cheap functions look dear, so its run is never counted.
"""

import argparse
import cProfile
import json
import os
import pstats
import time
from typing import Any

from benchmarks.marks import cpu_seconds, peak_rss_mb
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import ingest_request, open_connections
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.run_ingest import IngestOutcome, Watcher, new_outcome, run_ingest

_MOST_LINES = 14


class Marks(Watcher):
    """Notes when how many rows were safe."""

    def __init__(self, marks: list[tuple[float, int]]) -> None:
        self._marks, self._began = marks, 0.0

    def planned(self, plan: Plan) -> None:
        """The clock begins with the drain."""
        self._began = time.monotonic()

    def committed(self, outcome: IngestOutcome) -> None:
        """Note it."""
        self._marks.append((time.monotonic() - self._began, outcome.drained.total.stored))


def drain_with_marks(
    partitions: set[int] | None, profile: cProfile.Profile | None
) -> dict[str, Any]:
    """Drain what lags; stored, seconds, micro_batches and marks."""
    settings = Settings.from_env()
    marks: list[tuple[float, int]] = []
    with open_connections(settings) as connections:
        outcome, cpu = new_outcome(connections), cpu_seconds()
        request = ingest_request(settings, new_cli_run(), partitions=partitions)
        if profile is not None:
            profile.enable()
        run_ingest(request, connections, outcome=outcome, watcher=Marks(marks))
        if profile is not None:
            profile.disable()
        cpu, done = cpu_seconds() - cpu, outcome.drained
    return {
        "stored": done.total.stored,
        "seconds": done.seconds,
        "cpu_seconds": cpu,
        "peak_rss_mb": peak_rss_mb(),
        "micro_batches": done.micro_batches,
        "split_ms": done.split_ms,
        "marks": marks,
    }


def lines_of(profile: cProfile.Profile, rows: int) -> list[tuple[str, float, float]]:
    """(function, calls per 1,000 rows, µs of its own per row), the dearest first."""
    found = []
    # pstats keeps (calls, primitive calls, own seconds, seconds with callees, callers).
    for (file, _, name), (calls, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        where = f"{os.path.basename(file)}: {name}" if file not in ("~", "") else name
        found.append((where, 1000 * calls / rows, 1e6 * own / rows))
    return sorted(found, key=lambda line: -line[2])[:_MOST_LINES]


def main() -> None:
    """Run it as a program; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=lambda text: {int(part) for part in text.split(",")})
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    profile = cProfile.Profile() if given.profile else None
    said = drain_with_marks(given.partitions, profile)
    if profile is not None:
        said["profile"] = lines_of(profile, said["stored"])
    print(json.dumps(said))


if __name__ == "__main__":
    main()
