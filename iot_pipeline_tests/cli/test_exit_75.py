"""Exit code 75 is for what may be well later: what stays wrong says so, with the setting."""

import dataclasses

import pytest
from cassandra import ReadFailure

from iot_pipeline.clients.cassandra_errors import translate
from iot_pipeline.core.checks.keyspaces import check_quorum
from iot_pipeline.errors import ConfigurationError, PermanentError, TransientError
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import free_ports


def asked_with(pipeline: Pipeline, *command: str, exit_code: int, **env: str) -> str:
    elsewhere = dataclasses.replace(pipeline, env={**pipeline.env, **env})
    return str(elsewhere.iot(*command, exit_code=exit_code))


@pytest.mark.services
def test_an_address_at_which_kafka_can_never_answer_is_a_wrong_setting(pipeline: Pipeline) -> None:
    said = asked_with(pipeline, "lag", exit_code=2, IOT_BOOTSTRAP_SERVERS="no.such.invalid:9092")
    assert "no.such.invalid:9092: no such host name" in said
    other = f"127.0.0.1:{pipeline.settings.cassandra_port}"
    said = asked_with(pipeline, "lag", exit_code=2, IOT_BOOTSTRAP_SERVERS=other)
    assert f"{other}: what answers there is not Kafka; IOT_BOOTSTRAP_SERVERS" in said
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    said = asked_with(pipeline, "lag", exit_code=75, IOT_BOOTSTRAP_SERVERS=nobody)
    assert "does not answer" in said, "a broker may come there"


@pytest.mark.services
def test_a_datacenter_that_no_node_is_in_is_a_wrong_setting(pipeline: Pipeline) -> None:
    said = asked_with(pipeline, "lag", exit_code=2, IOT_DATACENTER="nope")
    assert "IOT_DATACENTER=nope: the nodes that answer are in datacenter1" in said


@pytest.mark.services
def test_more_replicas_than_nodes_are_refused_before_anything_is_made(pipeline: Pipeline) -> None:
    keyspace = f"{pipeline.settings.keyspace}_3"
    three = {"IOT_KEYSPACE": keyspace, "IOT_KEYSPACE_REPLICATION": "3"}
    said = asked_with(pipeline, "setup", exit_code=2, **three)
    assert "each write needs 2 of them, and the datacenter has 1 node. Nothing was made" in said
    assert pipeline.connections.tables.nodes() == {"datacenter1": 1}
    cassandra = pipeline.connections.cassandra
    cassandra.execute(
        f"CREATE KEYSPACE {keyspace} WITH replication = "
        "{'class': 'NetworkTopologyStrategy', 'datacenter1': 3}",
        doing="testing",
    )
    try:
        said = asked_with(pipeline, "setup", exit_code=2, **three)
        assert f"or ALTER KEYSPACE {keyspace} to fewer replicas" in said
    finally:
        cassandra.execute(f"DROP KEYSPACE {keyspace}", doing="testing")


@pytest.mark.parametrize(("replicas", "nodes"), [(1, 1), (2, 2), (3, 2), (3, 3), (5, 3)])
def test_a_quorum_that_exists_is_enough(replicas: int, nodes: int) -> None:
    check_quorum("k", replicas, nodes, is_new=True)
    with pytest.raises(ConfigurationError, match=f"needs {replicas // 2 + 1} of them"):
        check_quorum("k", replicas, replicas // 2, is_new=True)


def test_what_a_healthy_replica_gives_up_at_is_not_tried_again() -> None:
    text = "Operation failed - received 0 responses and 1 failures: {} from /127.0.0.1:7000"
    hopeless = translate(ReadFailure(text.format("READ_TOO_MANY_TOMBSTONES")), "reading rows")
    assert isinstance(hopeless, PermanentError)
    assert "tombstone_failure_threshold" in str(hopeless)
    assert isinstance(translate(ReadFailure(text.format("UNKNOWN")), "reading"), TransientError)
