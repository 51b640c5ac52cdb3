"""How warm a place is at a time: the day, the week, and weather that neighbours share.

Belongs here: curves of time alone, without devices and noise. Does not belong here: what a device
makes of them (`core.simulator.measuring`). All of it is a function of scenario and seed: ask
for the same time twice and the answer is the same, in whatever order.
"""

import math

from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.scenarios import Group, Weather
from iot_pipeline.core.times import duration_us

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_WEEK_US = 7 * _DAY_US
# 1970-01-01 was a Thursday: Saturday's midnight to Sunday's is the weekend's middle.
_WEEKEND_US = 3 * _DAY_US
# Between two of these a curve is a straight line: no curve of ours bends in ten seconds.
STEP_US = 10_000_000
# Waves of these lengths, in units of `changes_in`, with these shares of the swing: their ratios are
# no fractions, so that the sum does not repeat within years.
_WAVES = ((2.0, 0.4), (3.236, 0.3), (5.193, 0.2), (9.425, 0.1))
# How much of the weather is the place's own.
_LOCAL = 0.25
_Wave = tuple[float, float, float]


def steepest_celsius_per_second(group: Group, weather: Weather) -> float:
    """No clean device of the group warms or cools faster, noise apart."""
    temperature = group.temperature
    waves = sum(
        weather.swing * share * 2 * math.pi / (length * duration_us(weather.changes_in))
        for length, share in _WAVES
    )
    day = temperature.daily * 2 * math.pi / _DAY_US
    week = abs(temperature.weekly) * 2 * math.pi / _WEEK_US
    # A device follows its place by a factor of 1.2 at most.
    return 1.2e6 * (day + week + group.outdoors * waves)


class Climate:
    """How far one place is off its mean temperature: a straight line in each step of time.

    Guarantees: within daily + |weekly| + outdoors × swing of 0.
    """

    def __init__(self, group: Group, place: str, weather: Weather, seed: int) -> None:
        self._daily = group.temperature.daily
        self._peak_us = group.temperature.peak_hour * _HOUR_US
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
        celsius = self._daily * math.cos(2 * math.pi * (at_us - self._peak_us) / _DAY_US)
        celsius += self._weekly * math.cos(2 * math.pi * (at_us - _WEEKEND_US) / _WEEK_US)
        for size, per_us, phase in self._waves:
            celsius += size * math.sin(at_us * per_us + phase)
        return celsius


def _waves(chance: Chance, changes_us: int, swing: float) -> list[_Wave]:
    """(°C, radians per microsecond, phase) of each wave."""
    return [
        (swing * share, 2 * math.pi / (length * changes_us), 2 * math.pi * chance.draw())
        for length, share in _WAVES
    ]
