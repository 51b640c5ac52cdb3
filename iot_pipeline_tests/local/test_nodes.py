"""Three nodes of each, described: names, addresses, votes, tokens, folders; nothing is started."""

from pathlib import Path

import pytest
import yaml

from iot_pipeline.errors import ConfigurationError, ServiceError
from iot_pipeline.local.compose import Service
from iot_pipeline.local.description import Description
from iot_pipeline.local.launch import Launch, megabytes
from iot_pipeline.local.nodes import token_of
from iot_pipeline.local.processes import port_owner
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline_tests.local.test_server import listen

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@pytest.fixture
def described(tmp_path: Path) -> Description:
    found = Description(Settings(data_dir=tmp_path), tmp_path)
    found.make(secure=False, nodes=3)
    return found


def planned(of: Description, kind: str) -> list[tuple[Service, Launch]]:
    return [(server.service, of.plan(server)) for server in of.servers((kind,))]


def properties_of(launch: Launch) -> dict[str, str]:
    (text,) = launch.files.values()
    return dict(line.split("=", 1) for line in text.splitlines())


def options_of(launch: Launch) -> dict[str, str]:
    found = [a.removeprefix("-D") for a in launch.arguments if a.startswith("-D")]
    return dict(option.split("=", 1) for option in found)


def test_each_broker_listens_at_an_address_of_its_own_and_all_vote(described: Description) -> None:
    brokers = planned(described, "kafka")
    assert [service.name for service, _ in brokers] == ["kafka-1", "kafka-2", "kafka-3"]
    for number, ((_, launch), host) in enumerate(zip(brokers, HOSTS, strict=True), 1):
        found = properties_of(launch)
        assert launch.address == (host, 9092)
        assert set(launch.ports) == {(host, port) for port in (9092, 19092, 9093)}
        assert found["node.id"] == str(number)
        assert found["listeners"].count(f"://{host}:") == 3
        assert found["advertised.listeners"] == f"HOST://{host}:9092,INTERNAL://{host}:19092"
        assert found["controller.quorum.voters"] == (
            "1@127.0.0.1:9093,2@127.0.0.2:9093,3@127.0.0.3:9093"
        )


def test_brokers_acknowledge_what_two_of_them_have(described: Description) -> None:
    for _, launch in planned(described, "kafka"):
        found = properties_of(launch)
        assert found["default.replication.factor"] == "3"
        assert found["min.insync.replicas"] == "2"
        assert found["unclean.leader.election.enable"] == "false"
        assert found["offsets.topic.replication.factor"] == "3"


def test_each_node_of_cassandra_has_a_third_of_the_ring_and_a_port_for_jmx(
    described: Description,
) -> None:
    for number, (service, launch) in enumerate(planned(described, "cassandra"), 1):
        found, host = options_of(launch), HOSTS[number - 1]
        assert launch.address == (host, 9042)
        assert set(launch.ports) == {(host, 9042), (host, 7000), ("127.0.0.1", 7198 + number)}
        assert found["cassandra.settings.listen_address"] == host
        assert found["cassandra.settings.rpc_address"] == host
        assert found["cassandra.settings.initial_token"] == str(token_of(number, 3))
        assert megabytes(service.environment["MAX_HEAP_SIZE"]) <= 1024
        config = yaml.safe_load(Path(found["cassandra.config"].removeprefix("file://")).read_text())
        assert config["seed_provider"][0]["parameters"] == [{"seeds": ",".join(HOSTS)}]
        assert config["commitlog_sync"] == "group"
    tokens = [token_of(number, 3) for number in (1, 2, 3)]
    shares = [(tokens[number - 2] - tokens[number - 3]) % 2**64 for number in (1, 2, 3)]
    assert max(shares) - min(shares) <= 1


def test_nodes_share_no_folder(described: Description) -> None:
    servers = described.servers()
    data = [folder for server in servers for folder in described.plan(server).folders]
    assert len({*data, *(server.run_folder for server in servers)}) == 12


def test_the_name_of_a_service_means_all_its_nodes_and_one_has_to_be_named_to_be_killed(
    described: Description, tmp_path: Path
) -> None:
    assert [server.name for server in described.servers(("kafka-2",))] == ["kafka-2"]
    services = LocalServices(Settings(data_dir=tmp_path / "other"), lambda _: None)
    services.description.make(secure=False, nodes=3)
    with pytest.raises(ConfigurationError, match="kafka: there are kafka-1, kafka-2, kafka-3"):
        services.kill("kafka")
    with pytest.raises(ConfigurationError, match="kafka-4: no such service"):
        services.kill("kafka-4")


def test_servers_that_were_made_stay_as_many(described: Description, tmp_path: Path) -> None:
    described.make(secure=False, nodes=None)
    described.make(secure=False, nodes=3)
    assert Description(Settings(data_dir=tmp_path), tmp_path).nodes.count == 3
    described.volumes.mkdir()
    with pytest.raises(ServiceError, match="were made with --nodes 3"):
        described.make(secure=False, nodes=1)


def test_the_printed_settings_lead_to_all_nodes_and_ask_for_replicas(
    described: Description,
) -> None:
    lines = described.environment()
    settings = Settings.from_env(lines)
    assert settings.contact_points == HOSTS
    assert settings.bootstrap_servers == ",".join(f"{host}:9092" for host in HOSTS)
    assert (settings.topic_replication, settings.keyspace_replication) == (3, 3)


def test_a_port_that_is_taken_at_another_address_is_free() -> None:
    with listen() as listener:
        port = listener.getsockname()[1]
        assert port_owner(port, "127.0.0.1") is not None
        assert port_owner(port, "127.0.0.2") is None
