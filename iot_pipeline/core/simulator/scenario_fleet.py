"""The messages of a scenario, in the order in which they are sent, made one at a time.

Belongs here: which devices there are, what each measures when, and in which order it leaves them.
Does not belong here: waiting until it is due and sending it (`stages.simulator.scenario`).
Everything is a function of scenario, seed, start, end and rules: the same five, the same bytes.
"""

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from iot_pipeline.core.reading.decoding import Reading, ReadingRules, encode_reading
from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.fault_windows import FOREVER_US, devices_hit
from iot_pipeline.core.simulator.faults import GRID_US, FaultTrack, Injection, malformed_payload
from iot_pipeline.core.simulator.scenarios import Group, Scenario
from iot_pipeline.core.simulator.weather import Climate

PLACE = "{" + "place" + "}"
_NOISES = 1 << 14
# Odd, so that a device walks through the whole table before it repeats.
_NOISE_STRIDE = 7_919
_JITTER_STRIDE = 5_953


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """Who sends: `interval_us` is the time between two of its readings, jitter apart."""

    device_id: str
    group: str
    place: str
    interval_us: int


class Emission(NamedTuple):
    """One message, or one that a dropout withheld.

    Both times are microseconds since 1970: of sending, never before that of the emission before,
    and of measuring by a clock that is right. `payload` is None for a tombstone. `injection` says
    which fault it carries.
    """

    send_us: int
    measured_us: int
    device: FleetDevice
    payload: bytes | None
    injection: Injection | None

    @property
    def is_withheld(self) -> bool:
        """A dropout's: nothing is sent, and the manifest counts it."""
        return self.injection is not None and self.injection.kind is FaultKind.DROPOUT


def make_devices(scenario: Scenario) -> list[FleetDevice]:
    """The devices of a scenario, group by group; places are taken in turn."""
    devices = []
    for group in scenario.groups:
        places = group.places or [group.name]
        for turn in range(group.devices):
            place = places[turn % len(places)]
            number = turn // len(places) + 1 if PLACE in group.ids else turn + 1
            device_id = group.ids.format(group=group.name, place=place, number=number)
            devices.append(FleetDevice(device_id, group.name, place, group.interval_us))
    return devices


class ScenarioFleet:
    """All messages of a scenario between two times.

    Guarantees: memory for the devices and for what is delayed, not for what was sent; the event
    times of a device, wrong clocks apart, strictly increase and share no millisecond; values
    without a fault change no faster than `core.simulator.weather.steepest_celsius_per_second` and
    the noise allow.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        start_us: int,
        end_us: int,
        rules: ReadingRules | None = None,
    ) -> None:
        """Take event times [start_us, end_us), in microseconds since 1970.

        `rules` are those of ingestion: clean values stay within them, malformed ones do not.
        """
        self.devices = make_devices(scenario)
        self.start_us = start_us + -start_us % GRID_US
        self.end_us = end_us
        self._scenario = scenario
        self._seed = seed
        self._rules = rules or ReadingRules()
        draw = random.Random(f"iot_pipeline scenario noise {seed}").random
        # Bounded within -1 to 1, unlike a Gaussian: a clean fleet has no outliers.
        self.noise = [(draw() + draw() + draw() + draw()) / 2 - 1 for _ in range(_NOISES)]
        self.uniform = [draw() for _ in range(_NOISES)]

    def emissions(self) -> Iterator[Emission]:
        """Every message, by the time of sending; what is late beyond the end is sent at the end."""
        sensors = self._sensors()
        end_us = self.end_us
        upcoming = [
            (first_us, turn)
            for turn, sensor in enumerate(sensors)
            if (first_us := sensor.next_us()) < end_us
        ]
        heapq.heapify(upcoming)
        delayed: list[tuple[int, int, Emission]] = []
        delays = itertools.count()
        while upcoming:
            at_us, turn = upcoming[0]
            while delayed and delayed[0][0] <= at_us:
                yield heapq.heappop(delayed)[2]
            sensor = sensors[turn]
            celsius, humidity = sensor.measure(at_us)
            next_us = sensor.next_us()
            if next_us < end_us:
                heapq.heapreplace(upcoming, (next_us, turn))
            else:
                heapq.heappop(upcoming)
            if at_us < sensor.quiet_until_us:
                device = sensor.device
                reading = Reading(device.device_id, at_us / 1e6, celsius, humidity)
                yield Emission(at_us, at_us, device, encode_reading(reading), None)
                continue
            for emission in sensor.misbehave(at_us, celsius, humidity):
                if emission.send_us <= at_us:
                    yield emission
                else:
                    late = emission._replace(send_us=min(emission.send_us, end_us))
                    heapq.heappush(delayed, (late.send_us, next(delays), late))
        while delayed:
            yield heapq.heappop(delayed)[2]
        for sensor in sensors:
            if sensor.held is not None:
                # Nothing came after it: it is in order, and no fault.
                yield sensor.held._replace(send_us=end_us, injection=None)

    def _sensors(self) -> list["_Sensor"]:
        sensors: list[_Sensor] = []
        devices = iter(self.devices)
        for group in self._scenario.groups:
            climates = {
                place: Climate(group, place, self._scenario.weather, self._seed)
                for place in group.places or [group.name]
            }
            for turn in range(group.devices):
                device = next(devices)
                sensors.append(self._sensor(device, group, climates[device.place], turn))
        numbers = itertools.count()
        names = [(s.device.device_id, s.device.group, s.device.place) for s in sensors]
        for index, fault in enumerate(self._scenario.faults):
            for at in devices_hit(fault, names, Chance(self._seed, "pick", index)):
                device_id = sensors[at].device.device_id
                chance = Chance(self._seed, "fault", index, device_id)
                track = FaultTrack(fault, device_id, chance, self.start_us, numbers)
                sensors[at].tracks.append(track)
                sensors[at].quiet_until_us = min(sensors[at].quiet_until_us, track.window.from_us)
        return sensors

    def _sensor(self, device: FleetDevice, group: Group, climate: Climate, turn: int) -> "_Sensor":
        spread_us = (1 - group.jitter) * device.interval_us * turn / group.devices
        return _Sensor(
            device,
            group,
            climate,
            Chance(self._seed, "device", device.device_id),
            self.start_us + int(spread_us),
            self.noise,
            self.uniform,
            self._rules,
        )


class _Sensor:
    """One device at work: what it measures next, and how its faults change that."""

    def __init__(
        self,
        device: FleetDevice,
        group: Group,
        climate: Climate,
        chance: Chance,
        first_us: int,
        noise: list[float],
        uniform: list[float],
        rules: ReadingRules,
    ) -> None:
        self.device = device
        self.tracks: list[FaultTrack] = []
        # Before this time no fault of its own has anything to say.
        self.quiet_until_us = FOREVER_US
        # A reading that waits until the next one was sent.
        self.held: Emission | None = None
        temperature, humidity = group.temperature, group.humidity
        self._climate = climate.celsius
        self._celsius = temperature.mean + temperature.bias * chance.between(-1, 1)
        self._gain = chance.between(0.8, 1.2)
        self._grain = temperature.noise
        self._humidity = humidity.mean + humidity.bias * chance.between(-1, 1)
        self._coupling = humidity.coupling
        self._humid_grain = humidity.noise
        self._seat = int(_NOISES * chance.draw())
        self._humid_seat = int(_NOISES * chance.draw())
        self._jitter_seat = int(_NOISES * chance.draw())
        self._jitter_us = group.jitter * device.interval_us
        self._nominal_us = first_us
        self._noise = noise
        self._uniform = uniform
        self._rules = rules

    def next_us(self) -> int:
        """When it measures next; the device moves on."""
        self._jitter_seat = seat = (self._jitter_seat + _JITTER_STRIDE) % _NOISES
        at_us = self._nominal_us + int(self._jitter_us * self._uniform[seat])
        self._nominal_us += self.device.interval_us
        return at_us - at_us % GRID_US

    def measure(self, at_us: int) -> tuple[float, float]:
        """What it measures, in hundredths of °C and %, within the rules of a reading."""
        noise = self._noise
        self._seat = seat = (self._seat + _NOISE_STRIDE) % _NOISES
        self._humid_seat = humid_seat = (self._humid_seat + _NOISE_STRIDE) % _NOISES
        swing = self._gain * self._climate(at_us) + self._grain * noise[seat]
        humidity = self._humidity - self._coupling * swing + self._humid_grain * noise[humid_seat]
        celsius = self._celsius + swing
        warm, damp = self._rules.quantities
        if not damp.least <= humidity <= damp.greatest:
            humidity = min(max(humidity, damp.least), damp.greatest)
        if not warm.least <= celsius <= warm.greatest:
            celsius = min(max(celsius, warm.least), warm.greatest)
        # A whole number divided by 100 gives the two decimals; round() costs as much as the rest.
        return int(celsius * 100) / 100, int(humidity * 100) / 100

    def misbehave(self, at_us: int, celsius: float, humidity: float) -> Iterator[Emission]:
        """What leaves the device for this reading while faults may be active: one at most is.

        The first fault in the scenario's order that hits a reading has it.
        """
        hit = next((track for track in self.tracks if track.hits(at_us)), None)
        if hit is None:
            yield from self._sent(self._emission(at_us, at_us, celsius, humidity, None))
        else:
            yield from self._hit(hit, at_us, celsius, humidity)
            hit.done()
        # Some track may not have been asked, and be behind: its window then ends too late, never
        # too early.
        self.quiet_until_us = min(track.window.from_us for track in self.tracks)

    def _hit(
        self, track: FaultTrack, at_us: int, celsius: float, humidity: float
    ) -> Iterator[Emission]:
        kind = track.kind
        if kind is FaultKind.DROPOUT:
            yield Emission(at_us, at_us, self.device, None, track.injection())
            return
        if kind is FaultKind.MALFORMED:
            reason = track.next_reason()
            reading = Reading(self.device.device_id, at_us / 1e6, celsius, humidity)
            payload = malformed_payload(reason, reading, self._rules)
            yield from self._sent(
                Emission(at_us, at_us, self.device, payload, track.injection(reason))
            )
            return
        if kind in (FaultKind.DUPLICATE, FaultKind.CONFLICTING_DUPLICATE):
            first = self._emission(at_us, at_us, celsius, humidity, None)
            yield from self._sent(first)
            others = track.values(at_us, celsius, humidity, self._rules)
            copy = self._emission(at_us, at_us, *others, track.injection())
            yield copy._replace(send_us=at_us + track.delay_us())
            return
        if kind is FaultKind.OUT_OF_ORDER:
            emission = self._emission(at_us, at_us, celsius, humidity, None)
            if self.held is None:
                self.held = emission._replace(injection=track.injection())
            else:
                yield from self._sent(emission)
            return
        celsius, humidity = track.values(at_us, celsius, humidity, self._rules)
        claimed_us = track.claimed_us(at_us)
        emission = self._emission(at_us, claimed_us, celsius, humidity, track.injection())
        if kind is FaultKind.LATE:
            yield emission._replace(send_us=at_us + track.delay_us())
        else:
            yield from self._sent(emission)

    def _sent(self, emission: Emission) -> Iterator[Emission]:
        yield emission
        if self.held is not None:
            yield self.held._replace(send_us=emission.send_us)
            self.held = None

    def _emission(
        self,
        at_us: int,
        claimed_us: int,
        celsius: float,
        humidity: float,
        injection: Injection | None,
    ) -> Emission:
        reading = Reading(self.device.device_id, claimed_us / 1e6, celsius, humidity)
        return Emission(at_us, at_us, self.device, encode_reading(reading), injection)
