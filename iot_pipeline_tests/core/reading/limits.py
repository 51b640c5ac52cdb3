"""Quantities with other limits than the default ones."""

from dataclasses import replace
from typing import Any

from iot_pipeline.core.reading.declaration import SEED, Declaration
from iot_pipeline.core.reading.quantities import QUANTITIES, Quantity


def limited(**limits: dict[str, Any]) -> tuple[Quantity, ...]:
    """All quantities, those named with these limits: limited(temperature={"greatest": 10})."""
    return tuple(replace(item, **limits.pop(item.name, {})) for item in QUANTITIES)


def limited_seed(**limits: dict[str, Any]) -> Declaration:
    """The original message with other limits."""
    return SEED.with_quantities(limited(**limits))
