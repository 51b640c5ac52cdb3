"""What the devices of a scenario measure when nothing is wrong with them, many readings at a time.

numpy computes whole blocks, 0.2 µs a reading; one by one they cost more than everything else that a
simulation does.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.simulator.chance import GOLDEN, seed_of
from iot_pipeline.core.simulator.scenarios import FleetDevice, Group, QuantityCurve, Scenario
from iot_pipeline.core.simulator.waves import curve_of
from iot_pipeline.core.simulator.weather import STEP_US, Climate

# Readings computed at once: a millisecond of work, and enough to make numpy's overhead small.
_BLOCK = 8_192
_NOISES = 1 << 14
# Odd, so that a device walks through the whole table before it repeats.
_NOISE_STRIDE = 7_919
_JITTER_STRIDE = 5_953

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """Readings in the order in which they are measured, one array each.

    `at_us` is microseconds since 1970; `devices` are indices into the fleet's devices, and of
    readings at the same time the lower index comes first; `values` has a column per quantity.
    """

    at_us: _Ints
    devices: _Ints
    values: tuple[_Floats, ...]

    def pick(self, which: slice | _Ints) -> "Measured":
        values = tuple(column[which] for column in self.values)
        return Measured(self.at_us[which], self.devices[which], values)


@dataclass(slots=True)
class Measuring:
    """The clean readings of a scenario's devices, block after block.

    `devices` are in the scenario's order. Event times are in [start_us, end_us) and multiples of
    `grid_us`, which `start_us` has to be, too.

    Guarantees: a reading is a function of scenario, seed, start and its number, so a later end
    only adds readings; memory for the devices and a few blocks, however long it goes on.
    """

    scenario: Scenario
    devices: Sequence[FleetDevice]
    _: KW_ONLY
    seed: int
    start_us: int
    end_us: int
    grid_us: int
    rules: ReadingRules
    noise: _Floats = field(init=False)
    uniform: _Floats = field(init=False)
    ahead_us: int = field(init=False)
    _rows: list["_Sensors"] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        # Bounded within -1 to 1, unlike a Gaussian: a clean fleet has no outliers.
        draw = random.Random(f"iot_pipeline scenario noise {self.seed}").random
        self.noise = np.array([(draw() + draw() + draw() + draw()) / 2 - 1 for _ in range(_NOISES)])
        self.uniform = np.array([draw() for _ in range(_NOISES)])
        # All groups measure about this far ahead, so that no block waits for another's.
        self.ahead_us = int(_BLOCK * 1e6 / self.scenario.readings_per_second)
        first, weather = 0, self.scenario.weather
        for group in self.scenario.groups:
            climates = [Climate(group, place, weather, self.seed) for place in group.own_places]
            for turn in range(0, group.devices, _BLOCK):
                some = self.devices[first + turn : first + min(turn + _BLOCK, group.devices)]
                self._rows.append(_Sensors(self, group, climates, some, turn, first + turn))
            first += group.devices

    def blocks(self) -> Iterator[Measured]:
        """Every reading, in order; a block is never empty."""
        # What is not yet measured lies at or after the first of these times.
        upcoming = [(row.next_us, number) for number, row in enumerate(self._rows)]
        heapq.heapify(upcoming)
        while upcoming:
            _, number = upcoming[0]
            row = self._rows[number]
            row.measure()
            if row.next_us < self.end_us:
                heapq.heapreplace(upcoming, (row.next_us, number))
            else:
                heapq.heappop(upcoming)
            until_us = min(upcoming[0][0], self.end_us) if upcoming else self.end_us
            parts = [part for row in self._rows if (part := row.take(until_us)) is not None]
            if parts:
                yield _in_order(parts)


class _Sensors:
    """Up to `_BLOCK` neighbours of one group; of their readings a row is a round of all of them."""

    def __init__(
        self,
        common: Measuring,
        group: Group,
        climates: Sequence[Climate],
        devices: Sequence[FleetDevice],
        first_turn: int,
        first_index: int,
    ) -> None:
        count = len(devices)
        turns = np.arange(first_turn, first_turn + count)
        states = np.array(
            [seed_of(common.seed, "device", device.device_id) for device in devices], np.uint64
        )
        self._common = common
        self._climates = climates
        self._indices = np.arange(first_index, first_index + count)
        self._places = turns % len(climates)
        self._gain = 0.8 + 0.4 * draw_all(states)
        self._jitter_seats = _seats(states)
        self._quantities = [
            _OfQuantity(limits, curve_of(group, common.scenario.weather, limits), states)
            for limits in common.rules.quantities
        ]
        self._interval_us = Fraction(group.interval_us)
        self._jitter_us = group.jitter * group.interval_us
        spread_us = (1 - group.jitter) * float(group.interval_us) * turns / group.devices
        self._offsets_us = spread_us.astype(np.int64)
        self._round = 0
        self._rounds_at_once = max(
            1, min(_BLOCK // count, int(common.ahead_us / self._interval_us))
        )
        self._measured: Measured | None = None

    @property
    def next_us(self) -> int:
        """Nothing that is not measured yet is of a time before this one."""
        return self._round_us(self._round) + int(self._offsets_us[0])

    def measure(self) -> None:
        """Measure some more rounds: what was not taken yet stays."""
        common = self._common
        first = self._round
        self._round += self._rounds_at_once
        starts_us = [self._round_us(number) for number in range(first, self._round)]
        at_us = np.array(starts_us)[:, None] + self._offsets_us
        # Every device has its own seat in the tables, and moves on with each round.
        moves = np.arange(first + 1, self._round + 1)[:, None]
        if self._jitter_us:
            jitter = common.uniform[(self._jitter_seats + moves * _JITTER_STRIDE) % _NOISES]
            at_us += (self._jitter_us * jitter).astype(np.int64)
        at_us -= at_us % common.grid_us
        swing = self._gain * self._climate(at_us)
        moved = moves * _NOISE_STRIDE
        new = Measured(
            at_us.ravel(),
            np.broadcast_to(self._indices, at_us.shape).ravel(),
            tuple(
                quantity.values(swing, common.noise[(quantity.seats + moved) % _NOISES])
                for quantity in self._quantities
            ),
        )
        self._measured = _in_order([new] if self._measured is None else [self._measured, new])

    def take(self, until_us: int) -> Measured | None:
        """What was measured before that time, in order; None for nothing."""
        measured = self._measured
        if measured is None or measured.at_us[0] >= until_us:
            return None
        end = int(np.searchsorted(measured.at_us, until_us))
        self._measured = measured.pick(slice(end, None)) if end < len(measured.at_us) else None
        return measured.pick(slice(end))

    def _round_us(self, number: int) -> int:
        # Whole numbers: floats would be off by microseconds in a long run, and the bytes with them.
        interval = self._interval_us
        return self._common.start_us + number * interval.numerator // interval.denominator

    def _climate(self, at_us: _Ints) -> _Floats:
        """How far each reading's place is off its mean at its time, in °C."""
        steps = at_us // STEP_US
        places = len(self._climates)
        asked, which = np.unique(steps * places + self._places, return_inverse=True)
        begins, slopes = [], []
        for step, place in zip(*(part.tolist() for part in np.divmod(asked, places)), strict=True):
            begin, slope = self._climates[place].line(step)
            begins.append(begin)
            slopes.append(slope)
        which = which.reshape(at_us.shape)
        celsius: _Floats = np.array(begins)[which]
        celsius += np.array(slopes)[which] * (at_us - steps * STEP_US)
        return celsius


class _OfQuantity:
    """One quantity of some sensors: each is off by a bias of its own, and scatters."""

    def __init__(
        self, limits: Quantity, curve: QuantityCurve, states: npt.NDArray[np.uint64]
    ) -> None:
        self._limits = limits
        self._curve = curve
        self._level = curve.mean + curve.bias * (2 * draw_all(states) - 1)
        self.seats = _seats(states)

    def values(self, swing: _Floats, noise: _Floats) -> _Floats:
        """What they measure, within a reading's limits and decimals; `swing` in °C, `noise` ±1."""
        limits, curve = self._limits, self._curve
        values = self._level + curve.per_celsius * swing + curve.noise * noise
        # Cut, not rounded: a whole number divided by 100 has two decimals, and rounding costs as
        # much as the rest.
        scale = 10**limits.decimals
        cut = (np.clip(values, limits.least, limits.greatest) * scale).astype(np.int64)
        made: _Floats = cut.ravel() / scale
        return made


def _in_order(parts: Sequence[Measured]) -> Measured:
    joined = parts[0]
    if len(parts) > 1:
        at_us, devices, values = zip(*parts, strict=True)
        joined = Measured(
            np.concatenate(at_us),
            np.concatenate(devices),
            tuple(map(np.concatenate, zip(*values, strict=True))),
        )
    if (joined.at_us[1:] >= joined.at_us[:-1]).all():
        return joined
    # Parts come in the order of their devices, and a round is over before the next begins: a sort
    # that keeps the order of equal times has the lower device first.
    return joined.pick(np.argsort(joined.at_us, kind="stable"))


def draw_all(states: npt.NDArray[np.uint64]) -> _Floats:
    """`Chance.draw` of many streams at once; they move on."""
    states += np.uint64(GOLDEN)
    z = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / (1 << 53)


def _seats(states: npt.NDArray[np.uint64]) -> _Ints:
    return (_NOISES * draw_all(states)).astype(np.int64)
