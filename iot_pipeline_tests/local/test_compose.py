"""The strict reading of docker-compose.yml: what is not carried out is refused by name."""

import re
from pathlib import Path

import pytest
import yaml

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.compose import Service, find_definition, read_compose

SMALL = """
services:
  kafka:
    image: apache/kafka:4.3.1
    ports: ["127.0.0.1:${IOT_KAFKA_PORT:-9092}:${IOT_KAFKA_PORT:-9092}"]
    environment:
      KAFKA_NODE_ID: "1"
    volumes: ["kafka-data:/var/lib/kafka/data"]
    healthcheck:
      test: ["CMD", "true"]
      interval: 2s
      start_period: 1m30s
      retries: 15
volumes:
  kafka-data: {}
"""


def read(tmp_path: Path, text: str, **variables: str) -> dict[str, Service]:
    path = tmp_path / "docker-compose.yml"
    path.write_text(text, encoding="utf-8")
    return read_compose(path, variables, tmp_path / "volumes")


def refused(tmp_path: Path, old: str, new: str) -> str:
    assert old in SMALL
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, SMALL.replace(old, new))
    return str(caught.value)


def test_the_projects_own_file_is_read_whole(tmp_path: Path) -> None:
    services = read_compose(find_definition().compose_file, {}, tmp_path)
    assert {s.name: s.image for s in services.values()} == {
        "kafka": "apache/kafka:4.3.1",
        "cassandra": "cassandra:5.0.9",
    }
    assert services["kafka"].ports == (9092,)
    assert services["kafka"].mounts == {"/var/lib/kafka/data": tmp_path / "kafka-data"}
    assert services["cassandra"].mounts["/etc/iot/cassandra.yaml"].is_file()
    assert services["cassandra"].stop_grace_seconds == 60


def test_every_port_comes_from_a_variable(tmp_path: Path) -> None:
    text = find_definition().compose_file.read_text(encoding="utf-8")
    without_variables = re.sub(r"\$\{IOT_[A-Z_]+:-[^}]*\}", "", text)
    for default in ("9092", "19092", "9093", "9042", "7000", "7199"):
        assert default not in without_variables


def test_variables_fill_in_and_defaults_stand_in(tmp_path: Path) -> None:
    assert read(tmp_path, SMALL)["kafka"].ports == (9092,)
    assert read(tmp_path, SMALL, IOT_KAFKA_PORT="1234")["kafka"].ports == (1234,)
    assert read(tmp_path, SMALL, IOT_KAFKA_PORT="")["kafka"].ports == (9092,)


def test_a_start_may_take_as_long_as_the_health_check_gives_it(tmp_path: Path) -> None:
    assert read(tmp_path, SMALL)["kafka"].start_seconds == 90 + 15 * 2


@pytest.mark.parametrize(
    "key",
    [
        *("restart", "user", "mem_limit", "depends_on", "command", "build"),
        *("env_file", "extends", "networks", "network_mode", "profiles", "deploy"),
        *("container_name", "ulimits", "logging", "labels", "x-anything"),
    ],
)
def test_a_key_of_a_service_that_is_not_carried_out_is_refused_by_name(
    tmp_path: Path, key: str
) -> None:
    message = refused(tmp_path, "    environment:", f"    {key}: x\n    environment:")
    assert f"services.kafka.{key}: not understood" in message


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("services:", "networks: {}\nservices:", "networks: not understood"),
        ("kafka-data: {}", "kafka-data: {driver: nfs}", "volumes.kafka-data.driver"),
        ("retries: 15", "start_interval: 1s", "healthcheck.start_interval"),
        ("apache/kafka:4.3.1", "redis:7.0.0", "redis:7.0.0: `iot up` knows"),
        ("apache/kafka:4.3.1", "apache/kafka:latest", "apache/kafka:latest: expected an exact"),
        ("apache/kafka:4.3.1", "apache/kafka", "apache/kafka: expected an exact version"),
        ('KAFKA_NODE_ID: "1"', "KAFKA_NODE_ID: 1", "environment.KAFKA_NODE_ID: 1: expected quotes"),
        ('KAFKA_NODE_ID: "1"', "KAFKA_NODE_ID: yes", "KAFKA_NODE_ID: yes: expected quotes"),
        ('KAFKA_NODE_ID: "1"', "KAFKA_NODE_ID:", "KAFKA_NODE_ID: None: expected text"),
        ('KAFKA_NODE_ID: "1"', 'KAFKA_NODE_ID: "$HERE"', "variable HERE is not set"),
        ('KAFKA_NODE_ID: "1"', 'KAFKA_NODE_ID: "${A:?no}"', "${A:?no}"),
        ('KAFKA_NODE_ID: "1"', 'KAFKA_NODE_ID: "1"\n      KAFKA_NODE_ID: "2"', "given twice"),
        ('"127.0.0.1:$', '"0.0.0.0:$', "expected 127.0.0.1:N:N"),
        (":${IOT_KAFKA_PORT:-9092}\"", ':1"', "one number inside and outside"),
        ("kafka-data:/var", "other:/var", "a volume listed under `volumes`"),
        ("kafka-data:/var", "./here:/var", "mounted read-only"),
        ("1m30s", "soon", "'soon': expected a duration"),
        ("    environment:", "    entrypoint: x\n    environment:", "entrypoint: expected a list"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_carried_out_is_refused_by_name(
    tmp_path: Path, old: str, new: str, names: str
) -> None:
    assert names in refused(tmp_path, old, new)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"docker-compose\.yml"):
        read(tmp_path, "services: [")


def test_cassandra_acknowledges_after_its_commit_log_is_on_disk() -> None:
    path = find_definition().services_folder / "cassandra" / "cassandra.yaml"
    options = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert options["commitlog_sync"] == "group"
    assert options["commitlog_sync_group_window"] == "2ms"
