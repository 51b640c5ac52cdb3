"""Three nodes of each server instead of one: `iot up --nodes 3`, and what then differs.

Belongs here: the description of a cluster, made from that of one server: names, addresses, who
votes, tokens, replicas. Does not belong here: how one node is started (`local.launch`).

Every node has an address of its own on loopback (127.0.0.1, 127.0.0.2, ...) and the ports of the
single server there; JMX, which listens on 127.0.0.1 whatever it is told, has a port per node.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.files import Kept
from iot_pipeline.local.compose import Service
from iot_pipeline.settings import Settings

# What `iot up --nodes` takes. Two nodes would survive the death of neither.
COUNTS = (1, 3)
_REPLICAS, _IN_SYNC = "3", "2"
_CASSANDRA_YAML = "/etc/iot/cassandra.yaml"
_JMX_PORT = re.compile(r"(-Dcassandra\.jmx\.local\.port=)(\d+)")
_TOKENS = 1 << 64
# Six servers share what two had.
_CASSANDRA_HEAP = "768M"
_KAFKA = {
    "KAFKA_DEFAULT_REPLICATION_FACTOR": _REPLICAS,
    "KAFKA_MIN_INSYNC_REPLICAS": _IN_SYNC,
    "KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": _REPLICAS,
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": _REPLICAS,
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": _IN_SYNC,
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": _REPLICAS,
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": _IN_SYNC,
}
_CASSANDRA = {
    # Logins are looked up in a table: one replica of it would be one node that must live.
    "cassandra.system_auth.default_rf": _REPLICAS,
    # How long a node listens to the others before it joins (30 s), and before it serves (8 s):
    # on loopback they are heard at once.
    "cassandra.ring_delay_ms": "5000",
    "cassandra.gossip_settle_min_wait_ms": "1000",
    "cassandra.gossip_settle_interval_ms": "500",
}


def address_of(number: int) -> str:
    """Where the node of this number, from 1, listens."""
    return f"127.0.0.{number}"


@dataclass(frozen=True, slots=True)
class Nodes:
    """How many nodes of each server one set has; `folder` remembers it, and is the set's own."""

    folder: Path

    @property
    def count(self) -> int:
        return self._count.read() or 1

    @property
    def _count(self) -> Kept[int]:
        return Kept(self.folder / "count.json", int)

    @property
    def _yaml(self) -> Path:
        return self.folder / "cassandra.yaml"

    def make(self, count: int, services: Mapping[str, Service]) -> None:
        """Remember the number, and write what the nodes of Cassandra read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for service in services.values():
            if service.kind == "cassandra":
                hosts = [address_of(number) for number in range(1, count + 1)]
                options = with_seeds(_read_yaml(service), hosts)
                self._yaml.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
        self._count.write(count)

    def spread(self, service: Service, volumes_folder: Path) -> list[Service]:
        """The nodes of a service; the service itself where there is one of each."""
        count = self.count
        if count == 1:
            return [service]
        return nodes_of(service, count, self._yaml, volumes_folder)

    def environment(self, settings: Settings) -> dict[str, str]:
        """The settings that lead a client to all nodes, and `iot setup` to replicas on each."""
        hosts = [address_of(number) for number in range(1, self.count + 1)]
        return {
            "IOT_BOOTSTRAP_SERVERS": ",".join(f"{host}:{settings.kafka_port}" for host in hosts),
            "IOT_CONTACT_POINTS": ",".join(hosts),
            "IOT_TOPIC_REPLICATION": _REPLICAS,
            "IOT_KEYSPACE_REPLICATION": _REPLICAS,
        }


def nodes_of(service: Service, count: int, seeds: Path, volumes_folder: Path) -> list[Service]:
    """The nodes of a service; `seeds` is the cassandra.yaml that names all of them."""
    numbers = range(1, count + 1)
    nodes = [
        _broker(service, number, count)
        if service.kind == "kafka"
        else _cassandra_node(service, number, count, seeds)
        for number in numbers
    ]
    return [_of_its_own(node, volumes_folder) for node in nodes]


def _node(service: Service, number: int, count: int, **changes: Any) -> Service:
    everyone = {f"{service.name}-{other}": address_of(other) for other in range(1, count + 1)}
    name = f"{service.name}-{number}"
    return replace(
        service,
        name=name,
        address=address_of(number),
        hostnames=frozenset({name}),
        others=everyone,
        **changes,
    )


def _broker(service: Service, number: int, count: int) -> Service:
    environment = dict(service.environment)
    voters = "KAFKA_CONTROLLER_QUORUM_VOTERS"
    _, _, port = environment[voters].rpartition(":")
    advertised = "KAFKA_ADVERTISED_LISTENERS"
    environment |= _KAFKA | {
        "KAFKA_NODE_ID": str(number),
        voters: ",".join(f"{n}@{service.name}-{n}:{port}" for n in range(1, count + 1)),
        # Clients of this machine use the node's address, the other nodes its name.
        advertised: re.sub(
            rf"//({'|'.join(map(re.escape, service.hostnames))})(?=:)",
            f"//{service.name}-{number}",
            environment[advertised].replace(service.address, address_of(number)),
        ),
    }
    return _node(service, number, count, environment=environment)


def _cassandra_node(service: Service, number: int, count: int, seeds: Path) -> Service:
    options = _JMX_PORT.sub(
        lambda found: f"{found[1]}{int(found[2]) + number - 1}",
        service.environment["JVM_EXTRA_OPTS"],
    )
    mine = _CASSANDRA | {
        "cassandra.settings.listen_address": address_of(number),
        "cassandra.settings.initial_token": str(token_of(number, count)),
    }
    words = [options, *(f"-D{name}={value}" for name, value in mine.items())]
    environment = service.environment | {  # type: ignore[operator]
        "MAX_HEAP_SIZE": _CASSANDRA_HEAP,
        "JVM_EXTRA_OPTS": " ".join(words),
    }
    return _node(
        service,
        number,
        count,
        environment=environment,
        mounts={**service.mounts, _CASSANDRA_YAML: seeds},
    )


def _of_its_own(node: Service, volumes_folder: Path) -> Service:
    """The node with a folder of its own for each named volume."""
    mounts = {
        target: path.with_name(f"{node.name}-{path.name.rpartition('-')[2]}")
        if path.parent == volumes_folder
        else path
        for target, path in node.mounts.items()
    }
    return replace(node, mounts=mounts)


def token_of(number: int, count: int) -> int:
    """Where the node's share of the ring begins: each has the same."""
    return -(_TOKENS >> 1) + (number - 1) * _TOKENS // count


def with_seeds(options: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Any]:
    """cassandra.yaml's options with every node as a seed: each may be the first that starts."""
    seeds = ",".join(hosts)
    provider = {**options["seed_provider"][0], "parameters": [{"seeds": seeds}]}
    return {**options, "seed_provider": [provider]}


def _read_yaml(service: Service) -> dict[str, Any]:
    if _CASSANDRA_YAML not in service.mounts:
        raise ConfigurationError(
            f"services.{service.name}.volumes: expected a file at {_CASSANDRA_YAML}"
        )
    options = yaml.safe_load(service.mounts[_CASSANDRA_YAML].read_text(encoding="utf-8"))
    assert isinstance(options, dict)
    return options
