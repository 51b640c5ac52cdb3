"""The quantities of another pipeline than the default one, for tests with two in one process."""

from iot_pipeline.core.reading.quantities import NO_GREATEST, NO_LEAST, Quantity, QuantityType


def air_quantity(name: str, unit: str, greatest: float) -> Quantity:
    return Quantity(
        name,
        unit,
        least=0,
        greatest=greatest,
        plausible_least=0,
        plausible_greatest=greatest / 2,
        jump=greatest / 10,
        jump_per_minute=greatest / 100,
        apart=greatest / 4,
    )


AIR = (
    air_quantity("co2", "ppm", 10_000),
    air_quantity("pm25", "µg/m³", 1_000),
    air_quantity("noise", "dB", 140),
)


def other_quantity(name: str, kind: QuantityType) -> Quantity:
    """One of another type, without limits: as a declaration has it that says none."""
    return Quantity(
        name,
        "",
        least=NO_LEAST,
        greatest=NO_GREATEST,
        plausible_least=NO_LEAST,
        plausible_greatest=NO_GREATEST,
        jump=NO_GREATEST,
        jump_per_minute=0,
        apart=NO_GREATEST,
        type=kind,
    )


# One of each type.
KINDS = (
    other_quantity("state", "text"),
    air_quantity("co2", "ppm", 10_000),
    other_quantity("level", "float"),
    other_quantity("errors", "int"),
    other_quantity("ticks", "bigint"),
    other_quantity("is_open", "boolean"),
)
