"""All servers of this machine together: `iot up`, `iot down` and their like.

State lives in `<data_dir>/services`: a folder per server, `volumes/` with their data, and the
name of the cluster. Every instance has its own, because Cassandra nodes of one machine that
share a cluster name find each other and join.
"""

import ipaddress
import shutil
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import filelock

from iot_pipeline.errors import ConfigurationError, ServiceError
from iot_pipeline.local import jars, processes
from iot_pipeline.local.compose import LOOPBACK, Definition
from iot_pipeline.local.description import Description
from iot_pipeline.local.java import find_java
from iot_pipeline.local.launch import Launch
from iot_pipeline.local.needs import STATE_BYTES, Needs
from iot_pipeline.local.secure import SecureServers
from iot_pipeline.local.server import Server
from iot_pipeline.settings import Settings

LOCK_TIMEOUT_SECONDS = 900

Address = tuple[str, int]
State = Literal["up", "not answering", "stopped", "elsewhere"]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What one server is doing.

    `state` is `up` (started here, answers), `not answering` (started here, runs), `stopped`
    (nothing answers) or `elsewhere` (answers, but was not started here). `pid` is None when the
    process is not on this machine or the system does not tell.
    """

    name: str
    version: str
    addresses: tuple[str, ...]
    state: State
    pid: int | None
    process: str
    log: Path

    @property
    def is_answering(self) -> bool:
        return self.state in ("up", "elsewhere")


class LocalServices:
    """Kafka and Cassandra as docker-compose.yml describes them, on this machine.

    `say` is told what is done, a line each, from several threads; `downloading` shows a download
    of this many bytes while its context is open. `definition` is the project's own unless given.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        downloading: Callable[[int], AbstractContextManager[jars.Advance | None]] = (
            lambda _: nullcontext()
        ),
        definition: Definition | None = None,
    ) -> None:
        self._settings = settings
        self._say = say
        self._downloading = downloading
        self._cancelled = threading.Event()
        # Resolved: a server is recognized by this path, whichever link led here.
        self.folder = (settings.data_dir / "services").resolve()
        self.description = Description(settings, self.folder, definition)

    @property
    def secure(self) -> SecureServers:
        return self.description.secure

    def up(
        self, only: Collection[str] = (), *, secure: bool = False, nodes: int | None = None
    ) -> list[ServerStatus]:
        """Make every service answer: use what does, start what does not. Idempotent.

        Args:
            only: these services alone.
            secure: with TLS, users and passwords. Servers that were made so stay so.
            nodes: how many of each; None: as they were made, one where they are new.

        Raises:
            ConfigurationError: the compose file or an address cannot be carried out.
            ServiceError: a server could not be started, a port is taken by another process, a
                server that is not on this machine does not answer, or there is too little disk
                or memory; the servers were made otherwise. Servers that did start keep running.
        """
        with self._alone():
            self.description.make(secure=secure, nodes=nodes)
            servers = self.description.servers(only)
            self._refuse_astra(servers)
            waiting: list[Callable[[], None]] = []
            starting: list[tuple[Server, Launch]] = []
            for server in servers:
                launch = self.description.plan(server)
                if self._uses_what_answers(server):
                    if server.process() is not None:
                        self._let_in(server, launch)
                    continue
                self._check_may_start(server, launch)
                process = server.process()
                if process is not None:
                    self._say(f"{server.name} runs already (pid {process.pid}): waiting")
                    wait = partial(server.wait, process, launch.address, self._say, self._cancelled)
                    waiting.append(partial(self._until_let_in, server, launch, wait))
                    continue
                server.check_ports(launch)
                starting.append((server, launch))
            self._together([*waiting, *self._prepare(starting)])
            return [self._status(server) for server in servers]

    def _refuse_astra(self, servers: Sequence[Server]) -> None:
        bundle = self._settings.cassandra_secure_connect_bundle
        if bundle and any(server.service.kind == "cassandra" for server in servers):
            raise ConfigurationError(
                f"IOT_CASSANDRA_SECURE_CONNECT_BUNDLE={bundle}: Cassandra is Astra's, so none is "
                "started here: `iot up --only kafka` starts Kafka alone"
            )

    def down(self, only: Collection[str] = ()) -> list[str]:
        """Stop what `up` started and nothing else; data stays. Idempotent.

        Returns:
            The names of the services that were stopped.
        """
        servers = self.description.servers(only)
        stopped: list[str] = []

        def stop(server: Server) -> None:
            if server.stop(self._say):
                stopped.append(server.name)
            elif any(server.answers(*address) for address in self.description.addresses(server)):
                self._say(f"{server.name} was not started here and is left alone")
            else:
                self._say(f"{server.name} does not run")

        with self._alone():
            self._together([partial(stop, server) for server in servers])
        return [server.name for server in servers if server.name in stopped]

    def wipe(self) -> None:
        """Stop everything and delete the servers' data, logs and cluster name. No way back."""
        self.down()
        with self._alone():
            folders = [server.run_folder for server in self.description.servers()]
            others = ("volumes", "cluster_name", "secure", "nodes")
            for path in (*folders, *(self.folder / name for name in others)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def kill(self, name: str) -> int:
        """SIGKILL one server and return the pid it had; never waits for a running `up`."""
        return self.server(name).kill()

    def status(self) -> list[ServerStatus]:
        """What every service is doing now; starts and changes nothing."""
        return [self._status(server) for server in self.description.servers()]

    def server(self, name: str) -> Server:
        """One server by its name: `kafka`, or `kafka-2` where there are several.

        Raises:
            ConfigurationError: none or several have this name.
        """
        found = self.description.servers((name,))
        if len(found) > 1:
            raise ConfigurationError(
                f"{name}: there are {', '.join(server.name for server in found)}; name one"
            )
        return found[0]

    def _until_let_in(self, server: Server, launch: Launch, wait: Callable[[], None]) -> None:
        wait()
        self._let_in(server, launch)

    def _let_in(self, server: Server, launch: Launch) -> None:
        """Give our user what it needs with the names of these settings."""
        if not self.secure.is_there:
            return
        if server.service.kind == "cassandra":
            self.secure.let_in_to_cassandra(launch.address)
        else:
            at = (launch.address[0], self._settings.kafka_internal_port)
            self.secure.let_in_to_kafka(at, self._settings)

    def _uses_what_answers(self, server: Server) -> bool:
        for host, port in self.description.addresses(server):
            if server.answers(host, port):
                process = server.process()
                if process is not None:
                    whose = f"started here (pid {process.pid})"
                elif _is_loopback(host):
                    owner = processes.port_owner(port, host)
                    whose = f"not started here ({owner or 'another machine'})"
                else:
                    whose = "on another machine"
                self._say(f"{server.name} answers at {host}:{port}, {whose}: using it")
                return True
        return False

    def _check_may_start(self, server: Server, launch: Launch) -> None:
        addresses = self.description.addresses_in_settings(server)
        listed = ", ".join(f"{host}:{port}" for host, port in addresses)
        local = [(host, port) for host, port in addresses if _is_loopback(host)]
        if not local:
            raise ServiceError(
                f"{server.name} does not answer at {listed}, which is not this machine: start it "
                "there. `iot up` starts servers for loopback addresses only"
            )
        if launch.address[1] not in [port for _, port in local]:
            raise ConfigurationError(
                f"{server.name} does not answer at {listed}, and `iot up` would start it at "
                f"{launch.address[0]}:{launch.address[1]}: make the IOT_ variables agree"
            )
        recorded = server.recorded_address()
        process = server.process()
        if process is not None and recorded is not None and recorded != launch.address:
            raise ServiceError(
                f"{server.name} of {self.folder} runs at {recorded[0]}:{recorded[1]} (pid "
                f"{process.pid}), the settings say {launch.address[1]}: `iot down` first"
            )

    def _prepare(self, starting: Sequence[tuple[Server, Launch]]) -> list[Callable[[], None]]:
        """Java, jars and room for the servers that are to start; nothing runs yet."""
        if not starting:
            return []
        cache = Path(self._settings.jar_cache or jars.default_cache()).expanduser()
        locks = {
            server.name: jars.read_lock(
                self.description.services_folder / f"{server.service.kind}.lock",
                server.service.image.removeprefix("library/"),
            )
            for server, _ in starting
        }
        java = find_java(self._settings.java_home)
        missing = {jar for lock in locks.values() for jar in jars.missing_jars(lock, cache)}
        needs = Needs(
            services=[f"{server.name} {server.service.version}" for server, _ in starting],
            jars=len(missing),
            download_bytes=sum(jar.size_bytes for jar in missing),
            cache=cache,
            state_bytes=sum(STATE_BYTES[server.service.kind] for server, _ in starting),
            state_folder=self.folder,
            memory_bytes=sum(launch.memory_bytes for _, launch in starting),
        )
        self._say(needs.sentence())
        for reason in java.passed_over:
            self._say(f"passed over {reason}")
        self._say(f"Java {java.version} from {java.origin}: {java.command}")
        needs.check()
        steps: list[Callable[[], None]] = []
        with self._downloading(needs.download_bytes) if missing else nullcontext() as advance:
            for server, _ in starting:
                classpath = jars.ensure_jars(locks[server.name], cache, advance)
                launch = self.description.plan(server, classpath)
                if self.secure.is_there:
                    self.secure.certify(server.service.kind)
                start = partial(server.start, launch, java, self._say, self._cancelled)
                steps.append(partial(self._until_let_in, server, launch, start))
        return steps

    def _together(self, steps: Sequence[Callable[[], None]]) -> None:
        """Run steps at once; all end before the first error is raised, others are named in it."""
        if not steps:
            return
        with ThreadPoolExecutor(len(steps), "services") as pool:
            futures = [pool.submit(step) for step in steps]
            try:
                errors = [error for future in futures if (error := future.exception())]
            except BaseException:
                # Ctrl-C: the servers have sessions of their own and go on; we do not.
                self._cancelled.set()
                raise
        for error in errors:
            if not isinstance(error, ServiceError):
                raise error
        if errors:
            raise ServiceError("\n".join(map(str, errors))) from errors[0]

    def _status(self, server: Server) -> ServerStatus:
        addresses = self.description.addresses(server)
        answering = [address for address in addresses if server.answers(*address)]
        process = server.process()
        state: State
        pid, name = (process.pid, "java") if process is not None else (None, "")
        if process is not None:
            state = "up" if answering else "not answering"
        elif answering:
            state = "elsewhere"
            host, port = answering[0]
            owner = processes.port_owner(port, host) if _is_loopback(host) else None
            if owner is not None:
                pid, name = owner.pid or None, owner.name
        else:
            state = "stopped"
        return ServerStatus(
            name=server.name,
            version=server.service.version if process is not None or not answering else "",
            addresses=tuple(f"{host}:{port}" for host, port in addresses),
            state=state,
            pid=pid,
            process=name,
            log=server.log,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One `up` or `down` at a time per folder; says so when it has to wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / ".lock")
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                self._say(f"waiting for another `iot up` or `iot down` of {self.folder}")
                lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
        except filelock.Timeout:
            raise ServiceError(
                f"another `iot up` or `iot down` has held {self.folder} for "
                f"{LOCK_TIMEOUT_SECONDS} s; stop it"
            ) from None
        try:
            yield
        finally:
            lock.release()


def _is_loopback(host: str) -> bool:
    if host == LOOPBACK:
        return True
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)
