"""Any SELECT that a person asks, its rows as plain values."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
from cassandra import InvalidRequest

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_answers import aware
from iot_pipeline.clients.cassandra_errors import DRIVER_ERRORS, translate
from iot_pipeline.core.times import in_utc


class Answer(msgspec.Struct, frozen=True):
    """Rows of a SELECT as plain values: numbers, text, lists, and maps by text.

    `is_cut` when there were more than asked for.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool


def run_select(client: CassandraClient, cql: str, limit: int) -> Answer:
    """Run a SELECT, tables named without a keyspace being the pipeline's; at most `limit` rows.

    Raises:
        PermanentError: Cassandra does not take the statement.
        CassandraUnavailableError: no answer.
    """
    doing = "running the SELECT"
    try:
        # There is none before `iot setup`. Cassandra says so: the driver may not have learnt of it.
        with suppress(InvalidRequest):
            client.session.set_keyspace(client.keyspace)
        result = client.session.execute(cql)
        columns = tuple(result.column_names or ())
        # Page by page: a SELECT of the whole table must not become memory.
        rows = [tuple(map(plain, row)) for row in islice(result, limit + 1)]
    except DRIVER_ERRORS as exc:
        raise translate(exc, doing) from exc
    return Answer(columns, rows[:limit], len(rows) > limit)


def plain(value: Any) -> Any:
    """A driver's value as JSON can carry it: instants in ISO 8601 UTC, bytes in hex."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return in_utc(aware(value), "milliseconds")
    if isinstance(value, (bytes, bytearray)):
        return "0x" + value.hex()
    if hasattr(value, "items"):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        return [plain(item) for item in value]
    return str(value)
