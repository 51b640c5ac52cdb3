"""From a service of docker-compose.yml to a Java command: what the images' own scripts do.

Belongs here: pure translation, variables to properties and arguments. Does not belong here:
starting anything (`local.servers`).
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.compose import LOOPBACK, Service
from iot_pipeline.local.processes import marker

Address = tuple[str, int]

# Variables that the image's KafkaDockerWrapper never turns into properties (4.3.1,
# Constants.ExcludeServerPropsEnv). The first three are carried out here, the others refused.
KAFKA_SCRIPT_VARIABLES = ("KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_OPTS")
KAFKA_EXCLUDED = frozenset({
    *KAFKA_SCRIPT_VARIABLES, "KAFKA_VERSION", "KAFKA_LOG4J_OPTS", "KAFKA_JMX_OPTS",
    "KAFKA_GC_LOG_OPTS", "KAFKA_LOG4J_ROOT_LOGLEVEL", "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL", "KAFKA_JMX_HOSTNAME",
})  # fmt: skip
KAFKA_REQUIRED = ("CLUSTER_ID", "KAFKA_LISTENERS", "KAFKA_LOG_DIRS", "KAFKA_HEAP_OPTS",
                  "KAFKA_CONTROLLER_QUORUM_VOTERS")  # fmt: skip
CASSANDRA_VARIABLES = ("MAX_HEAP_SIZE", "JVM_EXTRA_OPTS")
# What the image runs by itself; a script of ours may stand before it.
CASSANDRA_COMMAND = ("docker-entrypoint.sh", "cassandra", "-f")

STARTING_HEAP = "256m"

# What a JVM takes beyond its heap, measured with these settings after a load: metaspace, code,
# threads, direct buffers.
MEGABYTES_BEYOND_HEAP = {"kafka": 250, "cassandra": 500}


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is needed to start one server.

    `arguments` go into a Java argument file, but for the main class and its own arguments
    (`main`); `before` is a command that ends by running Java in its place. `format_arguments` is
    a command to run first while `formatted_by` does not exist; empty when there is none. `ports`
    maps every address and port the server takes to what it is for.
    """

    address: Address
    ports: Mapping[Address, str]
    files: Mapping[Path, str]
    folders: tuple[Path, ...]
    before: tuple[str, ...]
    arguments: tuple[str, ...]
    main: tuple[str, ...]
    format_arguments: tuple[str, ...]
    formatted_by: Path | None
    memory_bytes: int


def plan_launch(
    service: Service, services_folder: Path, run_folder: Path, jars: Sequence[Path]
) -> Launch:
    """Plan how one service runs on this machine.

    `services_folder` holds what the image brings itself (logging, Java's arguments); `run_folder`
    is the server's own; `jars` may be empty when nothing is going to be started.

    Raises:
        ConfigurationError: names the variable that the image would act on and this would not.
    """
    if service.kind == "kafka":
        return _plan_kafka(service, services_folder, run_folder, jars)
    return _plan_cassandra(service, services_folder, run_folder, jars)


def kafka_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """KAFKA_A_B becomes a.b, `__` becomes `_` and `___` becomes `-`, as the image does it.

    Source: KafkaDockerWrapper.getServerConfigsFromEnv; the replacements in this order.
    """
    return {
        name[len("KAFKA_") :]
        .lower()
        .replace("_", ".")
        .replace("...", "-")
        .replace("..", "_"): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name not in KAFKA_EXCLUDED
    }


def argument_file(arguments: Sequence[str]) -> str:
    """The text of a `java @file`: one quoted argument per line, so that spaces survive."""
    quoted = (a.replace("\\", "\\\\").replace('"', '\\"') for a in arguments)
    return "".join(f'"{a}"\n' for a in quoted)


def relocate(service: Service, text: str) -> str:
    """Rewrite what is only true inside a container: mounted paths, its names, listen-on-all."""
    for target in sorted(service.mounts, key=len, reverse=True):
        here = str(service.mounts[target]).replace("\\", r"\\")
        text = re.sub(re.escape(target) + r"(?=[/,;:\s]|$)", here, text)
    addresses = {**dict.fromkeys(service.hostnames, service.address), **service.others}
    for name, address in addresses.items():
        text = re.sub(rf"(?<=[/@]){re.escape(name)}(?=:\d)", address, text)
    return re.sub(r"://(0\.0\.0\.0)?(?=:\d)", f"://{service.address}", text)


def megabytes(size: str) -> int:
    """A heap size of Java's: 512m, 1G; plain numbers are bytes."""
    match = re.fullmatch(r"(\d+)([kmgKMG]?)", size)
    if not match:
        raise ConfigurationError(f"{size}: expected a heap size such as 512m or 1G")
    factor = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}[match[2].lower()]
    return int(match[1]) * factor // 2**20


def _plan_kafka(service: Service, folder: Path, run_folder: Path, jars: Sequence[Path]) -> Launch:
    environment = service.environment
    for name in environment:
        known = name == "CLUSTER_ID" or name.startswith("KAFKA_")
        if not known or name in KAFKA_EXCLUDED.difference(KAFKA_SCRIPT_VARIABLES):
            _refuse(service, name, "not understood by `iot up`")
    if service.entrypoint:
        _refuse(service, "entrypoint", "not understood by `iot up`")
    for name in KAFKA_REQUIRED:
        if not environment.get(name):
            _refuse(service, name, "expected a value")
    properties = {
        name: relocate(service, value) for name, value in kafka_properties(environment).items()
    }
    data = _in_a_volume(service, "KAFKA_LOG_DIRS", environment["KAFKA_LOG_DIRS"])
    listeners = {
        int(port): name
        for name, host, port in re.findall(r"(\w+)://([^:,]*):(\d+)", properties["listeners"])
        if host == service.address
    }
    address = (service.address, _published(service, listeners))
    heap = environment["KAFKA_HEAP_OPTS"]
    largest = re.search(r"-Xmx(\w+)", heap)
    if not largest:
        _refuse(service, "KAFKA_HEAP_OPTS", f"{heap}: expected -Xmx, the memory it takes")
    server_properties = run_folder / "server.properties"
    logging = f"-Dlog4j2.configurationFile={folder / 'kafka' / 'log4j2.yaml'}"
    classpath = ("-cp", ":".join(map(str, jars)))
    return Launch(
        address=address,
        ports={(service.address, port): f"listener {name}" for port, name in listeners.items()},
        files={
            server_properties: "".join(
                f"{k}={v}\n".replace("\\", "\\\\") for k, v in sorted(properties.items())
            )
        },
        folders=(data,),
        before=(),
        arguments=(
            *shlex.split(heap),
            *shlex.split(environment.get("KAFKA_JVM_PERFORMANCE_OPTS", "-XX:+UseSerialGC")),
            *shlex.split(relocate(service, environment.get("KAFKA_OPTS", ""))),
            logging,
            *classpath,
        ),
        main=(marker(run_folder), "kafka.Kafka", str(server_properties)),
        format_arguments=(
            *("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", logging),
            *(*classpath, "kafka.tools.StorageTool", "format", "--ignore-formatted"),
            *("-t", environment["CLUSTER_ID"], "-c", str(server_properties)),
        ),
        # Written last by the format, so a format that was interrupted is done again.
        formatted_by=data / "meta.properties",
        memory_bytes=(megabytes(largest[1]) + MEGABYTES_BEYOND_HEAP["kafka"]) * 2**20,
    )


def _plan_cassandra(
    service: Service, folder: Path, run_folder: Path, jars: Sequence[Path]
) -> Launch:
    environment = service.environment
    for name in environment:
        if name.startswith("CASSANDRA_"):
            _refuse(service, name, "edits a file that the mounted cassandra.yaml replaces")
        if name not in CASSANDRA_VARIABLES:
            _refuse(service, name, "not understood by `iot up`")
    for name in CASSANDRA_VARIABLES:
        if not environment.get(name):
            _refuse(service, name, "expected a value")
    options = dict(
        _system_property(service, option) for option in shlex.split(environment["JVM_EXTRA_OPTS"])
    )
    config = relocate(service, options.get("cassandra.config", "").removeprefix("file://"))
    if not Path(config).is_file():
        _refuse(service, "JVM_EXTRA_OPTS", "expected -Dcassandra.config=file:// and a mounted file")
    options["cassandra.config"] = Path(config).as_uri()
    # Wide open only inside a container, where the published port is on loopback.
    options["cassandra.settings.rpc_address"] = service.address
    options.pop("cassandra.settings.broadcast_rpc_address", None)
    data = _in_a_volume(service, "volumes", "/var/lib/cassandra")
    heap = environment["MAX_HEAP_SIZE"]
    ports = {
        int(options.get(key, default)): purpose
        for key, default, purpose in (
            ("cassandra.settings.native_transport_port", "9042", "CQL"),
            ("cassandra.settings.storage_port", "7000", "between nodes"),
        )
    }
    jmx_port = int(options.get("cassandra.jmx.local.port", "7199"))
    before = _before_cassandra(service)
    agent = [f"-javaagent:{jar}" for jar in jars if jar.name.startswith("jamm-")]
    return Launch(
        address=(service.address, _published(service, ports)),
        # JMX listens there, whatever the node's address.
        ports={(service.address, port): purpose for port, purpose in ports.items()}
        | {(LOOPBACK, jmx_port): "JMX"},
        files={},
        folders=(data,),
        before=before,
        arguments=(
            *shlex.split((folder / "cassandra" / "jvm17.args").read_text("utf-8"), comments=True),
            # Cassandra locks its heap into memory as it finds it at start (mlockall), so it
            # starts small here: an idle node then takes half the memory.
            *(f"-Xms{STARTING_HEAP}", f"-Xmx{heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=300"),
            *agent,
            f"-Dcassandra.storagedir={data}",
            f"-Dcassandra.logdir={run_folder}",
            "-Dcassandra-foreground=yes",
            f"-Dlogback.configurationFile={folder / 'cassandra' / 'logback.xml'}",
            *(f"-D{key}={value}" for key, value in options.items()),
            *("-cp", ":".join(map(str, jars))),
        ),
        main=(marker(run_folder), "org.apache.cassandra.service.CassandraDaemon"),
        format_arguments=(),
        formatted_by=None,
        memory_bytes=(megabytes(heap) + MEGABYTES_BEYOND_HEAP["cassandra"]) * 2**20,
    )


def _before_cassandra(service: Service) -> tuple[str, ...]:
    words = service.entrypoint or CASSANDRA_COMMAND
    ours, images = words[: -len(CASSANDRA_COMMAND)], words[-len(CASSANDRA_COMMAND) :]
    if images != CASSANDRA_COMMAND:
        _refuse(service, "entrypoint", f"expected {' '.join(CASSANDRA_COMMAND)} at its end")
    if ours and (ours[0] != "sh" or len(ours) < 2 or ours[1] not in service.mounts):
        _refuse(service, "entrypoint", "expected sh and a script that is mounted")
    return tuple(relocate(service, word) for word in ours)


def _system_property(service: Service, option: str) -> tuple[str, str]:
    name, equals, value = option.removeprefix("-D").partition("=")
    if not option.startswith("-D") or not equals:
        _refuse(service, "JVM_EXTRA_OPTS", f"{option}: expected -Dname=value only")
    return name, value


def _published(service: Service, ports: Mapping[int, str]) -> int:
    for port in service.ports:
        if port in ports:
            return port
    raise ConfigurationError(
        f"services.{service.name}.ports: expected the port of a client listener, one of "
        f"{sorted(ports)}"
    )


def _in_a_volume(service: Service, variable: str, path: str) -> Path:
    if path not in service.mounts:
        _refuse(service, variable, f"{path}: expected the target of a named volume")
    here = service.mounts[path]
    # Kafka reads a comma as the end of one folder and the start of another.
    if "," in str(here):
        raise ConfigurationError(f"{here}: Kafka cannot keep data in a folder with a comma")
    return here


def _refuse(service: Service, variable: str, why: str) -> NoReturn:
    raise ConfigurationError(f"services.{service.name}: {variable}: {why}")
