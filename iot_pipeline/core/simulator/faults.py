"""A fault of a scenario on one device: when it is active, and what the device then sends."""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass, field

import msgspec

from iot_pipeline.core.reading.messages import ReadingRules, Reason
from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.fault_specs import (
    LASTING_KINDS,
    MALFORMED_REASONS,
    ClockSkew,
    Drift,
    Fault,
    FaultKind,
    Late,
    Malformed,
    Spike,
    UniformDelay,
)
from iot_pipeline.core.simulator.scenarios import FleetDevice
from iot_pipeline.core.simulator.waves import span_of
from iot_pipeline.core.times import US_PER_HOUR, duration_us
from iot_pipeline.errors import ConfigurationError

# Measured times lie on this grid and those of a wrong clock between: they never share a
# millisecond, so a skewed reading never overwrites a right one.
GRID_US = 2_000
FOREVER_US = 1 << 62


def place_of(quantity: str, rules: ReadingRules) -> int:
    """Where the values of a quantity stand.

    Raises:
        ConfigurationError: it is not declared, so no fault can be about it.
    """
    names = [declared.name for declared in rules.quantities]
    if quantity not in names:
        raise ConfigurationError(
            f"a fault of the scenario is about {quantity}, which is not declared (there are "
            f"{', '.join(names)}): expected another scenario"
        )
    return names.index(quantity)


@dataclass(frozen=True, slots=True)
class Injection:
    """One time that a fault struck one device: a window of it, or one reading where it has none.

    `number` counts the injections of a simulation. `amount` is how far off, in `unit`: the size of
    a spike, of a drift at its end, of a clock's skew; None where the kind has none.
    """

    number: int
    kind: FaultKind
    device_id: str
    amount: float | None = None
    unit: str = ""
    reason: Reason | None = None


class Emission(msgspec.Struct, frozen=True, gc=False):
    """One message, or one that a dropout withheld.

    Both times are microseconds since 1970: of sending, never before that of the emission before,
    and of measuring by a clock that is right. `payload` is None for a tombstone. `injection` says
    which fault it carries.
    """

    send_us: int
    measured_us: int
    device: FleetDevice
    payload: bytes | None
    injection: Injection | None = None

    @property
    def is_withheld(self) -> bool:
        """A dropout's: nothing is sent, and the manifest counts it."""
        return self.injection is not None and self.injection.kind is FaultKind.DROPOUT


@dataclass(frozen=True, slots=True)
class FaultWindow:
    """[from_us, to_us) in microseconds since 1970; `is_single` ends with the first reading hit."""

    from_us: int
    to_us: int
    is_single: bool = False

    @property
    def is_endless(self) -> bool:
        return self.to_us >= FOREVER_US and not self.is_single


_NEVER = FaultWindow(FOREVER_US, FOREVER_US + 1)


def fault_windows(fault: Fault, chance: Chance, start_us: int) -> Iterator[FaultWindow]:
    """The windows of one fault for one device: ascending, disjoint, endless when they repeat."""
    lasts_us = None if fault.lasts is None else duration_us(fault.lasts)
    if fault.per_hour is not None:
        return _at_random(fault.per_hour, lasts_us, chance, start_us)
    if fault.at is not None:
        every_us = None if fault.every is None else duration_us(fault.every)
        return _at_times(start_us + duration_us(fault.at), lasts_us, every_us)
    return iter((FaultWindow(start_us, FOREVER_US),))


def _at_times(from_us: int, lasts_us: int | None, every_us: int | None) -> Iterator[FaultWindow]:
    while True:
        if lasts_us is not None:
            yield FaultWindow(from_us, from_us + lasts_us)
        else:
            until_us = FOREVER_US if every_us is None else from_us + every_us
            yield FaultWindow(from_us, until_us, is_single=True)
        if every_us is None:
            return
        from_us += every_us


def _at_random(
    per_hour: float, lasts_us: int | None, chance: Chance, at_us: int
) -> Iterator[FaultWindow]:
    while True:
        at_us += 1 + int(chance.exponential(US_PER_HOUR / per_hour))
        if lasts_us is None:
            yield FaultWindow(at_us, FOREVER_US, is_single=True)
        else:
            yield FaultWindow(at_us, at_us + lasts_us)
            at_us += lasts_us


def devices_hit(fault: Fault, devices: Sequence[FleetDevice], chance: Chance) -> list[int]:
    """The ascending indices of the devices that a fault is meant for; `chance` says who is picked.

    The patterns of the fault are those of ids, groups and places.
    """
    matching = [
        at
        for at, device in enumerate(devices)
        if not fault.devices
        or any(
            fnmatch.fnmatchcase(name, pattern)
            for pattern in fault.devices
            for name in (device.device_id, device.group, device.place)
        )
    ]
    if fault.pick is None:
        return matching
    return [matching[index] for index in chance.pick(fault.pick, len(matching))]


@dataclass(slots=True)
class FaultTrack:
    """One fault of a scenario on one device: asked about its readings in order of time.

    `chance` is its own, `numbers` count all injections, `rules` are those of ingestion. A stuck
    device repeats the values in `held`, those of its window's first reading.
    """

    fault: Fault
    device_id: str
    chance: Chance
    start_us: InitVar[int]
    numbers: Iterator[int]
    rules: ReadingRules
    held: tuple[float, ...] | None = None
    kind: FaultKind = field(init=False)
    share: float = field(init=False)
    window: FaultWindow = field(init=False)
    _windows: Iterator[FaultWindow] = field(init=False)
    _injections: dict[Reason | None, Injection] = field(default_factory=dict)

    def __post_init__(self, start_us: int) -> None:
        self.kind = self.fault.kind
        self.share = getattr(self.fault, "share", 1.0)
        self._windows = fault_windows(self.fault, self.chance, start_us)
        self.window = next(self._windows, _NEVER)

    def hits(self, at_us: int) -> bool:
        """Whether the reading of that time is hit; times only grow."""
        while at_us >= self.window.to_us:
            self._advance()
        if at_us < self.window.from_us:
            return False
        return self.share >= 1 or self.chance.draw() < self.share

    def done(self) -> None:
        """A reading was hit: a window of one reading is over."""
        if self.window.is_single:
            self._advance()

    def injection(self, reason: Reason | None = None) -> Injection:
        """What the reading that was hit is remembered under."""
        is_one_reading = self.window.is_endless or self.window.is_single
        known = self._injections.get(reason)
        if known is None or (is_one_reading and self.kind not in LASTING_KINDS):
            amount, unit = _amount(self.fault, self.rules)
            known = Injection(next(self.numbers), self.kind, self.device_id, amount, unit, reason)
            self._injections[reason] = known
        return known

    def values(self, at_us: int, values: tuple[float, ...]) -> tuple[float, ...]:
        """What the device says instead of these, within the rules of a reading."""
        fault, rules = self.fault, self.rules
        if self.kind is FaultKind.STUCK:
            if self.held is None:
                self.held = values
            return self.held
        if isinstance(fault, Spike):
            size = fault.size if self.chance.draw() < 0.5 else -fault.size
            return _shifted(values, place_of(fault.quantity, rules), size, rules, flips=True)
        if isinstance(fault, Drift):
            window = self.window
            size = fault.size * (at_us - window.from_us) / (window.to_us - window.from_us)
            return _shifted(values, place_of(fault.quantity, rules), size, rules, flips=False)
        if self.kind is FaultKind.CONFLICTING_DUPLICATE:
            for place, quantity in enumerate(rules.quantities):
                size = self.chance.between(0.1, 0.5) * min(quantity.jump, span_of(quantity))
                values = _shifted(values, place, size, rules, flips=True)
        return values

    def claimed_us(self, at_us: int) -> int:
        """The time that the device believes it is."""
        if not isinstance(self.fault, ClockSkew):
            return at_us
        wrong_us = at_us + duration_us(self.fault.skew)
        return wrong_us - wrong_us % GRID_US + GRID_US // 2

    def delay_us(self) -> int:
        """How long after it was measured this reading is sent, by chance."""
        if not isinstance(self.fault, Late):
            return duration_us(getattr(self.fault, "after", "0s"))
        delay = self.fault.delay
        if isinstance(delay, UniformDelay):
            return int(self.chance.between(duration_us(delay.min), duration_us(delay.max)))
        mean_us, max_us = duration_us(delay.mean), duration_us(delay.max)
        return min(int(self.chance.exponential(mean_us)), max_us)

    def next_reason(self) -> Reason:
        """Why the next malformed payload cannot be a reading: its reasons, in turn by chance."""
        assert isinstance(self.fault, Malformed)
        reasons = [Reason(name) for name in self.fault.reasons] or MALFORMED_REASONS
        return reasons[int(len(reasons) * self.chance.draw())]

    def _advance(self) -> None:
        self.window = next(self._windows, _NEVER)
        self.held = None
        self._injections.clear()


def _amount(fault: Fault, rules: ReadingRules) -> tuple[float | None, str]:
    if isinstance(fault, Spike | Drift):
        return fault.size, rules.quantities[place_of(fault.quantity, rules)].unit
    if isinstance(fault, ClockSkew):
        return duration_us(fault.skew) / 1e6, "s"
    return None, ""


def _shifted(
    values: tuple[float, ...], place: int, size: float, rules: ReadingRules, *, flips: bool
) -> tuple[float, ...]:
    """Values of which one is off by `size`, kept within the rules; `flips` to the other side."""
    limits = rules.quantities[place]
    if flips and not limits.least <= values[place] + size <= limits.greatest:
        size = -size
    value = min(max(values[place] + size, limits.least), limits.greatest)
    return (*values[:place], round(value, limits.decimals), *values[place + 1 :])
