"""From a service to a Java command, as the images' own scripts would."""

import dataclasses
import random
import subprocess
from pathlib import Path

import pytest

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local import jars
from iot_pipeline.local.compose import Service, find_definition, read_compose
from iot_pipeline.local.java import find_java
from iot_pipeline.local.launch import (
    CASSANDRA_COMMAND,
    KAFKA_EXCLUDED,
    Launch,
    argument_file,
    kafka_properties,
    megabytes,
    plan_launch,
    relocate,
)


def service(name: str, tmp_path: Path, **variables: str) -> Service:
    return read_compose(find_definition().compose_file, variables, tmp_path / "volumes")[name]


def plan(of: Service, tmp_path: Path) -> Launch:
    return plan_launch(of, find_definition().services_folder, tmp_path / of.name, ())


def with_variable(of: Service, name: str, value: str) -> Service:
    return dataclasses.replace(of, environment={**of.environment, name: value})


@pytest.mark.parametrize(
    ("variable", "property_name"),
    [
        ("KAFKA_LOG_DIRS", "log.dirs"),
        ("KAFKA_A__B", "a_b"),
        ("KAFKA_A___B", "a-b"),
        ("KAFKA_A____B", "a-.b"),
        ("KAFKA_LISTENER_NAME_Host_X", "listener.name.host.x"),
    ],
)
def test_a_variable_becomes_the_property_that_the_image_makes_of_it(
    variable: str, property_name: str
) -> None:
    assert kafka_properties({variable: " as it is = "}) == {property_name: " as it is = "}


def test_what_the_launch_scripts_read_is_no_property() -> None:
    assert kafka_properties(dict.fromkeys(KAFKA_EXCLUDED, "x") | {"CLUSTER_ID": "x"}) == {}


@pytest.mark.parametrize(
    "name", ["KAFKA_LOG4J_LOGGERS", "KAFKA_JMX_OPTS", "KAFKA_VERSION", "JAVA_TOOL_OPTIONS"]
)
def test_a_variable_of_kafka_that_is_not_carried_out_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"services.kafka: {name}: not understood"):
        plan(with_variable(service("kafka", tmp_path), name, "x"), tmp_path)


@pytest.mark.parametrize("name", ["CASSANDRA_CLUSTER_NAME", "HEAP_NEWSIZE", "LOCAL_JMX"])
def test_a_variable_of_cassandra_that_is_not_carried_out_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"services.cassandra: {name}:"):
        plan(with_variable(service("cassandra", tmp_path), name, "x"), tmp_path)


@pytest.mark.parametrize("option", ["-Xmx9G", "-Dnovalue", "-agentlib:x"])
def test_an_option_of_cassandra_that_is_no_property_is_refused_by_name(
    tmp_path: Path, option: str
) -> None:
    cassandra = service("cassandra", tmp_path)
    options = f"{cassandra.environment['JVM_EXTRA_OPTS']} {option}"
    with pytest.raises(ConfigurationError, match=option):
        plan(with_variable(cassandra, "JVM_EXTRA_OPTS", options), tmp_path)


def test_kafka_listens_on_loopback_alone(tmp_path: Path) -> None:
    launch = plan(service("kafka", tmp_path, IOT_KAFKA_PORT="1234"), tmp_path)
    (text,) = launch.files.values()
    assert launch.address == ("127.0.0.1", 1234)
    assert (
        "listeners=HOST://127.0.0.1:1234,INTERNAL://127.0.0.1:19092,CONTROLLER://127.0.0.1:9093\n"
        in text
    )
    assert "controller.quorum.voters=1@127.0.0.1:9093\n" in text
    assert set(launch.ports) == {("127.0.0.1", port) for port in (1234, 19092, 9093)}


def test_cassandra_listens_on_loopback_alone_under_a_name_of_its_own(tmp_path: Path) -> None:
    cassandra = service("cassandra", tmp_path, IOT_CASSANDRA_PORT="1234", IOT_CLUSTER_NAME="mine")
    launch = plan(cassandra, tmp_path)
    assert launch.address == ("127.0.0.1", 1234)
    assert "-Dcassandra.settings.rpc_address=127.0.0.1" in launch.arguments
    assert "-Dcassandra.settings.cluster_name=mine" in launch.arguments
    assert not [a for a in launch.arguments if "broadcast_rpc_address" in a]
    assert set(launch.ports) == {("127.0.0.1", port) for port in (1234, 7000, 7199)}


def test_cassandra_is_started_by_the_script_that_the_container_starts_it_by(
    tmp_path: Path,
) -> None:
    before = plan(service("cassandra", tmp_path), tmp_path).before
    told = subprocess.run(
        [*before, "sh", "-c", "cat /proc/self/timerslack_ns || echo no timers to tell"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() in ("1000000", "no timers to tell")
    assert (told.stdout.strip() == "1000000") == Path("/proc/self/timerslack_ns").exists()


@pytest.mark.parametrize(
    "entrypoint",
    [
        ("sh", "/etc/iot/nap.sh", "cassandra", "-f"),
        ("sh", "/elsewhere.sh", *CASSANDRA_COMMAND),
        ("/etc/iot/nap.sh", *CASSANDRA_COMMAND),
        (*CASSANDRA_COMMAND, "-R"),
    ],
)
def test_a_command_of_cassandra_that_is_not_carried_out_is_refused(
    tmp_path: Path, entrypoint: tuple[str, ...]
) -> None:
    cassandra = dataclasses.replace(service("cassandra", tmp_path), entrypoint=entrypoint)
    with pytest.raises(ConfigurationError, match=r"services\.cassandra: entrypoint: expected"):
        plan(cassandra, tmp_path)


def test_a_command_of_kafka_is_refused(tmp_path: Path) -> None:
    kafka = dataclasses.replace(service("kafka", tmp_path), entrypoint=("sh",))
    with pytest.raises(ConfigurationError, match=r"services\.kafka: entrypoint: not understood"):
        plan(kafka, tmp_path)


def test_data_outside_a_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_LOG_DIRS: /tmp: expected the target"):
        plan(with_variable(service("kafka", tmp_path), "KAFKA_LOG_DIRS", "/tmp"), tmp_path)


def test_paths_of_the_container_become_paths_of_this_machine(tmp_path: Path) -> None:
    kafka = service("kafka", tmp_path / r"a b\1")
    here = kafka.mounts["/var/lib/kafka/data"]
    assert relocate(kafka, "/var/lib/kafka/data/x,/var/lib/kafka/database") == (
        f"{here}/x,/var/lib/kafka/database"
    )


def test_an_argument_file_keeps_spaces_quotes_and_backslashes() -> None:
    assert argument_file(["-Da=b c", 'd"e', "f\\g"]) == '"-Da=b c"\n"d\\"e"\n"f\\\\g"\n'


def test_heap_sizes_are_javas() -> None:
    assert (megabytes("512m"), megabytes("1G"), megabytes("2097152k")) == (512, 1024, 2048)
    with pytest.raises(ConfigurationError, match="much: expected a heap size"):
        megabytes("much")


@pytest.mark.services
def test_the_image_itself_makes_the_same_properties_of_600_names(tmp_path: Path) -> None:
    """Against the image's own program, which is in the kafka jar."""
    kafka = service("kafka", tmp_path)
    lock = jars.read_lock(find_definition().services_folder / "kafka.lock", kafka.image)
    classpath = ":".join(map(str, jars.ensure_jars(lock, jars.default_cache())))
    chance = random.Random(7)
    words = ["LISTENER", "NAME", "x", "Sasl", "SSL", "0", "SCRAM", "512", "jaas", "CONFIG", "a1"]
    values = ["v", "a=b", "x,y", 'M required u="p";', "${z}", "1"]
    environment = {
        "CLUSTER_ID": "MkU3OEVBNTcwNTJENDM2Qg",
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9093",
        "KAFKA_LISTENERS": "HOST://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,HOST:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "HOST",
        "KAFKA_HEAP_OPTS": "-Xmx256m",
        "KAFKA_LOG_DIRS": str(tmp_path / "data"),
    }
    for i in range(600):
        parts = chance.choices(words, k=chance.randint(1, 5))
        middle = "".join(word + "_" * chance.choice([1, 1, 2, 3, 4, 5, 6, 7]) for word in parts)
        environment[f"KAFKA_Z{i}_{middle}END"] = chance.choice(values)
    for folder in ("defaults", "mounted", "final"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "server.properties").touch()
    log4j2 = (find_definition().services_folder / "kafka" / "log4j2.yaml").read_text()
    for file in ("log4j2.yaml", "tools-log4j2.yaml"):
        (tmp_path / "defaults" / file).write_text(log4j2)
    result = subprocess.run(
        [
            *(find_java("").command, "-cp", classpath, "kafka.docker.KafkaDockerWrapper", "setup"),
            *("-D", tmp_path / "defaults", "-M", tmp_path / "mounted", "-F", tmp_path / "final"),
        ],
        env={"LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (tmp_path / "final" / "server.properties").read_text().splitlines()
    assert result.returncode == 0, result.stderr
    assert dict(line.split("=", 1) for line in lines if "=" in line) == kafka_properties(
        environment
    )
