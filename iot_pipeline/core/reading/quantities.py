"""The quantities of a reading: name, unit, and every limit that is about one of them.

One owner: JSON fields, statements, settings, checks, rollups, tables and pictures are made from
QUANTITIES. Wherever values stand without names, they stand in its order. A new quantity also takes
a migration that adds its columns, and a curve in `core.simulator.scenarios`. Messages from before
it lack its field: read again, they are dead letters. Does not belong here: how weather makes a
value (`core.simulator.weather`).
"""

import sys
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

# No limit: the farthest that a double reaches, and no message says more.
NO_LEAST, NO_GREATEST = -sys.float_info.max, sys.float_info.max

# The CQL type of a quantity's column.
QuantityType = Literal["double", "float", "int", "bigint", "boolean", "text"]


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

    `type` is its column's in Cassandra. An `optional` quantity may be absent from a reading.

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

    @property
    def title(self) -> str:
        return f"{self.name}, {self.unit}"

    def with_unit(self, value: float) -> str:
        """A value as a person reads it, such as 21.5 °C."""
        return f"{value:g} {self.unit}"

    def setting_of(self, limit: str) -> str:
        """The setting that changes one of LIMITS, such as plausible_humidity_min."""
        return setting_of(self.name, limit)


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
