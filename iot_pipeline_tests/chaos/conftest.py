"""Servers that chaos tests may kill, the seed, and what is said at the end."""

import os
import random
from collections.abc import Iterator

import pytest

from iot_pipeline_tests.chaos.summary import ROUND, SAID, TALLY
from iot_pipeline_tests.servers import OwnServices, start_services

CHAOS_MINUTES = float(os.environ.get("IOT_CHAOS_MINUTES", "1.5"))
# Less than that is no round.
LEAST_CHAOS_MINUTES = 5

# What the test under way has said; it travels with the test's report, so that the summary is whole
# whichever process ran the test.
_said: list[tuple[str, object]] = []


@pytest.fixture(scope="package")
def chaos_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServices]:
    """For tests that kill them, as shipped: the commit log is synced in groups."""
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
    if CHAOS_MINUTES < LEAST_CHAOS_MINUTES:
        say("Dagster's own deaths: not in so short a time; `make chaos` has them")
    return chosen


def say(line: str) -> None:
    """A line of the summary at the end of the session."""
    _said.append((SAID, line))


def tally(processes: int, servers: int, records: int, longest_recovery: float) -> None:
    """Kills of processes and of servers, records acknowledged, and seconds, of one test."""
    _said.append((TALLY, [processes, servers, records, longest_recovery]))


@pytest.fixture(autouse=True)
def _is_a_round(request: pytest.FixtureRequest) -> None:
    if CHAOS_MINUTES >= LEAST_CHAOS_MINUTES and request.node.get_closest_marker("chaos"):
        seed = request.getfixturevalue("seed")
        _said.append((ROUND, {"seed": seed, "minutes": CHAOS_MINUTES}))


@pytest.fixture(autouse=True)
def _is_told(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    request.node.user_properties += _said
    _said.clear()
