"""A node that failed a request for want of the others is asked last, for a while."""

from typing import Any

import pytest
from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    Unavailable,
    WriteTimeout,
    WriteType,
)
from cassandra.cluster import NoHostAvailable

from iot_pipeline.clients import cassandra
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_nodes import LonelyLast, PassedOver
from iot_pipeline.errors import CassandraUnavailableError, ConfigurationError
from iot_pipeline.settings import Settings

QUORUM = ConsistencyLevel.LOCAL_QUORUM
TOO_FEW = Unavailable("too few", consistency=QUORUM, required_replicas=2, alive_replicas=1)
LATE = WriteTimeout("late", write_type=WriteType.UNLOGGED_BATCH, consistency=QUORUM)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class InThisOrder:
    """A policy with one order for all."""

    def make_query_plan(self, working_keyspace=None, query=None):
        yield from "abc"


@pytest.mark.parametrize(
    ("error", "coordinator"),
    [
        (TOO_FEW, "a"),
        (LATE, "a"),
        # The driver's own: no node has answered, and the error says which one was asked.
        (OperationTimedOut({}, "a"), None),
    ],
)
def test_a_node_that_could_not_reach_the_others_is_asked_last_for_ten_seconds(error, coordinator):
    clock = Clock()
    passed_over = PassedOver(clock)
    policy = LonelyLast(InThisOrder(), passed_over)
    passed_over.note(error, coordinator)
    assert [*policy.make_query_plan()] == ["b", "c", "a"]
    clock.now = 9.9
    assert [*policy.make_query_plan()] == ["b", "c", "a"]
    clock.now = 10.0
    assert [*policy.make_query_plan()] == ["a", "b", "c"]


def test_where_all_nodes_fail_the_order_is_as_before_and_what_is_refused_says_nothing_of_a_node():
    passed_over = PassedOver(Clock())
    policy = LonelyLast(InThisOrder(), passed_over)
    passed_over.note(InvalidRequest("no such table"), "a")
    passed_over.note(TOO_FEW, None)
    assert [*policy.make_query_plan()] == ["a", "b", "c"]
    for node in "bca":
        passed_over.note(TOO_FEW, node)
    assert [*policy.make_query_plan()] == ["a", "b", "c"]


def test_a_node_that_fails_while_others_are_forgotten_is_remembered():
    clock = Clock()
    passed_over = PassedOver(clock)
    passed_over.note(TOO_FEW, "c")
    clock.now = 10.0

    class FailsMeanwhile(dict):
        """The driver's thread notes a node just after the others were looked at."""

        def items(self):
            seen = [*super().items()]
            passed_over.note(TOO_FEW, "a")
            return seen

    passed_over._until = FailsMeanwhile(passed_over._until)
    assert [*passed_over.last(iter("abc"))] == ["b", "c", "a"]


class SlowNodes:
    """Stands for the driver's Cluster: takes a connection in after so many seconds."""

    def __init__(self, after: float, refusal: Exception | None = None) -> None:
        self.after, self.refusal = after, refusal
        self.patience: list[float] = []

    def __call__(self, *, connect_timeout: float, **_: Any) -> "SlowNodes":
        self.patience.append(connect_timeout)
        self.connect_timeout = connect_timeout
        return self

    def connect(self) -> object:
        if self.refusal is not None:
            raise self.refusal
        if self.connect_timeout < self.after:
            raise NoHostAvailable("Unable to connect to any servers", {})
        return object()

    def shutdown(self) -> None:
        return


@pytest.mark.parametrize(
    ("nodes", "after", "patience"),
    [(3, 0.1, [1.5]), (3, 3.0, [1.5, 5.0]), (1, 0.1, [5.0])],
)
def test_a_node_that_is_slow_to_take_a_connection_has_more_time_only_where_all_are(
    monkeypatch: pytest.MonkeyPatch, nodes: int, after: float, patience: list[float]
) -> None:
    cluster = SlowNodes(after)
    client = client_of(cluster, nodes, monkeypatch)
    client._open({})
    assert cluster.patience == patience
    # What is connected later has its whole time.
    assert cluster.connect_timeout == 5.0


@pytest.mark.parametrize(
    ("refusal", "error", "tries"),
    [
        (NoHostAvailable("none", {}), CassandraUnavailableError, 2),
        (AuthenticationFailed("wrong password"), ConfigurationError, 1),
    ],
)
def test_what_more_time_would_not_change_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception, error: type[Exception], tries: int
) -> None:
    cluster = SlowNodes(0.1, refusal)
    monkeypatch.setattr(cassandra, "why_cassandra_is_shut", lambda _: None)
    with pytest.raises(error):
        client_of(cluster, 3, monkeypatch).session  # noqa: B018
    assert len(cluster.patience) == tries


def client_of(cluster: SlowNodes, nodes: int, monkeypatch: pytest.MonkeyPatch) -> CassandraClient:
    monkeypatch.setattr(cassandra, "Cluster", cluster)
    hosts = tuple(f"127.0.0.{number}" for number in range(1, nodes + 1))
    return CassandraClient(Settings(contact_points=hosts))
