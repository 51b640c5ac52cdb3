"""Read messages by the declaration that was present when their range was ingested."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.reading.by_path import PathReader, Told
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.messages import Headers, Ignored, Reading, ReadingRules, Rejection
from iot_pipeline.core.reading.quantities import Quantity


def all_quantities(declarations: Sequence[Declaration]) -> tuple[Quantity, ...]:
    """The quantities of all of these, each once, the first declaration's first.

    One that not every declaration has is optional: rows are there without it.
    """
    found: dict[str, Quantity] = {}
    optional: set[str] = set()
    for declaration in declarations:
        for quantity in declaration.quantities:
            found.setdefault(quantity.name, quantity)
            if quantity.optional:
                optional.add(quantity.name)
    for declaration in declarations:
        optional |= found.keys() - {quantity.name for quantity in declaration.quantities}
    return tuple(replace(quantity, optional=name in optional) for name, quantity in found.items())


class FormerReader(LogReader):
    """Reads by the declaration of then; its rows have the columns of all that are known.

    A message that is no reading by that one may be a row all the same: dead letters are replayed by
    the declaration of the day on which that is done. So those are asked about it, in turn.
    """

    def __init__(
        self, rules: ReadingRules, columns: Sequence[Quantity], others: Sequence[Declaration]
    ) -> None:
        super().__init__(rules)
        self.columns = tuple(columns)
        self._others = [PathReader(replace(rules, declaration=other)) for other in others]

    @property
    def all_rules(self) -> list[ReadingRules]:
        return [self.rules, *(other.rules for other in self._others)]

    def columns_of(self, readings: Sequence[Reading]) -> list[Iterator[Any]]:
        # Readings of another declaration may be among them.
        return [map(partial(_value, column.name), readings) for column in self.columns]

    def read(
        self,
        value: bytes | None,
        message_key: bytes | None = None,
        headers: Headers | None = None,
        produced_ms: int = 0,
    ) -> Told:
        told = super().read(value, message_key, headers, produced_ms)
        if not isinstance(told, Rejection):
            return told
        for other in self._others:
            found = other.read(value, message_key, headers, produced_ms)
            if not isinstance(found, Rejection | Ignored):
                return found
        return told


def _value(name: str, reading: Reading) -> Any:
    return getattr(reading, name, None)
