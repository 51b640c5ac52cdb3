"""The quantities of another pipeline than the default one, for tests with two in one process."""

from iot_pipeline.core.reading.quantities import Quantity


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
