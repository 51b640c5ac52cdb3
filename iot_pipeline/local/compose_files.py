"""docker-compose.cluster.yml and docker-compose.secure.yml, made from docker-compose.yml.

`make compose` writes them: the description of one server (docker-compose.yml), what makes a
cluster of it (`local.nodes`) and what locks its doors (`local.secure`) stand in one place each, and
`iot up` runs the same. What is written is not edited by hand.

    python -m iot_pipeline.local.compose_files              write the files
    python -m iot_pipeline.local.compose_files --secrets    make the certificates and passwords
    python -m iot_pipeline.local.compose_files --let-in     give the new Cassandra its user
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from iot_pipeline.local.compose import Definition, Service, find_definition, read_compose
from iot_pipeline.local.nodes import address_of, nodes_of, with_seeds
from iot_pipeline.local.secure import USER, SecureServers
from iot_pipeline.settings import Settings

CLUSTER, SECURE = "docker-compose.cluster.yml", "docker-compose.secure.yml"
CLUSTER_YAML, SECURE_YAML = "cassandra-cluster.yaml", "cassandra-secure.yaml"
_NODES = 3
# Where containers find what `--secrets` makes.
_INSIDE = "/etc/iot/secure"
_MADE = "# Made by `make compose` from {} and iot_pipeline/local: do not edit.\n"
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\}")
_FIRST_STAND_IN = 61_001
# A port of a node may be one more than that of the node before.
_APART = 10

Document = dict[str, Any]


def write_files(definition: Definition) -> dict[Path, str]:
    """What each file has to hold, by its path."""
    plain = _Plain(definition)
    configs = definition.services_folder / "cassandra"
    options = yaml.safe_load((configs / "cassandra.yaml").read_text(encoding="utf-8"))
    hosts = [f"cassandra-{number}" for number in range(1, _NODES + 1)]
    doors = SecureServers(Path(_INSIDE)).of_cassandra()
    folder = definition.compose_file.parent
    made = _MADE.format("docker-compose.yml")
    made_yaml = _MADE.format("cassandra.yaml")
    return {
        folder / CLUSTER: f"{made}{_CLUSTER_SAYS}{_dump(plain.cluster())}",
        folder / SECURE: f"{made}{_SECURE_SAYS}{_dump(plain.secure())}",
        configs / CLUSTER_YAML: f"{made_yaml}{_dump(with_seeds(options, hosts))}",
        configs / SECURE_YAML: f"{made_yaml}{_dump(options | doors)}",
    }


_CLUSTER_SAYS = """\
# Three brokers and three Cassandra nodes, each published at an address of its own: 127.0.0.1, .2
# and .3 (on macOS `sudo ifconfig lo0 alias 127.0.0.2` and .3 first).
# `docker compose -f docker-compose.cluster.yml up -d`; a client then needs
#   IOT_BOOTSTRAP_SERVERS=127.0.0.1:9092,127.0.0.2:9092,127.0.0.3:9092  IOT_TOPIC_REPLICATION=3
#   IOT_CONTACT_POINTS=127.0.0.1,127.0.0.2,127.0.0.3  IOT_KEYSPACE_REPLICATION=3
"""
_SECURE_SAYS = """\
# One broker and one node with TLS, users and passwords: docs/local-services.md has the commands.
# The files in services/secure must be readable for the containers' users (uid 1000 and 999).
"""


class _Plain:
    """docker-compose.yml with a stand-in for each of its variables, which goes back in at the end.

    So `nodes_of` and its like work on plain text, as they do for `iot up`.
    """

    def __init__(self, definition: Definition) -> None:
        self._folder = definition.compose_file.parent
        text = definition.compose_file.read_text(encoding="utf-8")
        self.document: Document = yaml.load(text, yaml.BaseLoader)
        defaults = {found["name"]: found["default"] for found in _VARIABLE.finditer(text)}
        self._stand_ins = {
            name: _stand_in(number, name, default)
            for number, (name, default) in enumerate(defaults.items())
        }
        self._put_back = {
            stand_in: f"${{{name}:-{defaults[name]}}}" for name, stand_in in self._stand_ins.items()
        }
        self._volumes = Path("/volumes")
        self.services = read_compose(definition.compose_file, self._stand_ins, self._volumes)

    def cluster(self) -> Document:
        config = self._folder / "services" / "cassandra" / CLUSTER_YAML
        nodes = {
            node.name: self._as_node(name, node, number, before)
            for name, service in self.services.items()
            for number, node, before in _numbered(nodes_of(service, _NODES, config, self._volumes))
        }
        return self._document("iot-pipeline-cluster", nodes)

    def secure(self) -> Document:
        doors = SecureServers(Path(_INSIDE))
        place = f"${{IOT_DATA_DIR:-./data}}/services/secure:{_INSIDE}:ro"
        services: Document = {}
        for name, service in self.services.items():
            made = self._as_compose(name, service)
            made["volumes"].append(place)
            if service.kind == "kafka":
                made["environment"] |= _with_plain_logins(doors.of_kafka())
            else:
                made["volumes"] = [
                    v.replace("/cassandra.yaml:", f"/{SECURE_YAML}:", 1) for v in made["volumes"]
                ]
            services[name] = made
        return self._document("iot-pipeline-secure", services)

    def _as_node(self, name: str, node: Service, number: int, before: str) -> Document:
        made = self._as_compose(name, node)
        if node.kind == "cassandra":
            # A container has an address that Docker gives it, a name that the others know, and JMX
            # for itself.
            options = str(made["environment"]["JVM_EXTRA_OPTS"])
            options = options.replace(
                f"listen_address={address_of(number)}", f"listen_address={node.name}"
            )
            options = re.sub(r"(broadcast_rpc_address=)\S+", rf"\g<1>{address_of(number)}", options)
            jmx = "\\g<1>${IOT_CASSANDRA_JMX_PORT:-7199}"
            options = re.sub(r"(jmx\.local\.port=)\S+", jmx, options)
            made["environment"]["JVM_EXTRA_OPTS"] = options
            if before:
                # One after the other, as a ring wants its nodes to join.
                made["depends_on"] = {before: {"condition": "service_healthy"}}
        return made

    def _as_compose(self, name: str, service: Service) -> Document:
        plain = self.document["services"][name]
        made = {
            "image": service.image,
            "hostname": service.name,
            "entrypoint": list(service.entrypoint),
            "ports": [f"{service.address}:{port}:{port}" for port in service.ports],
            "environment": dict(service.environment),
            "volumes": [self._mount(target, here) for target, here in service.mounts.items()],
            "healthcheck": plain["healthcheck"],
            "stop_grace_period": plain["stop_grace_period"],
        }
        return {key: self._restore(value) for key, value in made.items() if value}

    def _mount(self, target: str, here: Path) -> str:
        if here.parent == self._volumes:
            return f"{here.name}:{target}"
        return f"./{PurePosixPath(here.relative_to(self._folder.resolve()))}:{target}:ro"

    def _restore(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._restore(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._restore(item) for item in value]
        for stand_in, variable in self._put_back.items():
            value = value.replace(stand_in, variable)
        return value

    def _document(self, name: str, services: Document) -> Document:
        used = sorted(
            mount.partition(":")[0]
            for service in services.values()
            for mount in service["volumes"]
            if mount[0] not in "./$"
        )
        for service in services.values():
            values = service["environment"].items()
            service["environment"] = {name: _Quoted(value) for name, value in values}
        return {"name": name, "services": services, "volumes": {volume: {} for volume in used}}


def _with_plain_logins(environment: dict[str, str]) -> dict[str, str]:
    """Kafka's doors in a container, whose image makes no user with the storage, as SCRAM needs.

    The password goes through TLS; the broker takes it from a file, so no variable holds it.
    """
    listener = "KAFKA_LISTENER_NAME_HOST"
    provider = "org.apache.kafka.common.config.provider.DirectoryConfigProvider"
    others = {
        name: value
        for name, value in environment.items()
        if not name.startswith((f"{listener}_SCRAM", f"{listener}_SASL"))
    }
    return others | {
        f"{listener}_SASL_ENABLED_MECHANISMS": "PLAIN",
        f"{listener}_PLAIN_SASL_JAAS_CONFIG": (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'user_{USER}="$${{directory:{_INSIDE}:kafka.password}}";'
        ),
        # It cannot be granted rights: the broker's own listener is not published.
        "KAFKA_SUPER_USERS": f"{environment['KAFKA_SUPER_USERS']};User:{USER}",
        "KAFKA_CONFIG_PROVIDERS": "directory",
        "KAFKA_CONFIG_PROVIDERS_DIRECTORY_CLASS": provider,
    }


def _numbered(nodes: list[Service]) -> Iterator[tuple[int, Service, str]]:
    before = ""
    for number, node in enumerate(nodes, start=1):
        yield number, node, before
        before = node.name


def _stand_in(number: int, name: str, default: str) -> str:
    if default.isdecimal():
        return str(_FIRST_STAND_IN + number * _APART)
    return f"-Dstand.in={name}" if name.endswith("_OPTS") else f"stand-in-{name}"


def _dump(document: Mapping[str, Any]) -> str:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100_000)
    return text


class _Quoted(str):
    """Text in quotes: Compose would read some values as a number or a truth value."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, `_Quoted` in double quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Quoted,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"'),
)


def main(arguments: list[str]) -> None:
    """One of three things, by the first argument."""
    doing: dict[str, Callable[[], None]] = {"--secrets": _make_secrets, "--let-in": _let_in}
    doing.get("".join(arguments), _write)()


def _write() -> None:
    for path, text in write_files(find_definition()).items():
        path.write_text(text, encoding="utf-8")
        print(path.name)


def _secure_servers(settings: Settings) -> SecureServers:
    return SecureServers((settings.data_dir / "services" / "secure").resolve())


def _make_secrets() -> None:
    doors = _secure_servers(Settings.from_env())
    doors.make()
    for kind in ("kafka", "cassandra"):
        doors.certify(kind)
    for name, value in doors.environment().items():
        print(f"{name}={'PLAIN' if name.endswith('SASL_MECHANISM') else value}")


def _let_in() -> None:
    settings = Settings.from_env()
    doors = _secure_servers(settings)
    doors.let_in_to_cassandra((settings.contact_points[0], settings.cassandra_port))
    print(f"cassandra has the user {USER}")


if __name__ == "__main__":
    main(sys.argv[1:])
