"""What the devices of a fleet measure: a seed and a number in, a reading out.

Belongs here: which values and which event time reading i has. Does not belong here: which
simulations make sense (`core.simulator.simulation`), when a reading is sent
(`core.simulator.pacing`). Reading i is a function of seed, fleet, start and interval alone: any
part of a simulation can be made again.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from iot_pipeline.core.reading.decoding import Reading, encode_reading

_DAY_US = 86_400_000_000
# One step of the daily curve is 10 s, in which no device of ours drifts by 0.01 °C.
_STEPS = 8_640
_STEP_US = _DAY_US // _STEPS
_NOISES = 1 << 14
# Odd, so that a device walks through the whole noise table before it repeats.
_NOISE_STRIDE = 7_919


@dataclass(frozen=True, slots=True)
class Device:
    """What one device measures: a daily sine, a bias, small noise; moist when cool.

    `peak_step` says when its day is warmest, in steps of 10 s since midnight UTC;
    `coupling` how many % of humidity are lost with each °C above the bias.
    """

    device_id: str
    bias_celsius: float
    amplitude_celsius: float
    peak_step: int
    noise_celsius: float
    bias_humidity: float
    coupling: float
    noise_seat: int


def make_fleet(seed: int, devices: int) -> list[Device]:
    """Draw the devices of a seed; a larger fleet begins with the same devices."""
    # A text seed, because Random(-1) equals Random(1); random() alone, because only its
    # sequence is promised to stay the same across versions of Python.
    draw = random.Random(f"iot_pipeline fleet {seed}").random
    return [
        Device(
            device_id=f"device_{number}",
            bias_celsius=17 + 8 * draw(),
            amplitude_celsius=2 + 4 * draw(),
            peak_step=int((13 + 4 * draw()) * 360),
            noise_celsius=0.05 + 0.1 * draw(),
            bias_humidity=40 + 15 * draw(),
            coupling=1.5 + draw(),
            noise_seat=int(_NOISES * draw()),
        )
        for number in range(1, devices + 1)
    ]


class Fleet:
    """The readings of a fleet by number, 0 first; devices send in turn.

    Guarantees: the event times of one device strictly increase and no two of them share a
    millisecond; values have two decimals; humidity stays within 0 to 100.
    """

    def __init__(
        self, devices: Sequence[Device], *, seed: int, start_us: int, interval_us: Fraction
    ) -> None:
        """Take when reading 0 is measured, and how far apart those of one device are.

        `start_us` is microseconds since 1970; `interval_us` at least 1000, for the table keeps
        milliseconds. Devices measure in turn, spread evenly over the interval.
        """
        self._start_us = start_us
        self._interval_us = interval_us
        self._columns = [
            _columns(device, int(interval_us * turn / len(devices)))
            for turn, device in enumerate(devices)
        ]
        draw = random.Random(f"iot_pipeline noise {seed}").random
        # Bounded within -1 to 1, unlike a Gaussian: a clean fleet has no outliers.
        noise = [(draw() + draw() + draw() + draw()) / 2 - 1 for _ in range(_NOISES)]
        self._noise = noise * 2
        self._curve = [math.cos(2 * math.pi * step / _STEPS) for step in range(_STEPS)] * 2

    def readings(self, first: int, count: int) -> list[Reading]:
        """Readings `first` to `first + count - 1`, in the order they are sent."""
        made: list[Reading] = []
        devices = len(self._columns)
        while count > 0:
            round_number, turn = divmod(first, devices)
            taken = min(count, devices - turn)
            self._round(made, round_number, turn, turn + taken)
            first += taken
            count -= taken
        return made

    def messages(self, first: int, count: int) -> list[tuple[str, bytes]]:
        """The same as (message key, JSON); the key is the device_id."""
        return [(r.device_id, encode_reading(r)) for r in self.readings(first, count)]

    def _round(self, made: list[Reading], round_number: int, start: int, stop: int) -> None:
        # The hot loop: 0.5 µs a reading. Values are in hundredths until the last line, because
        # dividing a whole number by 100 gives the two decimals and round() costs as much as the
        # rest.
        interval = self._interval_us
        # Whole numbers: floats would be off by microseconds in a long run, and the bytes with them.
        base_us = self._start_us + round_number * interval.numerator // interval.denominator
        step = base_us // _STEP_US % _STEPS
        seat = round_number * _NOISE_STRIDE % _NOISES
        curve, noise = self._curve, self._noise
        columns = self._columns
        if start != 0 or stop != len(columns):
            columns = columns[start:stop]
        add = made.append
        for name, late_us, shift, bias, amplitude, grain, humid, coupling, own_seat in columns:
            swing = amplitude * curve[step + shift] + grain * noise[seat + own_seat]
            humidity = int(humid - coupling * swing)
            if humidity < 0:
                humidity = 0
            elif humidity > 10_000:
                humidity = 10_000
            celsius = int(bias + swing)
            add(Reading(name, (base_us + late_us) / 1e6, celsius / 100, humidity / 100))


_Columns = tuple[str, int, int, float, float, float, float, float, int]


def _columns(device: Device, late_us: int) -> _Columns:
    return (
        device.device_id,
        late_us,
        (late_us // _STEP_US - device.peak_step) % _STEPS,
        100 * device.bias_celsius,
        100 * device.amplitude_celsius,
        100 * device.noise_celsius,
        100 * device.bias_humidity,
        device.coupling,
        device.noise_seat % _NOISES,
    )
