"""Servers that chaos tests may kill, the seed, and what is said at the end."""

import os
import random
from collections.abc import Iterator

import pytest

from iot_pipeline_tests.servers import OwnServices, start_services

CHAOS_MINUTES = float(os.environ.get("IOT_CHAOS_MINUTES", "1.5"))

_said: list[str] = []
_totals = {"processes": 0, "servers": 0, "records": 0}
_recoveries = [0.0]


@pytest.fixture(scope="session")
def chaos_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServices]:
    """A set of the chaos suite's own, as shipped: the commit log is synced in groups."""
    started = start_services(tmp_path_factory.mktemp("chaos"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def seed() -> int:
    """IOT_CHAOS_SEED, or a new one; printed either way, at once and at the end."""
    given = os.environ.get("IOT_CHAOS_SEED", "")
    chosen = int(given) if given else random.SystemRandom().randrange(1_000_000)
    print(f"chaos: seed {chosen} (IOT_CHAOS_SEED={chosen} chooses the same faults again)")
    say(f"seed {chosen} (IOT_CHAOS_SEED={chosen} chooses the same faults again)")
    return chosen


def say(line: str) -> None:
    """A line of the summary at the end of the session."""
    _said.append(line)


def tally(processes: int, servers: int, records: int, longest_recovery: float) -> None:
    """Kills of processes and of servers, records acknowledged, and seconds, of one test."""
    _totals["processes"] += processes
    _totals["servers"] += servers
    _totals["records"] += records
    _recoveries.append(longest_recovery)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _said:
        terminalreporter.section("chaos")
        for line in _said:
            terminalreporter.write_line(line)
        if any(_totals.values()):
            terminalreporter.write_line(
                f"in all: {_totals['processes'] + _totals['servers']} kills "
                f"({_totals['processes']} of processes, {_totals['servers']} of servers), "
                f"{_totals['records']:,} records acknowledged, longest recovery "
                f"{max(_recoveries):.1f} s"
            )
