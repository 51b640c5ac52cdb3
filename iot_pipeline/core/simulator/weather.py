"""How warm a place is at a time: the day, the week, and weather that neighbours share.

Curves of time alone, a function of scenario and seed: the same time asked for twice, in whatever
order, has the same answer. What a device makes of them: `core.simulator.measuring`.
"""

import math

from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.scenarios import Group, Weather
from iot_pipeline.core.times import US_PER_DAY, US_PER_HOUR, duration_us

_WEEK_US = 7 * US_PER_DAY
# 1970-01-01 was a Thursday: Saturday's midnight to Sunday's is the weekend's middle.
_WEEKEND_US = 3 * US_PER_DAY
# Between two of these a curve is a straight line: no curve of ours bends in ten seconds.
STEP_US = 10_000_000
# Waves of these lengths, in units of `changes_in`, with these shares of the swing: their ratios are
# no fractions, so that the sum does not repeat within years.
WAVES = ((2.0, 0.4), (3.236, 0.3), (5.193, 0.2), (9.425, 0.1))
# How much of the weather is the place's own.
_LOCAL = 0.25
_Wave = tuple[float, float, float]


class Climate:
    """How far one place is off its mean temperature: a straight line in each step of time.

    Guarantees: within daily + |weekly| + outdoors × swing of 0.
    """

    def __init__(self, group: Group, place: str, weather: Weather, seed: int) -> None:
        self._daily = group.temperature.daily
        self._peak_us = group.temperature.peak_hour * US_PER_HOUR
        self._weekly = group.temperature.weekly
        changes_us = duration_us(weather.changes_in)
        region = _waves(Chance(seed, "weather"), changes_us, weather.swing * (1 - _LOCAL))
        local = _waves(Chance(seed, "weather of", place), changes_us, weather.swing * _LOCAL)
        self._waves = [
            (group.outdoors * size, per_us, phase) for size, per_us, phase in region + local
        ]

    def line(self, step: int) -> tuple[float, float]:
        """°C above the mean of the place's group when a step begins, and how much more each µs."""
        begin = self._exactly(step * STEP_US)
        return begin, (self._exactly((step + 1) * STEP_US) - begin) / STEP_US

    def _exactly(self, at_us: int) -> float:
        celsius = self._daily * math.cos(2 * math.pi * (at_us - self._peak_us) / US_PER_DAY)
        celsius += self._weekly * math.cos(2 * math.pi * (at_us - _WEEKEND_US) / _WEEK_US)
        for size, per_us, phase in self._waves:
            celsius += size * math.sin(at_us * per_us + phase)
        return celsius


def _waves(chance: Chance, changes_us: int, swing: float) -> list[_Wave]:
    """(°C, radians per microsecond, phase) of each wave."""
    return [
        (swing * share, 2 * math.pi / (length * changes_us), 2 * math.pi * chance.draw())
        for length, share in WAVES
    ]
