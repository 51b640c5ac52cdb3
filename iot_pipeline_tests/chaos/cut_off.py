"""Three nodes of each behind doors: the same servers, but for the addresses that they tell.

Of the last node of each the clock can be stepped, where there is a C compiler: `stepped_clock.c`
stands before the system's clock in that process, and reads from a file how far it is off.
"""

import contextlib
import re
import shutil
import struct
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from iot_pipeline.local.description import Description
from iot_pipeline.local.launch import Launch
from iot_pipeline.local.server import Server
from iot_pipeline.settings import Settings
from iot_pipeline_tests.chaos.doors import Door, Doors
from iot_pipeline_tests.servers import NAMES, OwnServices, start_services

_HOME = re.compile(r"127\.0\.0\.(\d)")
_FOR_CLIENTS, _FOR_NODES = r"127.0.1.\1", r"127.0.2.\1"


def _as_seen(side: str, text: str) -> str:
    return _HOME.sub(_FOR_CLIENTS if side == "clients" else _FOR_NODES, text)


def c_compiler() -> str | None:
    return shutil.which("cc")


class BehindDoors(Description):
    """Nodes that tell clients and one another the addresses of their doors."""

    @property
    def clocks(self) -> dict[str, Path]:
        """Where the nodes whose clock can be stepped read how far it is off."""
        last = [f"{kind}-{self.nodes.count}" for kind in NAMES] if c_compiler() else []
        return {name: self.folder / f"{name}.clock" for name in last}

    @cached_property
    def _stepped_clock(self) -> Path:
        built = self.folder / "stepped_clock.so"
        source = Path(__file__).with_name("stepped_clock.c")
        command = [str(c_compiler()), "-O2", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(built), str(source), "-ldl"], check=True)
        return built

    def plan(self, server: Server, classpath: Sequence[Path] = ()) -> Launch:
        launch = super().plan(server, classpath)
        clock = self.clocks.get(server.name)
        if clock is not None:
            step_clock(clock, 0)
            words = {"LD_PRELOAD": self._stepped_clock, "STEPPED_CLOCK": clock}
            before = ("env", *(f"{name}={value}" for name, value in words.items()))
            launch = replace(launch, before=(*before, *launch.before))
        if server.service.kind == "kafka":
            files = {path: _told_by_kafka(text) for path, text in launch.files.items()}
            return replace(launch, files=files)
        seeds = self.nodes.folder / "cassandra.yaml"
        seeds.write_text(_as_seen("nodes", seeds.read_text()))
        home = server.service.address
        told = {
            "broadcast_address": _as_seen("nodes", home),
            "broadcast_rpc_address": _as_seen("clients", home),
        }
        options = [f"-Dcassandra.settings.{name}={value}" for name, value in told.items()]
        return replace(launch, arguments=(*options, *launch.arguments))


def step_clock(clock: Path, seconds: int) -> None:
    """Have the process that reads it be so far off from now on."""
    # In place: the process has the file in its memory.
    with clock.open("r+b" if clock.exists() else "wb") as file:
        file.write(struct.pack("=q", seconds))


def _told_by_kafka(text: str) -> str:
    properties = dict(line.split("=", 1) for line in text.splitlines())
    told = []
    for listener in properties["listeners"].split(","):
        name, at = listener.split("://")
        told.append(f"{name}://{_as_seen('clients' if name == 'HOST' else 'nodes', at)}")
    properties["advertised.listeners"] = ",".join(told)
    voters = "controller.quorum.voters"
    properties[voters] = _as_seen("nodes", properties[voters])
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _doors_of(settings: Settings, server: Server) -> Iterator[Door]:
    home, is_kafka = server.service.address, server.service.kind == "kafka"
    ports = {
        settings.kafka_port if is_kafka else settings.cassandra_port: "clients",
        **dict.fromkeys(
            (settings.kafka_internal_port, settings.kafka_controller_port)
            if is_kafka
            else (settings.cassandra_storage_port,),
            "nodes",
        ),
    }
    for port, side in ports.items():
        at = (_as_seen(side, home), port)
        yield Door(server.name, "clients" if side == "clients" else "nodes", at, (home, port))


@dataclass(frozen=True, kw_only=True)
class CutOffServices(OwnServices):
    """Servers whose clients come through doors; `clocks` are those that can be stepped, by node."""

    doors: Doors
    clocks: Mapping[str, Path]


@contextlib.contextmanager
def behind_doors(
    folder: Path, nodes: int = 3, only: Collection[str] = NAMES, **overrides: str
) -> Iterator[CutOffServices]:
    """Nodes of each, up; ended with the block. `overrides` are further settings."""
    plain = start_services(folder, only=(), nodes=nodes, **overrides)
    try:
        settings = Settings.from_env(plain.env)
        description = BehindDoors(settings, plain.local.folder)
        plain.local.description = description
        servers = {server.name: server for server in description.servers()}

        def pid_of(name: str) -> int | None:
            process = servers[name].process()
            return None if process is None else process.pid

        doors = [door for server in servers.values() for door in _doors_of(settings, server)]
        with Doors(doors, pid_of) as opened:
            plain.up(*only)
            brokers = _as_seen("clients", plain.bootstrap_servers)
            contact_points = tuple(_as_seen("clients", host) for host in plain.contact_points)
            told = {
                "IOT_BOOTSTRAP_SERVERS": brokers,
                "IOT_CONTACT_POINTS": ",".join(contact_points),
            }
            yield CutOffServices(
                bootstrap_servers=brokers,
                contact_points=contact_points,
                cassandra_port=plain.cassandra_port,
                env={**plain.env, **told},
                folder=plain.folder,
                local=plain.local,
                guard=plain.guard,
                doors=opened,
                clocks=description.clocks,
            )
    finally:
        plain.stop()
