"""Fixtures that tests of every layer share: real servers, names of one's own, settings.

The servers are the session's own, on free ports; `IOT_TEST_BOOTSTRAP_SERVERS` and
`IOT_TEST_CONTACT_POINTS` (with `IOT_TEST_CASSANDRA_PORT`) point the tests at others;
`IOT_TEST_CASSANDRA_VERSION=4.1` starts that Cassandra instead of the one that is shipped. What
cannot start is a failure with the server's last words, never a skip. Tests that kill servers do not
take these: they start a set of their own with `iot_pipeline_tests.servers.start_services`.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from iot_pipeline.connections import open_connections
from iot_pipeline.settings import Settings
from iot_pipeline.stages.requests import retry_transient
from iot_pipeline_tests.chaos.summary import write_summary
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import (
    NAMES,
    SCHEMA_IS_NOT_FLUSHED,
    Services,
    existing_services,
    fresh_keyspace,
    start_services,
)

# Their asserts are the tests' own: a failure shows both sides.
pytest.register_assert_rewrite(
    "iot_pipeline_tests.stages.contracts", "iot_pipeline_tests.stages.world"
)

# Servers of a test live for minutes: optimizing their code costs more than it brings (half the CPU
# of starting both and of five keyspaces, measured). Here, for benchmarks start the same servers.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# Deterministic, so that a red build is red again.
hypothesis.settings.register_profile(
    "fast",
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
# For a person who looks for more: pytest --hypothesis-profile=thorough
hypothesis.settings.register_profile("thorough", max_examples=3000, deadline=None)
hypothesis.settings.load_profile("fast")


_STARTED = pytest.StashKey[Services]()


@pytest.fixture(scope="session")
def services(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Services]:
    """Real Kafka and Cassandra, started together, gone at the end whatever happens."""
    folder = tmp_path_factory.mktemp("services")
    brokers = os.environ.get("IOT_TEST_BOOTSTRAP_SERVERS", "")
    nodes = os.environ.get("IOT_TEST_CONTACT_POINTS", "")
    port = os.environ.get("IOT_TEST_CASSANDRA_PORT", "9042")
    if brokers and nodes:
        request.config.stash[_STARTED] = existing_services(brokers, nodes, port, folder)
        yield request.config.stash[_STARTED]
        return
    given = {"IOT_CASSANDRA_OPTS": SCHEMA_IS_NOT_FLUSHED}
    if brokers:
        given["IOT_BOOTSTRAP_SERVERS"] = brokers
    if nodes:
        given |= {"IOT_CONTACT_POINTS": nodes, "IOT_CASSANDRA_PORT": port}
    only = [n for n, there in zip(NAMES, (brokers, nodes), strict=True) if not there]
    version = os.environ.get("IOT_TEST_CASSANDRA_VERSION", "")
    started = start_services(folder, only, version=version, nodes=1, **given)
    request.config.stash[_STARTED] = started
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module", autouse=True)
def drop_keyspaces(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each module, those that its tests made besides the session's."""
    yield
    started = request.config.stash.get(_STARTED, None)
    if started is not None:
        started.drop_made_up()


@pytest.fixture(scope="session")
def kafka(services: Services) -> str:
    """Address of a real broker, host:port."""
    return services.bootstrap_servers


@pytest.fixture(scope="session")
def cassandra(services: Services) -> tuple[tuple[str, ...], int]:
    """Contact points and CQL port of a real node."""
    return services.contact_points, services.cassandra_port


@pytest.fixture(scope="session")
def keyspace() -> str:
    """A keyspace name of the session's own; nobody has created it yet."""
    return fresh_keyspace()


@pytest.fixture
def settings_env(services: Services, keyspace: str, tmp_path: Path) -> dict[str, str]:
    """IOT_ variables: the real servers, a fresh topic, the session's keyspace, a data folder."""
    return services.environment(keyspace=keyspace, IOT_DATA_DIR=str(tmp_path / "data"))


@pytest.fixture
def settings(settings_env: dict[str, str]) -> Settings:
    """The settings that `settings_env` gives."""
    return Settings.from_env(settings_env)


@pytest.fixture
def pipeline(settings: Settings, settings_env: dict[str, str]) -> Iterator[Pipeline]:
    """Topics of the test's own and the session's tables, set up, with clients of them."""
    with open_connections(settings) as connections:
        # Safe to do again; a machine that stood still for ten seconds is not what a test is about.
        retry_transient(connections.set_up, give_up_after_seconds=60)
        yield Pipeline(settings, settings_env, connections)


# Files with servers that take a minute or more, the longest first. One process of pytest has a file
# from its first test to its last: a long one that comes late keeps the others waiting at the end.
LONG_FILES = (
    "chaos/test_random_faults.py",
    "secure/test_rights.py",
    "chaos/test_three_nodes.py",
    "chaos/test_many_machines.py",
    "ui/test_ui.py",
    "defs/test_dagster_dev.py",
    "cli/test_demo.py",
    "defs/test_side_by_side.py",
    "defs/test_example_team.py",
    "defs/test_follow_dev.py",
    "ui/test_checks_stay.py",
    "docs/test_tutorial.py",
    "defs/test_slots.py",
    "defs/test_checks_in_sight.py",
    "defs/test_data_quality.py",
    "defs/test_rollups.py",
    "cli/test_every_command.py",
    "local/test_up_and_down.py",
    "defs/test_ingest.py",
)
# Folders whose files share servers, which are there from the first of their tests to the last: one
# process has all of a folder. A set of servers that waits for its end takes 2.4 GB and 5 % of a
# core. The files that are named here have servers of their own.
FOLDERS_OF_ONE_PROCESS = ("chaos", "secure")
BY_THEMSELVES = ("chaos/test_three_nodes.py", "chaos/test_many_machines.py")


def given_out_with(file: str) -> str:
    """What a test file is given out with: its folder, or itself."""
    path = Path(file)
    is_of_folder = path.parent.name in FOLDERS_OF_ONE_PROCESS and not file.endswith(BY_THEMSELVES)
    return path.parent.name if is_of_folder else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getoption("dist") != "loadfile":
        return None
    scheduler = LoadFileScheduling(config, log)
    file_of = scheduler._split_scope
    scheduler._split_scope = lambda nodeid: given_out_with(file_of(nodeid))
    return scheduler


# What needs servers, Chromium or minutes; a file of such tests names its mark.
APART = ("services", "chaos", "ui")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass over files without such tests where only such tests are asked for.

    `make test` collects in each of its processes: 3,000 tests and their examples, for nothing.
    """
    asked = set(config.option.markexpr.split(" or "))
    if asked <= set(APART) and collection_path.name.startswith("test_"):
        return not _names_one(collection_path, asked) or None
    return None


def _names_one(path: Path, marks: Iterable[str]) -> bool:
    text = path.read_text(encoding="utf-8")
    return any(f"pytest.mark.{mark}" in text for mark in marks)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = {(item.path, mark.name) for item in items for mark in item.iter_markers()}
    for path, mark in marked:
        # Otherwise it would be passed over above.
        assert mark not in APART or _names_one(path, [mark]), f"{path} names no pytest.mark.{mark}"
    here = Path(__file__).parent
    ranks = {here / name: rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write_summary(terminalreporter)
