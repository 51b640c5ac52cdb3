"""What checks cost with a long past: `python -m benchmarks.checks_at_scale`.

Starts servers of its own and gives them a year of ledger (folded days, and a day of runs every
five seconds), 100,000 Cassandra partitions (devices times days), and one run of 200,000 rows. Then
it times a plan, what a sensor tick asks, and each check as the run brings it with it, and says
what share of the run's time they took together. Verdicts are printed too: a fast wrong answer is
a failure.
"""

import argparse
import json
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from iot_pipeline.connections import Connections, drain_config, open_connections
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.facts import (
    LEAST_BUDGET_SECONDS,
    RUN_SHARE,
    Facts,
    RunFacts,
)
from iot_pipeline.stages.checks.machinery.registry import checks_of, look_at
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.lag import read_lag
from iot_pipeline.stages.ingest.planning import make_plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ledger.chain import read_chain, walk_chain
from iot_pipeline.stages.ledger.sums import keep_sums
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.long_history import entries_until, write_ledger, write_rows
from iot_pipeline_tests.servers import start_services

_RUNS_A_DAY = 17_280
_ON_DEVICES = {
    "clocks_are_right",
    "devices_are_reporting",
    "no_stuck_sensors",
    "readings_are_complete",
    "readings_are_on_time",
    "values_are_plausible",
}
_T = TypeVar("_T")


def main() -> None:
    """Prepare, measure, print; exit 1 when a check is red."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=364, help="folded ledger entries")
    parser.add_argument("--runs", type=int, default=_RUNS_A_DAY, help="entries of the last day")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--days-of-rows", type=int, default=100)
    parser.add_argument("--rows", type=int, default=200_000, help="of the run that is checked")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iot-checks-") as folder:
        services = start_services(Path(folder) / "data")
        try:
            settings = Settings.from_env(services.environment(IOT_DATA_DIR=folder))
            with open_connections(settings) as connections:
                connections.set_up()
                _make_past(connections, given)
                found, is_red = _measure(connections, given.rows)
        finally:
            services.stop()
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    raise SystemExit(1 if is_red else 0)


def _make_past(connections: Connections, given: argparse.Namespace) -> None:
    settings, now = connections.settings, datetime.now(UTC)
    began = time.monotonic()
    entries = [
        entry
        for partition in range(settings.partitions)
        for entry in entries_until(
            settings.topic,
            partition,
            now,
            folded_days=given.days,
            runs=given.runs,
            span=1,
        )
    ]
    days = [now.date() - timedelta(days=1 + back) for back in range(given.days_of_rows)]
    write_rows(connections.cassandra, days, given.devices)
    write_ledger(connections.cassandra, connections.log.topic_id(settings.topic), entries)
    for partition in range(settings.partitions):
        end = max(entry.end_offset for entry in entries if entry.partition == partition)
        messages = ((key, b"x") for key, _ in fleet("p", 3, end))
        produce(settings.bootstrap_servers, settings.topic, messages, partition=partition)
    print(
        f"a past of {len(entries):,} ledger entries and {given.devices * len(days):,} Cassandra "
        f"partitions, in {time.monotonic() - began:.0f} s",
        flush=True,
    )


def _measure(connections: Connections, rows: int) -> tuple[dict[str, float], bool]:
    settings, ledger, log = connections.settings, connections.ledger, connections.log
    topic = settings.topic
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], _T]) -> _T:
        began = time.monotonic()
        result = work()
        found[name] = round(time.monotonic() - began, 3)
        return result

    timed("plan, first", lambda: make_plan(log, ledger, topic))
    timed("plan", lambda: make_plan(log, ledger, topic))
    # As the check on its own leaves them every five minutes; a run never makes the first ones.
    timed(
        "sums made",
        lambda: keep_sums(
            connections.ledger, connections.ledger_sums, topic, range(settings.partitions)
        ),
    )
    produce(settings.bootstrap_servers, topic, fleet("run", 200, rows))
    plan = make_plan(log, ledger, topic)
    run, progress, started_at = (
        Run("benchmark", uuid.uuid4()),
        DrainProgress(plan.ingest),
        datetime.now(UTC),
    )
    drain(
        plan,
        connections.ports,
        run,
        drain_config(settings),
        progress=progress,
    )
    timed("lag", lambda: read_lag(log, ledger, topic, datetime.now(UTC)))
    days = set(progress.total.stored_by_day)
    facts = RunFacts(run.run_id, progress, progress.ranges, days, (), started_at, plan.topic)
    verdicts = look_at(checks_of(), Facts(connections, datetime.now(UTC), facts))
    is_red = progress.total.stored != rows
    began = time.monotonic()
    for verdict in verdicts:
        found[verdict.name] = round(time.monotonic() - began, 3)
        # A past written in one go says nothing good of its devices.
        is_red |= not verdict.passed and verdict.name not in _ON_DEVICES
        print(f"{found[verdict.name]:8.3f} s  {verdict.name}: {verdict.sentence}", flush=True)
        began = time.monotonic()
    checks = sum(found[name] for name in found if "_" in name)
    found["run"] = round(progress.seconds, 3)
    found["checks together"] = round(checks, 3)
    allowed = max(LEAST_BUDGET_SECONDS, RUN_SHARE * progress.seconds)
    for name in ("plan, first", "plan", "sums made", "lag", "run"):
        print(f"{found[name]:8.3f} s  {name}")
    print(
        f"{checks:8.3f} s  checks together, {allowed:.3f} s allowed for a run of "
        f"{progress.seconds:.1f} s and {rows:,} rows",
        flush=True,
    )
    parts = range(settings.partitions)
    walk = timed("walk", lambda: walk_chain(ledger, topic, parts))
    print(f"{found['walk']:8.3f} s  the whole ledger walked, {len(walk.entries):,} entries")
    chain = timed("whole chain", lambda: read_chain(ledger, topic, parts))
    print(f"{found['whole chain']:8.3f} s  the whole ledger read, {len(chain.entries):,} entries")
    return found, is_red


if __name__ == "__main__":
    main()
