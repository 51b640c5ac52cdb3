"""The contract of kept states, on real Cassandra; and what ten thousand of them cost."""

import uuid

import pytest

from iot_pipeline.clients.device_states import CassandraDeviceStates
from iot_pipeline.errors import SchemaMismatchError
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.contracts_fleet import DeviceStateStoreContract, write

pytestmark = pytest.mark.services


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: states are not of a topic."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture
def states(pipeline: Pipeline) -> CassandraDeviceStates:
    return CassandraDeviceStates(pipeline.connections.cassandra)


class TestCassandraDeviceStates(DeviceStateStoreContract):
    pass


def test_a_keyspace_of_an_older_version_says_that_the_table_is_missing(
    pipeline: Pipeline, states: CassandraDeviceStates
) -> None:
    client = pipeline.connections.cassandra
    client.execute(f"DROP TABLE {client.keyspace}.device_states", doing="dropping a table")
    with pytest.raises(SchemaMismatchError):
        states.read_some(10)
    with pytest.raises(SchemaMismatchError):
        write(states, {"a": b"x"})


def test_ten_thousand_states_are_read_and_written_whole(
    states: CassandraDeviceStates,
) -> None:
    content = {f"device_{n}": bytes(300) for n in range(10_000)}
    write(states, content)
    assert states.read_some(10_000) == (content, True)
