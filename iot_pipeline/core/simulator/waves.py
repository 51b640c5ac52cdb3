"""How a quantity is simulated that no scenario describes: a slow wave within what is plausible."""

from iot_pipeline.core.reading.quantities import NO_GREATEST, NO_LEAST, Quantity
from iot_pipeline.core.simulator.scenarios import Group, QuantityCurve, Weather

# Of a quantity without any limit.
_PLAIN_SPAN = 100.0


class Wave(QuantityCurve, frozen=True):
    """A value that follows the weather of its place, `per_degree` for each °C."""

    per_degree: float = 0.0

    @property
    def per_celsius(self) -> float:
        """How much each °C above the mean temperature adds to it."""
        return self.per_degree


def curve_of(group: Group, weather: Weather, quantity: Quantity) -> QuantityCurve:
    """The scenario's own curve where it has one of this name and unit, else a wave."""
    if (told := group.curve(quantity)) is not None:
        return told
    least, span = _plausible(quantity)
    temperature = group.temperature
    # A device's own gain is 1.2 at most (`measuring`).
    swing = 1.2 * (temperature.daily + abs(temperature.weekly) + group.outdoors * weather.swing)
    return Wave(
        mean=least + span / 2,
        bias=min(span / 50, quantity.apart / 8),
        noise=min(span / 200, quantity.jump / 8),
        per_degree=span / 4 / swing if swing else 0.0,
    )


def span_of(quantity: Quantity) -> float:
    """How far plausible values are apart; 100 where nothing limits them."""
    return _plausible(quantity)[1]


def _plausible(quantity: Quantity) -> tuple[float, float]:
    """The least plausible value, and how far the greatest is above it."""
    least = max(quantity.plausible_least, quantity.least)
    greatest = min(quantity.plausible_greatest, quantity.greatest)
    if least == NO_LEAST:
        least = 0.0 if greatest == NO_GREATEST else greatest - _PLAIN_SPAN
    if greatest == NO_GREATEST:
        greatest = least + _PLAIN_SPAN
    return least, greatest - least
