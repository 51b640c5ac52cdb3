"""When a fault of a scenario is active for one device: its windows, one after the other.

Belongs here: arithmetic on times and draws. Does not belong here: what a fault does to a reading
(`core.simulator.faults`). A window is a function of scenario, seed, device and start.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence

from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.fault_specs import Fault
from iot_pipeline.core.times import duration_us

FOREVER_US = 1 << 62
_HOUR_US = 3_600_000_000.0


class FaultWindow:
    """[from_us, to_us) in microseconds since 1970; `is_single` ends with the first reading hit."""

    __slots__ = ("from_us", "is_single", "to_us")

    def __init__(self, from_us: int, to_us: int, is_single: bool = False) -> None:
        self.from_us = from_us
        self.to_us = to_us
        self.is_single = is_single

    @property
    def is_endless(self) -> bool:
        return self.to_us >= FOREVER_US and not self.is_single


def fault_windows(fault: Fault, chance: Chance, start_us: int) -> Iterator[FaultWindow]:
    """The windows of one fault for one device: ascending, disjoint, endless when they repeat.

    Args:
        fault: whose schedule it is; checked by `core.simulator.scenario_file`.
        chance: the draws of this fault and device alone.
        start_us: when the scenario starts.
    """
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
        at_us += 1 + int(chance.exponential(_HOUR_US / per_hour))
        if lasts_us is None:
            yield FaultWindow(at_us, FOREVER_US, is_single=True)
        else:
            yield FaultWindow(at_us, at_us + lasts_us)
            at_us += lasts_us


def devices_hit(fault: Fault, names: Sequence[Iterable[str]], chance: Chance) -> list[int]:
    """Which devices a fault is meant for, as ascending indices.

    Args:
        fault: its `devices` are patterns over ids, groups and places; `pick` chooses among those.
        names: per device what it may be called by.
        chance: who is picked.
    """
    if not fault.devices:
        matching = list(range(len(names)))
    else:
        matching = [
            index
            for index, of_device in enumerate(names)
            if any(fnmatch.fnmatchcase(name, p) for p in fault.devices for name in of_device)
        ]
    if fault.pick is None:
        return matching
    return [matching[index] for index in chance.pick(fault.pick, len(matching))]
