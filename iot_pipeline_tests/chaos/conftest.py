"""Servers that chaos tests may kill, the seed, and what is said at the end."""

import os
import random
from collections.abc import Iterator

import pytest

from iot_pipeline_tests.servers import OwnServices, start_services

_said: list[str] = []


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _said:
        terminalreporter.section("chaos")
        for line in _said:
            terminalreporter.write_line(line)
