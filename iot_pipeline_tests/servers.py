"""Kafka and Cassandra for tests: ports and a folder of their own, through `iot_pipeline.local`.

`start_services(folder)` is what the session's fixtures use and what chaos tests take to have a
set of their own to kill. A guard process ends the servers even when pytest itself is killed.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import open_connections
from iot_pipeline.errors import PipelineError, TransientError
from iot_pipeline.local.description import Description
from iot_pipeline.local.secure import SecureServers
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline_tests import cassandra_4_1

NAMES = ("kafka", "cassandra")
_BLOCK = 20
# Listening sockets of this process, one per block of ports that are ours, and those left of them.
_claims: list[socket.socket] = []
_unused: list[int] = []
PORTS = (
    "IOT_KAFKA_PORT",
    "IOT_KAFKA_INTERNAL_PORT",
    "IOT_KAFKA_CONTROLLER_PORT",
    "IOT_CASSANDRA_PORT",
    "IOT_CASSANDRA_STORAGE_PORT",
    "IOT_CASSANDRA_JMX_PORT",
)
PERIODIC = (
    "-Dcassandra.settings.commitlog_sync=periodic -Dcassandra.settings.commitlog_sync_period=10s"
)
# Cassandra flushes its system tables after each change of a schema, and every test module makes
# eleven tables: a quarter of the time without it (26 to 6 s for five keyspaces, measured). Not for
# servers that a test kills: the schema has to be there afterwards.
SCHEMA_IS_NOT_FLUSHED = "-Dcassandra.unsafesystem=true"


@dataclass(frozen=True, kw_only=True)
class Services:
    """Where the servers of a test are; `env` holds the IOT_ variables that lead there."""

    bootstrap_servers: str
    contact_points: tuple[str, ...]
    cassandra_port: int
    env: Mapping[str, str]
    made_up: list[str] = field(default_factory=list)
    clients: list[CassandraClient] = field(default_factory=list)

    def environment(
        self, *, topic: str | None = None, keyspace: str | None = None, **overrides: str
    ) -> dict[str, str]:
        """IOT_ variables for a pipeline on these servers, with fresh names unless given.

        A keyspace that is made up here is for one test module: `drop_made_up` takes it away.
        `overrides` are further settings by their full names (IOT_PARTITIONS="2"). Meant for
        `Settings.from_env(...)`, or over `clean_environment()` for a child process.
        """
        if keyspace is None:
            keyspace = fresh_keyspace()
            self.made_up.append(keyspace)
        else:
            self._disown(keyspace)
        names = {"IOT_TOPIC": topic or fresh_topic(), "IOT_KEYSPACE": keyspace}
        return {**self.env, **names, **overrides}

    def _disown(self, keyspace: str) -> None:
        """Have the keyspace, if there is one, belong to no topic: it passes from test to test."""
        for _ in range(2):
            if not self.clients:
                self.clients.append(CassandraClient(Settings.from_env(self.env)))
            # Conditional as the claim is: a plain write beside it could have the older time.
            try:
                self.clients[0].execute(
                    f"DELETE FROM {keyspace}.schema_migrations WHERE version = -1 IF EXISTS",
                    doing=f"having {keyspace} belong to no topic",
                )
            except TransientError:
                # The node was killed since: this client connects again later than it starts.
                self.clients.pop().close()
            except PipelineError:
                return  # there is no such keyspace yet
            else:
                return

    def drop_made_up(self) -> None:
        """Drop the keyspaces that `environment` named: unused tables stay in Cassandra's heap."""
        if not self.made_up:
            return
        with open_connections(Settings.from_env(self.env)) as connections:
            while self.made_up:
                connections.cassandra.execute(
                    f"DROP KEYSPACE IF EXISTS {self.made_up[-1]}",
                    doing=f"dropping the keyspace {self.made_up[-1]}",
                    timeout_seconds=60,
                )
                self.made_up.pop()

    def log_size(self, name: str) -> int:
        """Bytes, where `batch_warnings` reads on; 0 where the log is not ours to read."""
        return 0

    def batch_warnings(self, since_bytes: int) -> list[str]:
        """What Cassandra's log says against batches: too large, too many partitions."""
        return []


@dataclass(frozen=True, kw_only=True)
class OwnServices(Services):
    """Servers that a test started and may do anything to."""

    folder: Path
    local: LocalServices
    guard: "subprocess.Popen[bytes]"

    def up(self, *names: str) -> None:
        """Start what does not run (all, unless named); returns when it answers."""
        self.local.up(names)

    def down(self, *names: str) -> None:
        """Stop as a person would."""
        self.local.down(names)

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone."""
        self.local.kill(name)

    def pid(self, name: str) -> int:
        process = self.local.server(name).process()
        assert process is not None, f"{name} does not run"
        return process.pid

    def sigstop(self, name: str) -> None:
        """Freeze it: its port still accepts connections, nothing is answered."""
        os.kill(self.pid(name), signal.SIGSTOP)

    def sigcont(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGCONT)

    def log_end(self, name: str, lines: int = 50) -> str:
        return "\n".join(self.local.server(name).last_lines(lines))

    def log_size(self, name: str) -> int:
        return self.local.server(name).log.stat().st_size

    def batch_warnings(self, since_bytes: int) -> list[str]:
        text = ""
        for server in self.local.description.servers(("cassandra",)):
            with server.log.open("rb") as lines:
                lines.seek(since_bytes)
                text += lines.read().decode(errors="replace")
        return re.findall(r"^.*\bWARN\b.*[Bb]atch.*$", text, re.MULTILINE)

    def stop(self) -> None:
        """End everything at once; their data is thrown away. Idempotent."""
        for server in self.local.description.servers():
            if server.process() is not None:
                server.kill()
        self.local.wipe()
        if self.guard.stdin is not None and not self.guard.stdin.closed:
            self.guard.stdin.close()
        self.guard.wait(30)


def start_services(
    folder: Path,
    only: Collection[str] = NAMES,
    commitlog_sync: str = "group",
    version: str = "",
    nodes: int = 1,
    **overrides: str,
) -> OwnServices:
    """Start servers on free ports, their state in `folder`; both at once, about ten seconds.

    Args:
        folder: becomes IOT_DATA_DIR; created when it is not there.
        only: "kafka" and "cassandra", one of them, or none yet (`up` starts it later).
        commitlog_sync: "group" as shipped, or "periodic", which forgets acknowledged writes
            when it is killed.
        version: "4.1": that Cassandra, instead of the one that is shipped.
        nodes: of each; with three they are kafka-1, cassandra-3 and so on.
        overrides: further settings by their full names (IOT_KAFKA_RETENTION_CHECK_MS="500").

    Raises:
        ServiceError: with the end of the log of what did not start; nothing is left running.
    """
    assert commitlog_sync in ("group", "periodic")
    ports = dict(zip(PORTS, map(str, _ports_for(nodes)), strict=True))
    env = {
        **{
            name: os.environ[name]
            for name in ("IOT_JAVA_HOME", "IOT_JAR_CACHE")
            if name in os.environ
        },
        **ports,
        "IOT_BOOTSTRAP_SERVERS": f"127.0.0.1:{ports['IOT_KAFKA_PORT']}",
        "IOT_CONTACT_POINTS": "127.0.0.1",
        "IOT_DATA_DIR": str(folder),
        "IOT_KAFKA_RETENTION_CHECK_MS": "1000",
        **({"IOT_CASSANDRA_OPTS": PERIODIC} if commitlog_sync == "periodic" else {}),
        **overrides,
    }
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    assert version in ("", "4.1")
    definition = None
    if version:
        place = folder / "definition"
        place.mkdir(exist_ok=True)
        definition = cassandra_4_1.definition_in(place)
    if nodes > 1:
        description = Description(Settings.from_env(env), folder / "services")
        description.make(secure=False, nodes=nodes)
        env |= description.environment()
    settings = Settings.from_env(env)
    services = OwnServices(
        bootstrap_servers=settings.bootstrap_servers,
        contact_points=settings.contact_points,
        cassandra_port=settings.cassandra_port,
        env=env,
        folder=folder,
        local=LocalServices(
            settings, lambda text: print(text, file=sys.stderr), definition=definition
        ),
        guard=_start_guard(folder),
    )
    try:
        if only:
            services.up(*only)
    except BaseException:
        services.stop()
        raise
    return services


def _ports_for(nodes: int) -> list[int]:
    """One for each of PORTS; of the last, JMX's, as many in a row as there are nodes."""
    while True:
        *others, jmx = free_ports(len(PORTS))
        more = free_ports(nodes - 1)
        if more == list(range(jmx + 1, jmx + nodes)):
            return [*others, jmx]


def start_secure_services(folder: Path) -> OwnServices:
    """The same with TLS, users and passwords; `env` holds what lets clients in."""
    doors = SecureServers(folder.resolve() / "services" / "secure")
    doors.make()
    return start_services(folder, nodes=1, **doors.environment())


def existing_services(
    bootstrap_servers: str, contact_points: str, cassandra_port: str, folder: Path
) -> Services:
    """Servers that somebody else runs for the tests."""
    env = {
        "IOT_BOOTSTRAP_SERVERS": bootstrap_servers,
        "IOT_CONTACT_POINTS": contact_points,
        "IOT_CASSANDRA_PORT": cassandra_port,
        "IOT_DATA_DIR": str(folder),
    }
    settings = Settings.from_env(env)
    return Services(
        bootstrap_servers=settings.bootstrap_servers,
        contact_points=settings.contact_points,
        cassandra_port=settings.cassandra_port,
        env=env,
    )


def fresh_topic() -> str:
    return f"iot_test_{uuid.uuid4().hex[:10]}"


def fresh_keyspace() -> str:
    return f"iot_test_{uuid.uuid4().hex[:10]}"


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's variables for a child, without any IOT_ of a person's, and `env` over them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IOT_")}
    return {**kept, **(env or {})}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that systems hand out by themselves.

    Outgoing connections would take ephemeral ports between our look and the server's start. So
    would another session of these tests, which looks at the same time: each keeps blocks of ports
    to itself, by listening on the first of each until it ends.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        if not _unused:
            _unused.extend(_claim_block())
        port = _unused.pop(0)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
    return chosen


def _claim_block() -> range:
    while True:
        first = random.randrange(20_000, 30_000, _BLOCK)
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", first))
            claim.listen(1)
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return range(first + 1, first + _BLOCK)


def end_leftovers(folder: Path) -> None:
    """SIGKILL every server whose state is in `folder`."""
    for process in psutil.process_iter():
        try:
            if any(a.startswith(f"-Diot.folder={folder}{os.sep}") for a in process.cmdline()):
                process.kill()
        except psutil.Error:
            continue


def _start_guard(folder: Path) -> "subprocess.Popen[bytes]":
    # Waits for the end of its input, which comes when `stop` closes it and also when this
    # process dies of whatever: nobody else holds the other end.
    return subprocess.Popen(
        [sys.executable, "-m", "iot_pipeline_tests.servers", str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).resolve().parents[1],
        env=clean_environment(),
    )


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_leftovers(Path(sys.argv[1]))
