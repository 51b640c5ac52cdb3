"""The values that a table keeps of those in a record: rounded to 32 bits in a `float` column.

For comparing a record with its row.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from iot_pipeline.core.reading.quantities import Quantity

_float32 = struct.Struct("<f")


def _nearest(value: float | None) -> float | None:
    if value is None:
        return None
    found: float = _float32.unpack(_float32.pack(value))[0]
    return found


def kept_columns(
    columns: Sequence[Iterable[Any]], quantities: Sequence[Quantity]
) -> list[Iterator[Any]]:
    """The values of each quantity as its column keeps them; each can be walked once."""
    return [
        map(_nearest, column) if quantity.type == "float" else iter(column)
        for column, quantity in zip(columns, quantities, strict=True)
    ]


def kept_values(values: Sequence[Any], quantities: Sequence[Quantity]) -> tuple[Any, ...]:
    """The same of the values of one reading."""
    return tuple(
        _nearest(value) if quantity.type == "float" else value
        for value, quantity in zip(values, quantities, strict=True)
    )
