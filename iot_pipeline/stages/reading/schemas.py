"""The schemas that messages were written by are asked for before the messages are read."""

from collections.abc import Iterable
from functools import partial

from iot_pipeline.core.reading.formats import SchemaBook
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.stages.ports.log import SchemaSource
from iot_pipeline.stages.requests import retry_transient


def learn_schemas(
    rules: ReadingRules,
    source: SchemaSource,
    values: Iterable[bytes | None],
    retry_seconds: float,
) -> None:
    """Have the rules know every schema that these messages name; asks for each id once.

    Raises:
        TransientError: the registry stayed away for `retry_seconds`; nothing is judged without it.
        PermanentError: it refuses us.
    """
    if rules.declaration.format.asks_registry:
        ask_for_schemas(rules.schemas, source, values, retry_seconds)


def ask_for_schemas(
    book: SchemaBook, source: SchemaSource, values: Iterable[bytes | None], retry_seconds: float
) -> None:
    """The same, whatever is declared."""
    for schema_id in book.missing(values):
        book.add(schema_id, retry_transient(partial(source.find, schema_id), retry_seconds))
