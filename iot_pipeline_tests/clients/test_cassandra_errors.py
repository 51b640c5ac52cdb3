"""What Cassandra answers is sorted by remedy: try again, or tell a person, or a bad row."""

import pytest
from cassandra import AuthenticationFailed, InvalidRequest
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import (
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ServerError,
    SyntaxException,
)

from iot_pipeline.clients.cassandra_errors import translate
from iot_pipeline.errors import (
    CassandraUnavailableError,
    ConfigurationError,
    RowsRefusedError,
    TransientError,
)


@pytest.mark.parametrize("kind", [ServerError, OverloadedErrorMessage, IsBootstrappingErrorMessage])
def test_a_node_in_trouble_is_no_refusal_of_the_rows(kind: type[Exception]) -> None:
    error = translate(kind(0, "java.lang.IllegalStateException: stopping", None), "writing rows")
    assert isinstance(error, TransientError)
    assert not isinstance(error, RowsRefusedError)


@pytest.mark.parametrize(
    "refusal", [InvalidRequest("Key length of 70000"), SyntaxException(0x2000, "line 1", None)]
)
def test_a_row_that_cassandra_does_not_take_is_refused(refusal: Exception) -> None:
    assert isinstance(translate(refusal, "writing rows"), RowsRefusedError)


def test_a_session_that_finds_no_host_alive_is_worth_another_try() -> None:
    found = NoHostAvailable("Unable to connect to any servers using keyspace x", ["127.0.0.1:9042"])
    error = translate(found, "connecting to Cassandra")
    assert isinstance(error, CassandraUnavailableError)
    assert "Unable to connect to any servers using keyspace x" in str(error)


def test_one_bad_password_is_no_outage() -> None:
    found = NoHostAvailable("Unable to connect", {"127.0.0.1:9042": AuthenticationFailed("no")})
    assert isinstance(translate(found, "connecting to Cassandra"), ConfigurationError)
