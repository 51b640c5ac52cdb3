"""A node that failed a request for want of the others is asked last, for a while."""

import pytest
from cassandra import (
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    Unavailable,
    WriteTimeout,
    WriteType,
)

from iot_pipeline.clients.cassandra_nodes import LonelyLast, PassedOver

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
