"""What is wrong with which device: decided here once, for checks, report, pictures and commands."""

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median

from iot_pipeline.core.fleet.clocks import RESET, why_off
from iot_pipeline.core.fleet.delays import Delays
from iot_pipeline.core.fleet.evidence import HALF_MS, Apart, Half
from iot_pipeline.core.fleet.lacking_hours import FleetHours
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.reading.groups import SOFT_LIMITS, find_group
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.times import MS_PER_DAY, in_words
from iot_pipeline.core.words import counted

# Neighbours are compared when there are five, heard of within ten minutes of each other.
_LEAST_NEIGHBOURS = 5
_SAME_TIME_MS = 600_000
# 1.4826 times the median distance to the median estimates the standard deviation.
_DEVIATIONS = 5 * 1.4826


class Trouble(enum.StrEnum):
    """What can be wrong with a device, in the order in which it is said."""

    SILENT = "silent"
    CLOCK = "clock"
    LATE = "late"
    STUCK = "stuck"
    IMPLAUSIBLE = "implausible"
    INCOMPLETE = "incomplete"


# The limits by which it is decided, as `QualityLimits` and `Quantity` call them.
_LIMITS_OF = {
    Trouble.SILENT: ("silent_seconds", "silent_intervals"),
    Trouble.CLOCK: ("clock_ahead_seconds",),
    Trouble.LATE: ("late_seconds", "late_share", "backfill_hours"),
    Trouble.STUCK: ("stuck_readings", "stuck_seconds"),
    Trouble.IMPLAUSIBLE: SOFT_LIMITS,
    Trouble.INCOMPLETE: ("complete_share",),
}


@dataclass(frozen=True, slots=True)
class DeviceProblem:
    """One thing that is wrong with one device; the higher `badness` is named first.

    `group` is the declared one whose own limits decided it; empty: those of every device did.
    """

    device_id: str
    trouble: Trouble
    sentence: str
    badness: float
    group: str = ""


@dataclass(frozen=True)
class Fleet:
    """The devices as of a moment: all that is known of them, and how much was not looked at.

    `as_of_ms` is now, less what ingestion is behind: no device is silent for that.
    `states` has the devices that are expected to report. `unlooked` more have rows, and nothing
    else is known of them. `rows_seen` of the run's `rows` were folded.

    `backfilled` readings arrived lately and were measured long before, of any device.
    `delays` are from the event to the broker, over the last hours; `ingested` from the broker to
    the acknowledged row, in the run alone.
    """

    as_of_ms: int
    states: Mapping[str, DeviceState]
    limits: QualityLimits
    unlooked: int = 0
    rows: int = 0
    rows_seen: int = 0
    backfilled: int = 0
    delays: Delays = field(default_factory=Delays)
    ingested: Delays = field(default_factory=Delays)

    @property
    def known(self) -> int:
        """All devices that have readings of the last days."""
        return len(self.states) + self.unlooked

    def unused_groups(self) -> list[str]:
        """The declared groups that have no device of those that were looked at."""
        groups = self.limits.groups
        found = {find_group(groups, name) for name in self.states} if groups else set()
        return [group.name for group in groups if group not in found]

    @cached_property
    def hours(self) -> FleetHours:
        return FleetHours(self.states, self.as_of_ms, self.limits)

    @cached_property
    def problems(self) -> Mapping[Trouble, list[DeviceProblem]]:
        """Every problem, by kind, the worst first; each kind has a list."""
        found: dict[Trouble, list[DeviceProblem]] = {trouble: [] for trouble in Trouble}
        for name, state in self.states.items():
            for problem in _problems_of(name, state, self):
                found[problem.trouble].append(problem)
        for problems in found.values():
            problems.sort(key=lambda problem: (-problem.badness, problem.device_id))
        return found

    @cached_property
    def by_device(self) -> Mapping[str, list[DeviceProblem]]:
        """The problems of each device that has any, those with the worst kind first."""
        found: defaultdict[str, list[DeviceProblem]] = defaultdict(list)
        for trouble in Trouble:
            for problem in self.problems[trouble]:
                of_device = found[problem.device_id]
                if not _is_no_news(problem, of_device):
                    of_device.append(problem)
        return found

    def problems_of(self, device_id: str, state: DeviceState) -> list[DeviceProblem]:
        """The same of one device, which `states` need not have."""
        found: list[DeviceProblem] = []
        for problem in _problems_of(device_id, state, self):
            if not _is_no_news(problem, found):
                found.append(problem)
        return found

    @cached_property
    def worst(self) -> list[tuple[str, str, str]]:
        """(device, words, sentences) of each device with problems, in the same order."""
        return [
            (name, ", ".join(p.trouble for p in said), "; ".join(p.sentence for p in said))
            for name, said in self.by_device.items()
        ]


def _is_no_news(problem: DeviceProblem, known: Sequence[DeviceProblem]) -> bool:
    """A device that is silent lacks readings as well."""
    is_silent_one = any(other.trouble is Trouble.SILENT for other in known)
    return problem.trouble is Trouble.INCOMPLETE and is_silent_one


def expected_states(
    states: Mapping[str, DeviceState], as_of_ms: float, limits: QualityLimits
) -> dict[str, DeviceState]:
    """Devices that reported by themselves in the last days."""
    oldest = as_of_ms - limits.expected_days * MS_PER_DAY
    return {name: state for name, state in states.items() if state.arrived_ms > oldest}


def is_silent(state: DeviceState, as_of_ms: float, limits: QualityLimits) -> bool:
    """Whether it says nothing for longer than it may, by the broker's clock.

    Of one that is late the next reading may be on its way for as long as the latest was. How long a
    new one may say nothing is not known yet.
    """
    usual = limits.silent_intervals * state.arrival_interval_ms
    late = state.late_most_ms if is_late(state, as_of_ms) else 0
    # Half as long again: a night in winter, an upload that is late.
    limit = max(limits.silent_seconds * 1000, usual, 1.5 * state.usual_night_ms) + late
    return bool(state.interval_ms) and as_of_ms - state.arrived_ms > limit


def is_late(state: DeviceState, as_of_ms: float) -> bool:
    """Whether more of its readings than are fine came late, within its window."""
    if state.late_most_ms <= 1.5 * state.usual_pause_ms:
        return False  # what it sends in bundles is as old as they are long
    return bool(state.late_at_ms) and as_of_ms - state.late_at_ms <= state.window_ms


def is_clock_wrong(state: DeviceState, as_of_ms: float) -> bool:
    return bool(state.clock_at_ms) and as_of_ms - state.clock_at_ms <= state.window_ms


def recent_halves(state: DeviceState, as_of_ms: float) -> list[Half]:
    since = as_of_ms - state.window_ms
    return [h for h in (state.half, state.before) if (h.number + 1) * HALF_MS > since]


def off_in_words(state: DeviceState) -> str:
    way = "ahead" if state.clock_off_ms > 0 else "behind"
    return f"{in_words(abs(state.clock_off_ms) / 1000)} {way}"


def _cause_in_words(state: DeviceState) -> str:
    cause = why_off(state.clock_at_ms + state.clock_off_ms, state.clock_at_ms)
    if cause == RESET and state.restarts:
        times = "once" if state.restarts == 1 else f"{state.restarts:,} times"
        cause += (
            f"; it began anew {times}, and readings of earlier starts are overwritten where their "
            "timestamps came again"
        )
    return f": {cause}" if cause else ""


def odd_in_words(state: DeviceState, as_of_ms: float, quantities: Sequence[Quantity]) -> str:
    by_name = {quantity.name: quantity for quantity in quantities}
    odd, apart = state.odd, state.apart
    if odd is not None and as_of_ms - state.odd_at_ms <= state.window_ms:
        value = by_name[odd.quantity].with_unit(odd.value)
        return f"said {value}" if odd.before is None else f"jumped from {odd.before:g} to {value}"
    assert apart is not None, "asked only of a device with one of them"
    value = by_name[apart.quantity].with_unit(apart.value)
    return f"says {value} where its group says {apart.middle:g}"


def with_units(values: Iterable[float | str | None], quantities: Sequence[Quantity]) -> list[str]:
    """The values of a reading as a person reads them: `20.5 °C`, `40 %`."""
    both = zip(quantities, values, strict=True)
    return [quantity.with_unit(value) for quantity, value in both if value is not None]


def note_apart(states: Mapping[str, DeviceState], limits: QualityLimits) -> None:
    """Remember in their states which devices say something else than their group does now."""
    groups: defaultdict[str, list[tuple[str, DeviceState]]] = defaultdict(list)
    for name, state in states.items():
        if state.rows:
            groups[limits.group_of(name)].append((name, state))
    for members in groups.values():
        newest = max(state.arrived_ms for _, state in members)
        together = [one for one in members if newest - one[1].arrived_ms <= _SAME_TIME_MS]
        if len(together) < _LEAST_NEIGHBOURS:
            continue
        for number, quantity in enumerate(limits.quantities):
            if not quantity.is_number:
                continue
            told = [one for one in together if one[1].values[number] is not None]
            if len(told) < _LEAST_NEIGHBOURS:
                continue
            values = [state.values[number] for _, state in told]
            middle = median(values)
            usual = median(abs(value - middle) for value in values)
            for (name, state), value in zip(told, values, strict=True):
                apart = limits.of(name).quantities[number].apart
                if abs(value - middle) > max(apart, _DEVIATIONS * usual):
                    state.apart = Apart(quantity.name, value, middle)
                    state.apart_at_ms = state.arrived_ms


def _problems_of(name: str, state: DeviceState, fleet: Fleet) -> Iterable[DeviceProblem]:
    """What is wrong with a device, and which group's limits say so."""
    for problem in _found_of(name, state, fleet):
        group = fleet.limits.group_with_other(_LIMITS_OF[problem.trouble], name)
        said = f"{problem.sentence} (limits of the group {group})"
        yield replace(problem, sentence=said, group=group) if group else problem


def _found_of(name: str, state: DeviceState, fleet: Fleet) -> Iterable[DeviceProblem]:
    as_of, limits = fleet.as_of_ms, fleet.limits.of(name)
    silence = as_of - state.arrived_ms
    if is_silent(state, as_of, limits):
        usual = in_words(state.arrival_interval_ms / 1000)
        said = f"no reading for {in_words(silence / 1000)}, usually one every {usual}"
        yield DeviceProblem(name, Trouble.SILENT, said, silence)
    if is_clock_wrong(state, as_of):
        said = f"its clock is {off_in_words(state)}{_cause_in_words(state)}"
        yield DeviceProblem(name, Trouble.CLOCK, said, abs(state.clock_off_ms))
    elif is_late(state, as_of):
        most = in_words(state.late_most_ms / 1000)
        said = f"its readings reach Kafka up to {most} after they were measured"
        yield DeviceProblem(name, Trouble.LATE, said, state.late_most_ms)
    if (
        state.unchanged >= limits.stuck_readings
        and abs(state.measured_ms - state.unchanged_since_ms) >= limits.stuck_seconds * 1000
        and silence <= state.window_ms
    ):
        values = " and ".join(with_units(state.values, limits.quantities))
        said = f"always {values}, {state.unchanged:,} times"
        yield DeviceProblem(name, Trouble.STUCK, said, state.unchanged)
    newest_odd = max(state.odd_at_ms, state.apart_at_ms)
    if newest_odd and as_of - newest_odd <= state.window_ms:
        count = sum(half.outside + half.jumps for half in recent_halves(state, as_of))
        yield DeviceProblem(
            name, Trouble.IMPLAUSIBLE, odd_in_words(state, as_of, limits.quantities), count
        )
    if state.lacking:
        shares = fleet.hours.lacking(name, state)
        if shares:
            worst = max(1 - share.share for share in shares)
            said = f"readings missing in {counted(len(shares), 'hour')}, {worst:.0%} in the worst"
            missing = sum(share.missing for share in shares)
            yield DeviceProblem(name, Trouble.INCOMPLETE, said, missing)
