"""The quantities of a reading: what each is called, its unit, and which values are readings at all.

One owner: columns, JSON fields, limits, rollups, plots and checks are made from this list.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity that every reading has; its name is that of the JSON field and the CQL column.

    `least` and `greatest` are inclusive; a value outside makes the message a dead letter.
    """

    name: str
    unit: str
    least: float
    greatest: float


QUANTITIES = (
    Quantity("temperature", "°C", -100.0, 150.0),
    Quantity("humidity", "%", 0.0, 100.0),
)
