"""A quantity of a reading: its name, its unit, its type, and every limit that is about it.

Which quantities there are is declared for each pipeline (`core.reading.declaration`); what is made
of them (statements, columns, rollups, tables, checks, pictures) takes them as an argument. Wherever
values stand without names, they stand in their order. QUANTITIES are those of the original message.
Does not belong here: how weather makes a value (`core.simulator.weather`).
"""

import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

# No limit: the farthest that a double reaches, and no message says more.
NO_LEAST, NO_GREATEST = -sys.float_info.max, sys.float_info.max

# The CQL type of a quantity's column.
QuantityType = Literal["double", "float", "int", "bigint", "boolean", "text"]
# What a column of numbers holds, both ends inclusive; any double that is a number is one.
RANGES: dict[QuantityType, tuple[float, float]] = {
    "double": (NO_LEAST, NO_GREATEST),
    "float": (-3.4028234663852886e38, 3.4028234663852886e38),
    "int": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}


def limit(
    meaning: str, default: float | Any = MISSING, *, setting: str = "", **bounds: float
) -> Any:
    """A field of limits that a setting may change.

    Args:
        meaning: the setting's description; {unit} is the quantity's.
        default: without it each value of the class says its own.
        setting: its name, where it is not the field's; {name} is the quantity's.
        bounds: what the value must be, as pydantic says it: gt, ge, lt, le.
    """
    return field(
        default=default, metadata={"meaning": meaning, "setting": setting, "bounds": bounds}
    )


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity that every reading has; its name is that of the JSON field and the CQL column.

    Limits are inclusive. A value outside `least` to `greatest` makes the message a dead letter; one
    outside `plausible_least` to `plausible_greatest` is stored and noticed. Two readings of a
    device may differ by `jump`, and by `jump_per_minute` more for each minute between them; `apart`
    is how far a device may be from the middle of its group. Values are shown and simulated with
    `decimals`.

    `type` is its column's in Cassandra; what is no number has no limits. An `optional` quantity may
    be absent from a reading.

    `paths` say where a message has it: the names on the way to it, the first path that leads to
    something counts; empty: its own name. What stands there times `scale` plus `shift` is the
    value.
    """

    name: str
    unit: str
    least: float = limit("{unit}; below is a dead letter", setting="{name}_min")
    greatest: float = limit("{unit}; above is a dead letter", setting="{name}_max")
    plausible_least: float = limit("{unit}; below is implausible", setting="plausible_{name}_min")
    plausible_greatest: float = limit(
        "{unit}; above is implausible", setting="plausible_{name}_max"
    )
    jump: float = limit("{unit} between two readings, at once", setting="jump_{name}", gt=0)
    jump_per_minute: float = limit(
        "{unit} more for each minute between two readings", setting="jump_{name}_per_minute", ge=0
    )
    apart: float = limit(
        "{unit} a device may differ from the middle of its group", setting="deviation_{name}", gt=0
    )
    decimals: int = 2
    type: QuantityType = "double"
    optional: bool = False
    paths: tuple[tuple[str, ...], ...] = ()
    scale: float = 1.0
    shift: float = 0.0

    @property
    def places(self) -> tuple[tuple[str, ...], ...]:
        """Where a message may have it, the first that leads to something counts; at least one."""
        return self.paths or ((self.name,),)

    @property
    def is_converted(self) -> bool:
        return self.scale != 1 or self.shift != 0

    # Not a property: asked for each reading that is looked at closely.
    is_number: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_number", self.type in RANGES)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest that a number may be: by its limits, and in its column."""
        least, greatest = RANGES[self.type]
        return max(least, self.least), min(greatest, self.greatest)

    @property
    def has_limits(self) -> bool:
        """Whether a number may not be any that its column can hold."""
        return self.is_number and (self.least, self.greatest) != RANGES[self.type]

    @property
    def title(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def heading(self) -> str:
        """Of its column in a table."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def with_unit(self, value: float | str) -> str:
        """A value as a person reads it, such as 21.5 °C."""
        shown = self.shown(value)
        return f"{shown} {self.unit}" if self.unit else shown

    def shown(self, value: float | str) -> str:
        """A value without its unit; text as the device sent it."""
        if self.is_number:
            return f"{value:g}"
        return str(value).lower() if isinstance(value, bool) else str(value)

    def shown_if_any(self, value: float | str | None) -> str | None:
        """The same; None where a reading does not have it."""
        return None if value is None else self.shown(value)

    def setting_of(self, limit: str) -> str:
        """The setting that changes one of LIMITS, such as plausible_humidity_min."""
        return setting_of(self.name, limit)


def are_in_parts(quantities: Sequence[Quantity]) -> bool:
    """Whether two messages may tell one reading in parts: one need not have every quantity."""
    return any(quantity.optional for quantity in quantities)


def first_number(quantities: Sequence[Quantity]) -> Quantity:
    """The quantity that stands for a device where only one is shown; one is a number at least."""
    return next(quantity for quantity in quantities if quantity.is_number)


def setting_of(name: str, limit: str) -> str:
    """The setting that changes one of LIMITS of the quantity of this name."""
    return str(LIMITS[limit]["setting"].format(name=name))


# The fields of Quantity that are settings, by their names there.
LIMITS = {item.name: item.metadata for item in fields(Quantity) if item.metadata}

QUANTITIES = (
    Quantity(
        "temperature",
        "°C",
        least=-100,
        greatest=150,
        plausible_least=-40,
        plausible_greatest=50,
        jump=5,
        jump_per_minute=1,
        apart=12,
    ),
    Quantity(
        "humidity",
        "%",
        least=0,
        greatest=100,
        plausible_least=1,
        plausible_greatest=100,
        jump=15,
        jump_per_minute=4,
        apart=35,
    ),
)
