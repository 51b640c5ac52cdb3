"""Which node of Cassandra is asked first: one with the rows, but not one that is alone.

A node that the others cannot be reached from goes on taking requests, and fails each of them; the
driver sees that it lives and goes on asking it. By itself it would ask it first each time, for all
rows that the node has.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from cassandra import OperationTimedOut, Timeout, Unavailable
from cassandra.policies import WrapperPolicy

# Then it is tried again, with what is on its way at that moment.
_PASSED_OVER_SECONDS = 10.0


class PassedOver:
    """Nodes that failed a request for want of others, or did not answer it, a moment ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[Any, float] = {}

    def note(self, exc: BaseException, coordinator: Any) -> None:
        """Take in why a request failed, and the node that was asked, if one was."""
        node = exc.last_host if isinstance(exc, OperationTimedOut) else coordinator
        if node is not None and isinstance(exc, (OperationTimedOut, Timeout, Unavailable)):
            self._until[node] = self._clock() + _PASSED_OVER_SECONDS

    def last(self, nodes: Iterator[Any]) -> Iterator[Any]:
        """The same nodes, those that are passed over behind the others."""
        if not self._until:  # as always: this is asked for each request
            return nodes
        now = self._clock()
        # Never a new dict: the driver's thread notes failed requests in this one meanwhile.
        for node, at in list(self._until.items()):
            if at <= now:
                self._until.pop(node, None)
        return iter(sorted(nodes, key=lambda node: node in self._until))


class LonelyLast(WrapperPolicy):  # type: ignore[misc]
    """The order of another policy, but for nodes that are passed over."""

    def __init__(self, child: Any, passed_over: PassedOver) -> None:
        super().__init__(child)
        self._passed_over = passed_over

    def check_supported(self) -> None:
        self._child_policy.check_supported()

    def make_query_plan(self, working_keyspace: Any = None, query: Any = None) -> Iterator[Any]:
        return self._passed_over.last(self._child_policy.make_query_plan(working_keyspace, query))
