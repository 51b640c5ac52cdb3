"""What a fault does to what a device sends: other values, another time, other bytes.

Belongs here: one fault of one device, its windows and its effect on a value. Does not belong here:
the order of sending (`core.simulator.scenario_fleet`), what is remembered of it
(`core.simulator.manifest`).
"""

from collections.abc import Iterator

from iot_pipeline.core.reading.decoding import (
    Reading,
    ReadingRules,
    Reason,
    encode_reading,
    values_of,
)
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.emissions import Injection
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
from iot_pipeline.core.simulator.fault_windows import FOREVER_US, FaultWindow, fault_windows
from iot_pipeline.core.times import duration_us

# Measured times lie on this grid and those of a wrong clock between: they never share a
# millisecond, so a skewed reading never overwrites a right one.
GRID_US = 2_000
_NEVER = FaultWindow(FOREVER_US, FOREVER_US + 1)
_PLACE_OF = {quantity.name: at for at, quantity in enumerate(QUANTITIES)}


class FaultTrack:
    """One fault of a scenario on one device: asked about its readings in order of time."""

    __slots__ = (
        "_chance",
        "_injections",
        "_numbers",
        "_windows",
        "device_id",
        "fault",
        "held",
        "kind",
        "share",
        "window",
    )

    def __init__(
        self, fault: Fault, device_id: str, chance: Chance, start_us: int, numbers: Iterator[int]
    ) -> None:
        """Take whose it is, its own draws, and the counter that injections are numbered by."""
        self.fault = fault
        self.kind = fault.kind
        self.share: float = getattr(fault, "share", 1.0)
        self.device_id = device_id
        # The values that a stuck device repeats, those of its window's first reading.
        self.held: tuple[float, ...] | None = None
        self._chance = chance
        self._numbers = numbers
        self._windows = fault_windows(fault, chance, start_us)
        self._injections: dict[Reason | None, Injection] = {}
        self.window = next(self._windows, _NEVER)

    def hits(self, at_us: int) -> bool:
        """Whether the reading of that time is hit; times only grow."""
        while at_us >= self.window.to_us:
            self._advance()
        if at_us < self.window.from_us:
            return False
        return self.share >= 1 or self._chance.draw() < self.share

    def done(self) -> None:
        """A reading was hit: a window of one reading is over."""
        if self.window.is_single:
            self._advance()

    def injection(self, reason: Reason | None = None) -> Injection:
        """What the reading that was hit is remembered under."""
        is_one_reading = self.window.is_endless or self.window.is_single
        known = self._injections.get(reason)
        if known is None or (is_one_reading and self.kind not in LASTING_KINDS):
            amount, unit = _amount(self.fault)
            known = Injection(next(self._numbers), self.kind, self.device_id, amount, unit, reason)
            self._injections[reason] = known
        return known

    def values(
        self, at_us: int, values: tuple[float, ...], rules: ReadingRules
    ) -> tuple[float, ...]:
        """What the device says instead of these, within the rules of a reading."""
        fault = self.fault
        if self.kind is FaultKind.STUCK:
            if self.held is None:
                self.held = values
            return self.held
        if isinstance(fault, Spike):
            size = fault.size if self._chance.draw() < 0.5 else -fault.size
            return _shifted(values, _PLACE_OF[fault.quantity], size, rules, flips=True)
        if isinstance(fault, Drift):
            window = self.window
            size = fault.size * (at_us - window.from_us) / (window.to_us - window.from_us)
            return _shifted(values, _PLACE_OF[fault.quantity], size, rules, flips=False)
        if self.kind is FaultKind.CONFLICTING_DUPLICATE:
            for place, quantity in enumerate(QUANTITIES):
                size = self._chance.between(0.1, 0.5) * quantity.jump
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
            return int(self._chance.between(duration_us(delay.min), duration_us(delay.max)))
        mean_us, max_us = duration_us(delay.mean), duration_us(delay.max)
        return min(int(self._chance.exponential(mean_us)), max_us)

    def next_reason(self) -> Reason:
        """Why the next malformed payload cannot be a reading: its reasons, in turn by chance."""
        assert isinstance(self.fault, Malformed)
        reasons = [Reason(name) for name in self.fault.reasons] or MALFORMED_REASONS
        return reasons[int(len(reasons) * self._chance.draw())]

    def _advance(self) -> None:
        self.window = next(self._windows, _NEVER)
        self.held = None
        self._injections.clear()


def malformed_payload(reason: Reason, reading: Reading, rules: ReadingRules) -> bytes | None:
    """What a device could send for this reading that is rejected for exactly that reason."""
    right = encode_reading(reading)
    if reason is Reason.NO_VALUE:
        return None
    if reason is Reason.NOT_JSON:
        return right[: len(right) // 2]
    if reason is Reason.MISSING_FIELD:
        return right[: right.rindex(b",")] + b"}"
    if reason is Reason.WRONG_TYPE:
        fields, _, last = right[:-1].rpartition(b":")
        return fields + b':"' + last + b'"}'
    if reason is Reason.TOO_LARGE:
        return right[:-1] + b',"padding":"' + b"x" * rules.max_value_bytes + b'"}'
    if reason is Reason.OUT_OF_RANGE:
        _, *others = values_of(reading)
        broken = Reading(
            reading.device_id, reading.timestamp, rules.quantities[0].greatest + 100, *others
        )
        return encode_reading(broken)
    raise ValueError(f"{reason}: no payload provokes it")


def _amount(fault: Fault) -> tuple[float | None, str]:
    if isinstance(fault, Spike | Drift):
        return fault.size, QUANTITIES[_PLACE_OF[fault.quantity]].unit
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
