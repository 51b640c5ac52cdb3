"""The cluster and the secure variant of docker-compose.yml: made from it, current, and right.

No engine could be had where this was written. The secure variant's Kafka is run from jars by the
same file; the cluster's containers are compared with the nodes that `iot up --nodes 3` starts.
"""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from iot_pipeline.local.compose import Definition, find_definition, read_compose
from iot_pipeline.local.compose_files import (
    CLUSTER,
    CLUSTER_YAML,
    SECURE,
    SECURE_YAML,
    main,
    write_files,
)
from iot_pipeline.local.nodes import nodes_of
from iot_pipeline.local.secure import USER, SecureServers
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import PORTS, free_ports

NODES = (1, 2, 3)


def with_defaults(name: str):
    """A file as Compose reads it where no variable is set."""
    text = find_definition().compose_file.with_name(name).read_text(encoding="utf-8")
    return yaml.load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text), yaml.BaseLoader)


def option(service, name: str) -> str:
    options = service["environment"]["JVM_EXTRA_OPTS"]
    (found,) = re.findall(rf"-Dcassandra\.{re.escape(name)}=(\S+)", options)
    return str(found)


def test_the_files_are_current() -> None:
    made = write_files(find_definition())
    assert {path.name for path in made} == {CLUSTER, SECURE, CLUSTER_YAML, SECURE_YAML}
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"`make compose` writes {path.name}"


def test_the_clusters_brokers_are_those_that_iot_up_starts(tmp_path: Path) -> None:
    services = with_defaults(CLUSTER)["services"]
    kafka = read_compose(find_definition().compose_file, {}, tmp_path)["kafka"]
    for node in nodes_of(kafka, len(NODES), tmp_path, tmp_path):
        assert services[node.name]["environment"] == dict(node.environment)
        assert services[node.name]["ports"] == [f"{node.address}:9092:9092"]
        assert services[node.name]["hostname"] == node.name


def test_the_clusters_nodes_find_each_other_and_share_nothing() -> None:
    services = with_defaults(CLUSTER)["services"]
    nodes = [services[f"cassandra-{number}"] for number in NODES]
    seeds = yaml.safe_load(
        (find_definition().services_folder / "cassandra" / CLUSTER_YAML).read_text()
    )["seed_provider"][0]["parameters"][0]["seeds"]
    assert seeds.split(",") == [node["hostname"] for node in nodes]
    assert [option(node, "settings.listen_address") for node in nodes] == seeds.split(",")
    assert [option(node, "settings.broadcast_rpc_address") for node in nodes] == [
        node["ports"][0].partition(":")[0] for node in nodes
    ]
    assert len({option(node, "settings.initial_token") for node in nodes}) == len(NODES)
    volumes = [mount for service in services.values() for mount in service["volumes"]]
    named = [mount.partition(":")[0] for mount in volumes if mount[0] != "."]
    assert len(named) == len(set(named)) == 2 * len(NODES)
    assert "cassandra-1" in nodes[1]["depends_on"]


def test_the_secure_variant_has_the_doors_of_iot_up_secure_and_holds_no_secret(
    tmp_path: Path,
) -> None:
    definition = find_definition()
    path = definition.compose_file.with_name(SECURE)
    kafka, cassandra = read_compose(path, {}, tmp_path).values()
    doors = SecureServers(Path("/etc/iot/secure"))
    shipped = {name: value for name, value in doors.of_kafka().items() if "_HOST_S" not in name}
    # Nobody can grant its user rights there.
    shipped["KAFKA_SUPER_USERS"] += ";User:iot"
    assert shipped.items() <= kafka.environment.items()
    assert "${directory:/etc/iot/secure:kafka.password}" in str(kafka.environment)
    assert cassandra.mounts["/etc/iot/cassandra.yaml"].name == SECURE_YAML
    options = yaml.safe_load(cassandra.mounts["/etc/iot/cassandra.yaml"].read_text())
    assert doors.of_cassandra().items() <= options.items()
    assert "password" not in path.read_text().replace("kafka.password", "").replace("passwords", "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with the secure variant as its docker-compose.yml."""
    ours = find_definition()
    folder = tmp_path / "project"
    shutil.copytree(ours.services_folder, folder / "services")
    text = ours.compose_file.with_name(SECURE).read_text(encoding="utf-8")
    # The servers get another data folder: `iot up` is not to find the secrets and lock the doors.
    text = text.replace("${IOT_DATA_DIR:-./data}", "./data")
    (folder / "docker-compose.yml").write_text(text, encoding="utf-8")
    for name in PORTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.services
def test_kafka_as_the_secure_variant_describes_it_lets_in_by_password_alone(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--secrets"])
    told = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    doors = SecureServers(project / "data" / "services" / "secure")
    password = (doors.folder / "kafka.password").read_text()
    assert password not in str(told)
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    settings = Settings.from_env({**ports, **told, "IOT_DATA_DIR": str(project / "servers")})
    definition = Definition(project / "docker-compose.yml", project / "services")
    servers = LocalServices(settings, print, definition=definition)
    servers.up(["kafka"])
    try:
        config = {
            "bootstrap.servers": settings.bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(doors.folder / "ca.pem"),
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
        }
        right = AdminClient({**config, "sasl.password": password})
        assert right.list_topics(timeout=30).brokers
        wrong = AdminClient({**config, "sasl.password": "wrong"})
        with pytest.raises(KafkaException):
            wrong.list_topics(timeout=3)
    finally:
        servers.kill("kafka")
        servers.wipe()
