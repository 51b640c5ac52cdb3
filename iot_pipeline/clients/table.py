"""What clients of one table are made from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from iot_pipeline.clients.cassandra import PLAIN_TUPLES, SERIAL, CassandraClient
from iot_pipeline.clients.cassandra_answers import PendingAnswer

T = TypeVar("T")


class Table:
    """What clients of tables share: statements that name the keyspace as `{ks}`, and asking.

    Raises:
        CassandraUnavailableError: no answer.
        SchemaMismatchError: no such table.
    """

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""
        self._client.wait(timeout_seconds)

    def _cql(self, template: str) -> str:
        return template.format(ks=self._client.keyspace)

    def _run(
        self, template: str, values: Sequence[Any] = (), *, doing: str, **how: Any
    ) -> list[Any]:
        """Ask and wait; `how` is as `CassandraClient.execute` has it."""
        return self._client.execute(self._cql(template), values, doing=doing, **how)

    def _insert(
        self,
        table: str,
        row: Mapping[str, Any],
        *,
        doing: str,
        more: str = "",
        more_values: Sequence[Any] = (),
    ) -> list[Any]:
        """Write a row, its values by the names of their columns; `more` ends the statement."""
        marks = ", ".join("?" * len(row))
        cql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks}) {more}"
        return self._run(cql, (*row.values(), *more_values), doing=doing)

    def _send(
        self,
        statements: Iterable[tuple[str, Sequence[Any]]],
        doing: str,
        *,
        is_conditional: bool = False,
    ) -> PendingAnswer[Any]:
        """Start writing these (template, values) in one batch; a conditional one is never resent.

        `statements` are made when they are sent, so what is wrong with them is an answer too.
        """

        def make() -> Any:
            client = self._client
            batch = client.conditional_batch() if is_conditional else client.unlogged_batch()
            for template, values in statements:
                batch.add(self._prepare(template), values)
            return batch

        return self._client.start(make, doing)

    def _prepare(self, template: str) -> Any:
        return self._client.prepare(self._cql(template))

    def _start(
        self,
        template: str,
        values: Sequence[Any],
        doing: str,
        find: Callable[[Sequence[Any]], T],
    ) -> PendingAnswer[T]:
        """Ask without waiting; `find` gets rows as plain tuples."""
        return self._client.start(
            lambda: self._prepare(template).bind(values), doing, find, PLAIN_TUPLES
        )

    def _start_serial(
        self, template: str, values: Sequence[Any], doing: str
    ) -> PendingAnswer[Sequence[Any]]:
        """Ask for what Paxos has accepted, without waiting; rows as named tuples."""

        def make() -> Any:
            bound = self._prepare(template).bind(tuple(values))
            bound.consistency_level = SERIAL[self._client.settings.serial_consistency]
            return bound

        return self._client.start(make, doing)
