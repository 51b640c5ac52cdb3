"""Ask the rows of readings what the states of devices cannot tell: bounded questions, never a scan.

A state is made anew from a device's newest rows and from its readings counted per hour; a device
that seems silent, or an hour that seems to lack readings, is asked about before it is called so.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from iot_pipeline.core.fleet.clocks import fits_day
from iot_pipeline.core.fleet.problems import is_silent
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.states import MOST_DEVICES, FleetStates, fold_rows
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import StoredRow, newest_us, values_in
from iot_pipeline.core.reading.spans import Span, spans_between
from iot_pipeline.core.reading.write_times import arrived_ms
from iot_pipeline.core.times import HOURS_PER_DAY, MS_PER_DAY, MS_PER_HOUR, day_number, day_of
from iot_pipeline.stages.ports.answers import Answer
from iot_pipeline.stages.ports.fleet import DeviceStateStore
from iot_pipeline.stages.ports.proof import DeletionLog
from iot_pipeline.stages.ports.readings import MAX_ROWS_PER_READ, DeviceDays, SensorData
from iot_pipeline.stages.requests import ask_all

# Of a clock that is far off the days it says are looked at, the newest of them.
_MOST_DAYS_AHEAD = 30
_NEWEST_ROWS = 120
_ROWS_OF_A_MINUTE = 600
_PARTS_OF_A_LOOK = 3

# (measured_ms, arrived_ms, values)
_Reading = tuple[int, int, tuple[float, ...]]
StoredRows = Answer[Sequence[tuple[int, StoredRow]]]


@dataclass(frozen=True, slots=True)
class FleetPorts:
    """Everything a look at the fleet reads, and the one table it writes."""

    states: DeviceStateStore
    rows: SensorData
    days: DeviceDays
    deletions: DeletionLog


@dataclass(frozen=True, slots=True)
class Until:
    """Send no question after `deadline`; wait for the answers to those that were sent."""

    deadline: float
    clock: Callable[[], float]


UNTIL_DONE = Until(math.inf, time.monotonic)


@dataclass(slots=True)
class Listed:
    """Devices with rows of the last days, and the days of each, newest first; `known` at least."""

    days_of: dict[str, list[int]]
    known: int = 0


def days_looked_at(known: DeviceDays, as_of_ms: int, expected_days: int) -> list[int]:
    """Those whose devices are listed: days to come, then the last days, newest first.

    Of days long past those that a clock of today says which was reset or rolled over, the newest.
    """
    today = as_of_ms // MS_PER_DAY
    days = [day_number(day) for day in reversed(known.days())]
    ahead = [day for day in days if day > today][:_MOST_DAYS_AHEAD]
    back = [day for day in days if today - expected_days < day <= today]
    wrong = [day for day in days if fits_day(day * MS_PER_DAY, as_of_ms)]
    return [*ahead, *back, *wrong[:_MOST_DAYS_AHEAD]]


def list_devices(known: DeviceDays, as_of_ms: int, expected_days: int, until: Until) -> Listed:
    """The first of the devices by name, as many as a look can hold, and how many there are.

    Today and yesterday are listed in any case.
    """
    today = as_of_ms // MS_PER_DAY
    listed = Listed({})
    for day in days_looked_at(known, as_of_ms, expected_days):
        if day < today - 1 and until.clock() > until.deadline:
            break
        for name in known.walk(day_of(day)):
            if name in listed.days_of:
                listed.days_of[name].append(day)
            elif len(listed.days_of) < MOST_DEVICES:
                listed.days_of[name] = [day]
            else:
                # Millions of names are seconds and memory; Cassandra counts them where they are.
                listed.known = max(listed.known, known.count(day_of(day)))
                break
    listed.known = max(listed.known, len(listed.days_of))
    return listed


def make_states(
    ports: FleetPorts,
    states: FleetStates,
    days_of: Mapping[str, Sequence[int]],
    as_of_ms: int,
    until: Until,
) -> list[str]:
    """Put states of devices that have none into `states`, made from their rows.

    `days_of` are the days that each has rows on, newest first.

    Returns:
        The devices for which the time sufficed.
    """
    made = _read_newest(ports, states, days_of, as_of_ms, until)
    if made:
        _count_hours(ports, states, made, as_of_ms)
        _forget_deleted(states, made, ports.deletions.read_deletions(), as_of_ms)
    return made


def _read_newest(
    ports: FleetPorts,
    states: FleetStates,
    days_of: Mapping[str, Sequence[int]],
    as_of_ms: int,
    until: Until,
) -> list[str]:
    rows = ports.rows

    def ask(wanted: tuple[str, int, int, int]) -> StoredRows:
        name, day, last_ms, limit = wanted
        return rows.start_range(Span(name, day, day * MS_PER_DAY, last_ms), limit)

    firsts = [(name, days[0], _end_of(days[0]), _NEWEST_ROWS) for name, days in days_of.items()]
    # The other questions about those that were asked about take twice as long, and are all asked.
    begun = until.clock()
    deadline = begun + (until.deadline - begun) / _PARTS_OF_A_LOOK
    answers = ask_all(firsts, ask, rows.wait, deadline, until.clock)
    found = {name: _readings(answer) for (name, *_), answer in answers}
    today = as_of_ms // MS_PER_DAY
    again: list[tuple[str, int, int, int]] = []
    for name, readings in found.items():
        days = days_of[name]
        if readings and max(readings) > as_of_ms + states.limits.of(name).ahead_ms:
            # Its clock is or was ahead: what arrived since it was set right lies below.
            again += [(name, day, as_of_ms, _NEWEST_ROWS) for day in days if day == today]
        elif len(readings) < _NEWEST_ROWS and len(days) > 1:
            again.append((name, days[1], _end_of(days[1]), _NEWEST_ROWS - len(readings)))
        elif len({values for _, _, values in readings.values()}) == 1:
            again.append((name, days[0], _end_of(days[0]), MAX_ROWS_PER_READ))
    # All of them: half a look would call a device silent, or not stuck, that is.
    for (name, *_), answer in ask_all(again, ask, rows.wait):
        found[name].update(_readings(answer))
    for name, readings in found.items():
        fold_rows(states, name, _as_they_arrived(readings))
    # A rhythm of uploads shows in several of them: one that seems silent is looked at further back.
    silent = [
        name for name in found if is_silent(states.devices[name], as_of_ms, states.limits.of(name))
    ]
    more = [
        (name, day, _end_of(day), MAX_ROWS_PER_READ) for name in silent for day in days_of[name][:2]
    ]
    for (name, *_), answer in ask_all(more, ask, rows.wait, until.deadline, until.clock):
        found[name].update(_readings(answer))
    for name in silent:
        del states.devices[name]
        fold_rows(states, name, _as_they_arrived(found[name]))
    return list(found)


def _count_hours(
    ports: FleetPorts, states: FleetStates, names: Iterable[str], as_of_ms: int
) -> None:
    """What the server counts of the last day takes the place of what few rows told."""
    current = as_of_ms // MS_PER_HOUR
    first_ms, end_ms = (current - HOURS_PER_DAY) * MS_PER_HOUR, (current + 1) * MS_PER_HOUR
    spans = [span for name in names for span in spans_between(name, first_ms, end_ms)]
    counted: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for span, answer in _count(ports, spans):
        counted[span.device_id] += answer.found
    for name, pieces in counted.items():
        state = states.devices[name]
        if pieces:
            state.hours = {at // MS_PER_HOUR: count for at, count, _ in pieces}
        if pieces and state.rows:
            state.begin_ms = min(state.begin_ms, *(first for _, _, first in pieces))


def _count(
    ports: FleetPorts, spans: Iterable[Span], until: Until = UNTIL_DONE
) -> Iterator[tuple[Span, Answer[Sequence[tuple[int, int, int]]]]]:
    """How many readings there are of each span, hour by hour."""
    return ask_all(
        spans,
        lambda span: ports.rows.start_counts(span, MS_PER_HOUR),
        ports.rows.wait,
        until.deadline,
        until.clock,
    )


def _forget_deleted(
    states: FleetStates, names: Iterable[str], deletions: Iterable[Deletion], as_of_ms: int
) -> None:
    """Hours that a person had readings deleted from are not judged."""
    made = set(names)
    current = as_of_ms // MS_PER_HOUR
    for item in deletions:
        if item.device_id in made:
            first = max(current - HOURS_PER_DAY, item.since_ms // MS_PER_HOUR)
            for hour in range(first, min(current, (item.until_ms - 1) // MS_PER_HOUR) + 1):
                states.devices[item.device_id].doubt(hour)


def look_again(
    ports: FleetPorts,
    states: Mapping[str, DeviceState],
    as_of_ms: int,
    limits: QualityLimits,
    until: Until,
) -> dict[str, list[_Reading]]:
    """What devices that seem silent have sent since their state was kept, in order of arrival.

    Returns:
        A list, maybe empty, for each that was asked about; others had no time.
    """
    found: dict[str, dict[int, _Reading]] = {}
    spans = [
        span
        for name, state in states.items()
        for span in _since(name, state, as_of_ms, round(limits.of(name).ahead_ms))
    ]
    for span, answer in ask_all(
        spans,
        lambda span: ports.rows.start_range(span, _ROWS_OF_A_MINUTE),
        ports.rows.wait,
        until.deadline,
        until.clock,
    ):
        state = states[span.device_id]
        news = {ms: r for ms, r in _readings(answer).items() if r[1] > state.arrived_ms}
        # Both clocks may lead to the same rows.
        found.setdefault(span.device_id, {}).update(news)
    return {name: _as_they_arrived(readings) for name, readings in found.items()}


def read_last(
    ports: FleetPorts, days_of: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, _Reading]]:
    """The newest reading of each device on the first of its days that still has one."""
    left = {name: list(days) for name, days in days_of.items() if days}
    while left:
        spans = [
            Span(name, days[0], days[0] * MS_PER_DAY, _end_of(days[0]))
            for name, days in left.items()
        ]
        for span, answer in ask_all(
            spans, lambda span: ports.rows.start_range(span, 1), ports.rows.wait
        ):
            readings = _as_they_arrived(_readings(answer))
            if readings:
                yield span.device_id, readings[-1]
                left[span.device_id] = []
        left = {name: days[1:] for name, days in left.items() if days[1:]}


def count_again(
    ports: FleetPorts, places: Iterable[tuple[str, int]], until: Until
) -> dict[tuple[str, int], int]:
    """How many readings the table has of these (device, hour), as far as the time suffices."""
    spans = [
        span
        for name, hour in places
        for span in spans_between(name, hour * MS_PER_HOUR, (hour + 1) * MS_PER_HOUR)
    ]
    return {
        (span.device_id, span.first_ms // MS_PER_HOUR): sum(count for _, count, _ in answer.found)
        for span, answer in _count(ports, spans, until)
    }


def _since(name: str, state: DeviceState, as_of_ms: int, ahead_ms: int) -> list[Span]:
    """Where its readings since then would be: by its clock, and by one that is right.

    No further ahead than a clock may be that is right: what it measured while its clock was wrong
    would be taken for the newest.
    """
    waited = as_of_ms - state.arrived_ms + ahead_ms
    spans = spans_between(name, state.measured_ms + 1, state.measured_ms + waited + 1)
    if abs(state.measured_ms - state.arrived_ms) > ahead_ms:
        spans += spans_between(name, state.arrived_ms + 1, state.arrived_ms + waited + 1)
    return spans


def _as_they_arrived(readings: Mapping[int, _Reading]) -> list[_Reading]:
    # Those of one burst share a millisecond: they were sent as they were measured.
    return sorted(readings.values(), key=lambda reading: (reading[1], reading[0]))


def _readings(answer: StoredRows) -> dict[int, _Reading]:
    found: dict[int, _Reading] = {}
    for ms, cells in answer.found:
        # A cell that no message told, or that was deleted, has neither value nor write time.
        if written_us := newest_us(cells):
            found[ms] = ms, arrived_ms(written_us), values_in(cells)
    return found


def _end_of(day: int) -> int:
    return (day + 1) * MS_PER_DAY - 1
