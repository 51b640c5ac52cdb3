"""What a scenario file may say about a fleet: groups of devices, their climate, their faults.

It is the source of the JSON schema that editors read. Faults: `core.simulator.fault_specs`; YAML
and line numbers: `core.simulator.scenario_file`. The limits keep a clean fleet within physics: a
room does not warm by a degree in a second. What does is a fault, and known to be one.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.simulator.fault_specs import FaultSpec
from iot_pipeline.core.times import US_PER_DAY, Duration, duration_us

MAX_GROUP_DEVICES = 100_000
MAX_DURATION_US = 366 * US_PER_DAY
DEFAULT_SEED = 1
_PLACE = "{place}"


class QuantityCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a quantity is simulated; a kind says its limits, and what the weather does to it.

    `unit` is the one in which the numbers are: a quantity in another one is not simulated so.
    """

    unit: ClassVar[str] = ""
    mean: float = 0.0
    bias: float = 0.0
    noise: float = 0.0

    @property
    def per_celsius(self) -> float:
        """How much each °C above the mean temperature adds to it."""
        return 0.0


class Temperature(QuantityCurve, frozen=True):
    """The temperature of a group's places, and how its devices differ."""

    unit: ClassVar[str] = "°C"
    mean: Annotated[float, Meta(ge=-40, le=50, description="°C, over a year of days.")] = 20.0
    daily: Annotated[
        float, Meta(ge=0, le=20, description="°C the warmest hour is above the mean of a day.")
    ] = 3.0
    peak_hour: Annotated[
        float, Meta(ge=0, lt=24, description="The warmest hour of the day, UTC.")
    ] = 15.0
    weekly: Annotated[
        float,
        Meta(ge=-5, le=5, description="°C the weekend is above the week; negative: below."),
    ] = 0.5
    bias: Annotated[
        float, Meta(ge=0, le=5, description="°C by which devices are off at most, each its own.")
    ] = 0.5
    noise: Annotated[
        float, Meta(ge=0, le=0.5, description="°C by which readings scatter at most.")
    ] = 0.1

    @property
    def per_celsius(self) -> float:
        return 1.0


class Humidity(QuantityCurve, frozen=True):
    """The relative humidity: its mean, and what each degree takes from it."""

    unit: ClassVar[str] = "%"
    mean: Annotated[float, Meta(ge=0, le=100, description="%, at the mean temperature.")] = 45.0
    coupling: Annotated[
        float, Meta(ge=0, le=5, description="% lost with each °C: warm air is dry air.")
    ] = 2.0
    bias: Annotated[
        float, Meta(ge=0, le=10, description="% by which devices are off at most, each its own.")
    ] = 2.0
    noise: Annotated[
        float, Meta(ge=0, le=2, description="% by which readings scatter at most.")
    ] = 0.3

    @property
    def per_celsius(self) -> float:
        return -self.coupling


class Weather(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A drift that neighbours share: most of it the whole region, some of it a place alone."""

    swing: Annotated[float, Meta(ge=0, le=15, description="°C off the mean at most.")] = 3.0
    changes_in: Annotated[
        Duration, Meta(description="About how long a change takes, 1h to 30d.")
    ] = "12h"


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices of one kind, spread over places (rooms or districts) in turn."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    devices: Annotated[int, Meta(ge=1, le=MAX_GROUP_DEVICES, description="How many.")]
    places: Annotated[
        list[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]],
        Meta(description="Rooms or districts. Default: one, named as the group."),
    ] = []
    ids: Annotated[
        str,
        Meta(
            description="How devices are named: {group}, {place}, {number} within the place (or "
            "within the group, when {place} is not named). Default: {place}_{number}."
        ),
    ] = "{place}_{number}"
    interval: Annotated[
        Duration, Meta(description="Between two readings of a device, 10ms to 1d.")
    ] = "1s"
    jitter: Annotated[
        float, Meta(ge=0, le=0.4, description="The share of the interval a reading may be off by.")
    ] = 0.1
    outdoors: Annotated[
        float, Meta(ge=0, le=1, description="How much of the weather gets in: 1 is outside.")
    ] = 0.2
    temperature: Temperature = Temperature()
    humidity: Humidity = Humidity()

    @property
    def interval_us(self) -> int | Fraction:
        return duration_us(self.interval)

    def curve(self, quantity: Quantity) -> QuantityCurve | None:
        """How the group says that a quantity is simulated: the field of its name, in its unit."""
        found = getattr(self, quantity.name, None)
        is_it = isinstance(found, QuantityCurve) and found.unit == quantity.unit
        return found if is_it else None

    @property
    def own_places(self) -> list[str]:
        """Its places, or the one that is named as the group."""
        return self.places or [self.name]


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fleet, what it measures and what goes wrong with it."""

    description: Annotated[str, Meta(min_length=1, description="One line, for lists.")]
    groups: Annotated[list[Group], Meta(min_length=1)]
    duration: Annotated[
        Duration, Meta(description="Event time it covers unless told otherwise, up to 366d.")
    ] = "10m"
    speed: (
        Annotated[float, Meta(gt=0, le=100_000, description="1 is live, 60 an hour in a minute.")]
        | Literal["max"]
    ) = 1.0
    seed: Annotated[int, Meta(description="Same seed and start, same bytes.")] = DEFAULT_SEED
    weather: Weather = Weather()
    faults: list[FaultSpec] = []

    @property
    def device_count(self) -> int:
        return sum(group.devices for group in self.groups)

    @property
    def readings_per_second(self) -> float:
        """Of event time; faults that add or hold back messages are not counted."""
        return sum(group.devices * 1e6 / float(group.interval_us) for group in self.groups)


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """Who sends: `interval_us` is the time between two of its readings, jitter apart."""

    device_id: str
    group: str
    place: str
    interval_us: int | Fraction


def make_devices(scenario: Scenario) -> list[FleetDevice]:
    """The devices of a scenario, group by group; places are taken in turn."""
    devices = []
    for group in scenario.groups:
        places = group.own_places
        for turn in range(group.devices):
            place = places[turn % len(places)]
            number = turn // len(places) + 1 if _PLACE in group.ids else turn + 1
            device_id = group.ids.format(group=group.name, place=place, number=number)
            devices.append(FleetDevice(device_id, group.name, place, group.interval_us))
    return devices
