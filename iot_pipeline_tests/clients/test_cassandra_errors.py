"""What Cassandra answers is sorted by remedy: try again, or tell a person, or a bad row."""

import pytest
from cassandra import (
    AuthenticationFailed,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    Unavailable,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionShutdown, DefaultEndPoint
from cassandra.policies import SimpleConvictionPolicy
from cassandra.pool import Host, NoConnectionsAvailable
from cassandra.protocol import (
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ServerError,
    SyntaxException,
)

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_errors import translate
from iot_pipeline.errors import (
    CassandraUnavailableError,
    ConfigurationError,
    RowsRefusedError,
    TransientError,
)
from iot_pipeline.settings import Settings


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
    assert str(error) == (
        "connecting to Cassandra: Cassandra at 127.0.0.1:9042 does not answer (not connected)"
    )


def test_one_bad_password_is_no_outage() -> None:
    found = NoHostAvailable("Unable to connect", {"127.0.0.1:9042": AuthenticationFailed("no")})
    assert isinstance(translate(found, "connecting to Cassandra"), ConfigurationError)


REFUSED = ConnectionRefusedError(
    111, "Tried connecting to [('127.0.0.1', 9042)]. Last error: Connection refused"
)
NODE = DefaultEndPoint("127.0.0.1", 9042)


@pytest.mark.parametrize(
    ("driver_error", "said"),
    [
        (
            NoHostAvailable("Unable to connect to any servers", {"127.0.0.1:9042": REFUSED}),
            "Cassandra at 127.0.0.1:9042 does not answer (connection refused)",
        ),
        (
            NoHostAvailable("Unable", {NODE: ConnectionShutdown("Connection to 127.0.0.1 lost")}),
            "Cassandra at 127.0.0.1:9042 does not answer (the connection was closed)",
        ),
        (
            NoHostAvailable(
                "Unable", {Host(NODE, SimpleConvictionPolicy): NoConnectionsAvailable("x")}
            ),
            "Cassandra at 127.0.0.1:9042 does not answer (not connected)",
        ),
        (
            NoHostAvailable("Unable", {"10.0.0.1:9042": REFUSED, "10.0.0.2:9042": TimeoutError()}),
            "none of 2 Cassandra nodes answers: 10.0.0.1:9042 (connection refused), "
            "10.0.0.2:9042 (no answer in time)",
        ),
        (
            OperationTimedOut({"127.0.0.1:9042": "Client request timeout"}, NODE),
            "Cassandra did not answer in time",
        ),
        (
            Unavailable("x", required_replicas=2, alive_replicas=1),
            "Cassandra has too few replicas alive: 1 of the 2 that this request needs",
        ),
        (
            ReadTimeout("x", received_responses=0, required_responses=1),
            "Cassandra did not answer in time: 0 of the 1 replicas that this request needs did",
        ),
        (
            ConnectionBusy("Connection 140213 to 127.0.0.1:9042 is at the max in_flight"),
            "Cassandra could not be asked: too many requests on their way",
        ),
        (
            OverloadedErrorMessage(0x1001, "Too many pending compactions", None),
            "Cassandra could not do it now: Too many pending compactions",
        ),
    ],
    ids=[
        "refused",
        "shut down",
        "a host's pool is gone",
        "two nodes",
        "no answer",
        "too few replicas",
        "replicas in time",
        "busy",
        "overloaded",
    ],
)
def test_an_outage_is_told_in_one_plain_line(driver_error: Exception, said: str) -> None:
    assert str(translate(driver_error, "reading the checkpoint")) == (
        f"reading the checkpoint: {said}"
    )


def test_a_name_that_nobody_knows_is_a_wrong_setting_when_it_is_used_too() -> None:
    settings = Settings.from_env({"IOT_CONTACT_POINTS": "no-such-host.invalid"})
    with pytest.raises(ConfigurationError, match="no host that IOT_CONTACT_POINTS names"):
        CassandraClient(settings).execute("SELECT 1", doing="asking")
