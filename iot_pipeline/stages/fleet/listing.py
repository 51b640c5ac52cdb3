"""List every device of a fleet of any size, by name, in bounded memory; changes nothing.

A look at a large fleet holds a part of it (`stages.fleet.keeper`); here each device is asked about
when it is its turn, and forgotten when it was given out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby, islice, repeat
from operator import itemgetter

from iot_pipeline.core.fleet.kept_states import decode, form_of
from iot_pipeline.core.fleet.problems import Fleet, expected_states
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.states import FleetStates, fold_rows
from iot_pipeline.core.times import day_of
from iot_pipeline.stages.fleet.rows import (
    UNTIL_DONE,
    FleetPorts,
    days_looked_at,
    look_again,
    read_last,
)
from iot_pipeline.stages.ports.readings import DeviceDays
from iot_pipeline.stages.requests import ask_all

_AT_ONCE = 500


def walk_fleet(ports: FleetPorts, fleet: Fleet) -> Iterator[tuple[str, DeviceState, bool]]:
    """Every device that reported in the last days: its name, its state, whether its past is known.

    Where no run has kept anything of a device, its state is made of its newest reading alone.

    Args:
        fleet: a look at it; what it knows of a device is taken from there.

    Raises:
        TransientError: Cassandra did not answer.
    """
    days = days_looked_at(ports.days, fleet.as_of_ms, fleet.limits.expected_days)
    named = _by_name(ports.days, days, fleet.states)
    while part := dict(islice(named, _AT_ONCE)):
        kept, made = _states_of(
            ports, fleet, {n: d for n, d in part.items() if n not in fleet.states}
        )
        states = expected_states({**kept, **made}, fleet.as_of_ms, fleet.limits)
        for name in part:
            state = fleet.states.get(name) or states.get(name)
            if state is not None:
                yield name, state, name not in made


def _by_name(
    known: DeviceDays, days: Iterable[int], looked_at: Iterable[str]
) -> Iterator[tuple[str, list[int]]]:
    """Each device with its days, in the order of these; and those that a look has found."""
    walks: list[Iterator[tuple[str, int | None]]] = [
        zip(known.walk(day_of(day)), repeat(day)) for day in days
    ]
    # A clock may have put all of a device's readings on other days.
    walks.append(zip(sorted(looked_at), repeat(None)))
    for name, found in groupby(merge(*walks, key=itemgetter(0)), key=itemgetter(0)):
        yield name, [day for _, day in found if day is not None]


def _states_of(
    ports: FleetPorts, fleet: Fleet, days_of: Mapping[str, Sequence[int]]
) -> tuple[Mapping[str, DeviceState], Mapping[str, DeviceState]]:
    """What runs have kept, with what came since; and of the other devices what a reading tells."""
    kept, made = FleetStates(fleet.limits), FleetStates(fleet.limits)
    form = form_of(fleet.limits.quantities)
    for name, answer in ask_all(days_of, ports.states.start_read, ports.states.wait):
        state = None if answer.found is None else decode(DeviceState, answer.found, form)
        if state is not None and state.rows:
            kept.devices[name] = state
    news = look_again(ports, kept.devices, fleet.as_of_ms, fleet.limits, UNTIL_DONE)
    for name, readings in news.items():
        if readings:
            fold_rows(kept, name, readings)
    others = {name: days for name, days in days_of.items() if name not in kept.devices}
    for name, reading in read_last(ports, others):
        fold_rows(made, name, [reading])
    return kept.devices, made.devices
