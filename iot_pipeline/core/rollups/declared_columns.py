"""The columns that follow from the declared quantities: what stands in a `.cql` file's places.

A `.cql` file says everything else about a table. Its line `${quantities},` has a column of each
quantity, `${statistics},` one of each statistic of each.
"""

from collections.abc import Sequence

from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.rollups.statistics import types_of


def declared_columns(quantities: Sequence[Quantity]) -> dict[str, dict[str, str]]:
    """By the name of a place the type of each column, in the order of the quantities."""
    return {
        "quantities": {quantity.name: quantity.type for quantity in quantities},
        "statistics": types_of(quantities),
    }
