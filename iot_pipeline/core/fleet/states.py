"""The states of a fleet, folded micro-batch by micro-batch on the hot path of ingestion.

Up to MANY devices everything is looked at. Beyond, a budget per micro-batch holds: devices that
were in trouble are looked at every time, the others in turn, and what was left out is counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.fleet.clocks import STEADY_MS, STEADY_READINGS, why_off
from iot_pipeline.core.fleet.delays import EDGES, Delays, FleetRecord
from iot_pipeline.core.fleet.evidence import HALF_MS, WINDOW_MS
from iot_pipeline.core.fleet.lacking_hours import note_lacking
from iot_pipeline.core.fleet.problems import Fleet, expected_states, note_apart
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.state import Calm, DeviceState, Values
from iot_pipeline.core.reading.columns import Ints, cells_of
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import arrived_ms
from iot_pipeline.core.times import MS_PER_HOUR

# Up to this many devices every reading is looked at.
MANY = 10_000
# More devices than this are not kept one by one: random device ids must not become memory.
MOST_DEVICES = 50_000
# Beyond MANY: the cost of a row and of a group of rows in µs, measured, and what may be spent.
_ROW_COST_US = 0.2
_GROUP_COST_US = 2.0
_ALLOWED_PER_ROW_US = 0.4
_ALLOWED_PER_FOLD_US = 1_000.0

_Limit = float | npt.NDArray[np.float64]


@dataclass(slots=True)
class FleetStates:
    """The devices of a fleet and what was counted of all their readings.

    `rows_seen` of `rows` were folded since the start; `changed` are the devices whose state is not
    kept yet. The record's suspects are looked at in every micro-batch, however many devices there
    are.
    """

    limits: QualityLimits
    devices: dict[str, DeviceState] = field(default_factory=dict)
    record: FleetRecord = field(default_factory=FleetRecord)
    ingested: Delays = field(default_factory=Delays)
    changed: set[str] = field(default_factory=set)
    rows: int = 0
    rows_seen: int = 0
    _turn: int = 0

    def fold(self, groups: RowGroups, *, is_part: bool = False) -> None:
        """Take in rows that are acknowledged, those of a device in the order of their arrival.

        `is_part`: one of several parts of a micro-batch, whose fixed budget is given once.
        """
        if not len(groups):
            return  # only dead letters or holes, or the end of a part
        rows = groups.rows
        self.rows += rows
        if len(self.devices) + len(groups) > MANY:
            groups = self._chosen(groups, rows, 0.0 if is_part else _ALLOWED_PER_FOLD_US)
        self.rows_seen += groups.rows
        groups = self._take_backfilled(groups)
        if len(groups):
            self._fold(groups)

    def settle(self, as_of_ms: int) -> list[tuple[str, int]]:
        """Remember what only the whole fleet tells: who is apart, and which hours lack readings.

        Returns:
            (device, hour) of those found to lack readings for the first time.
        """
        expected = expected_states(self.devices, as_of_ms, self.limits)
        note_apart(expected, self.limits)
        return note_lacking(expected, as_of_ms, self.limits, self.changed)

    def fleet(self, as_of_ms: int, unlooked: int = 0) -> Fleet:
        """The devices that are expected to report, as they are now; later readings change it not.

        `unlooked` more have readings, and no state.
        """
        expected = expected_states(self.devices, as_of_ms, self.limits)
        return Fleet(
            as_of_ms,
            {name: state.copy() for name, state in expected.items()},
            self.limits,
            unlooked,
            self.rows,
            self.rows_seen,
            sum(
                state.backfilled
                for state in self.devices.values()
                if as_of_ms - state.backfilled_at_ms <= WINDOW_MS
            ),
            self.record.since(as_of_ms - MS_PER_HOUR),
            Delays(self.ingested.counts.copy(), self.ingested.largest_ms),
        )

    def _chosen(self, groups: RowGroups, rows: int, allowed_us: float) -> RowGroups:
        """What the budget allows: suspects, then the others where the last turn ended."""
        devices, names, counts = self.devices, groups.names(), groups.counts.tolist()
        if len(devices.keys() | set(names)) <= MANY:
            return groups
        allowed_us += _ALLOWED_PER_ROW_US * rows
        is_chosen = np.zeros(len(groups), np.bool_)
        start = self._turn % len(groups)
        turn = chain(range(start, len(groups)), range(start))
        suspects = set(self.record.suspects)
        for number in chain([at for at, name in enumerate(names) if name in suspects], turn):
            name = names[number]
            allowed_us -= _GROUP_COST_US + _ROW_COST_US * counts[number]
            is_suspect = name in suspects
            if allowed_us < 0 and not is_suspect:
                break
            self._turn += not is_suspect
            if len(devices) < MOST_DEVICES or name in devices:
                is_chosen[number] = True
        for number in np.flatnonzero(~is_chosen).tolist():
            if names[number] in devices:
                # Its counts have a hole now: it begins anew with its next reading.
                del devices[names[number]]
                self.changed.discard(names[number])
        return groups.select(np.flatnonzero(is_chosen))

    def _fold(self, groups: RowGroups) -> None:
        limits, devices, changed = self.limits, self.devices, self.changed
        view = _Columns(groups, limits)
        self._count_delays(view)
        times, has_own = view.times_list, bool(limits.by_group)
        for name, start, end, is_close, gap, first_at, first, calm in view.summaries():
            state = devices.get(name)
            if state is None:
                state = devices[name] = DeviceState()
            changed.add(name)
            own = limits.of(name) if has_own else limits
            if state.rows:
                gap = max(gap, first_at - state.arrived_ms)
            if not is_close and state.is_calm(gap, first, own):
                spread = () if calm[1] >= 0 else view.arrivals[start:end].tolist()
                state.take_calm(times[start:end], spread, calm, own)
            else:
                for row in view.rows(start, end):
                    state.take_row(*row, own)

    def _take_backfilled(self, groups: RowGroups) -> RowGroups:
        """Take readings that were all sent long after, by something that is no clock; the others.

        A month of history is sent in minutes: reading by reading it would cost more than writing
        it. Nothing of a row is looked at here but its time, and when the first and last came.
        """
        columns = groups.columns
        firsts = groups.order[groups.starts]
        delays = arrived_ms(columns.written_us[firsts]) - columns.ms[firsts]
        is_late = delays > _limit_of(groups, self.limits, lambda limits: limits.backfill_ms)
        if not is_late.any():
            return groups
        is_left = ~is_late
        late = np.flatnonzero(is_late)
        backfills = _Backfills.of(groups.select(late), self.limits)
        for number in np.flatnonzero(backfills.are_plain).tolist():
            name, began = backfills.names[number], backfills.began_ms[number]
            state = self.devices.get(name) or DeviceState()
            if state.steady_rows > 1 or why_off(backfills.first_ms[number], began):
                is_left[late[number]] = True
                continue
            ended = backfills.ended_ms[number]
            behind_ms, newest_ms = ended - backfills.last_ms[number], max(began, ended)
            state.take_backfill(
                behind_ms, newest_ms, backfills.counts[number], self.limits.of(name)
            )
            self.devices[name] = state
            self.changed.add(name)
        is_left[late[~backfills.are_plain]] = True
        return groups.select(np.flatnonzero(is_left))

    def _count_delays(self, view: "_Columns") -> None:
        # Backfilled readings say nothing of how fast readings arrive today.
        most = view.limit(lambda limits: limits.backfill_ms)
        delays = view.delays
        delays = delays[delays <= (np.repeat(most, view.sizes) if np.ndim(most) else most)]
        if not len(delays):
            return
        edges = np.array(EDGES) * 1000
        counts = np.bincount(
            np.searchsorted(edges, delays, side="right"), minlength=len(EDGES) + 1
        ).tolist()
        hour = int(view.arrivals.max()) // MS_PER_HOUR
        self.record.add(hour, Delays(counts, int(delays.max())))


# Of a group: its device, its rows [start, end), whether they need a close look, the longest time
# between two arrivals, the first arrival and the first values, and what makes it calm.
_Summary = tuple[str, int, int, bool, int, int, Values, Calm]


class _Columns:
    """The rows of a micro-batch as columns, group after group."""

    def __init__(self, groups: RowGroups, limits: QualityLimits) -> None:
        columns, places = groups.columns, groups.places()
        self._groups, self._limits = groups, limits
        self.times: Ints = columns.ms[places]
        self.times_list: list[int] = self.times.tolist()
        self.arrivals: Ints = arrived_ms(columns.written_us[places])
        self.values = [column[places] for column in columns.values]
        self.has = [mask if mask is None else mask[places] for mask in columns.has]
        self.delays: Ints = self.arrivals - self.times
        self.sizes = groups.counts
        self.ends: Ints = np.cumsum(self.sizes)
        self.starts: Ints = self.ends - self.sizes

    def limit(self, of: Callable[[QualityLimits], float]) -> _Limit:
        """One limit: that of all devices, or of each group's device where some have their own."""
        return _limit_of(self._groups, self._limits, of)

    def rows(self, start: int, end: int) -> Iterator[tuple[int, int, Values]]:
        """(measured, arrived, values) of rows [start, end)."""
        return zip(
            self.times_list[start:end],
            self.arrivals[start:end].tolist(),
            self._values_at(slice(start, end)),
            strict=True,
        )

    def _values_at(self, places: Ints | slice) -> Iterator[Values]:
        columns = (
            cells_of(values[places], mask if mask is None else mask[places])
            for values, mask in zip(self.values, self.has, strict=True)
        )
        return zip(*columns, strict=True)

    def _of_quantity(self, place: int, name: str) -> _Limit:
        return self.limit(lambda limits: getattr(limits.quantities[place], name))

    def summaries(self) -> Iterator[_Summary]:
        starts, ends = self.starts, self.ends
        lowest, highest = np.minimum.reduceat, np.maximum.reduceat
        most = highest(self.delays, starts)
        is_close = most > self.limit(lambda limits: limits.late_ms)
        is_close |= -lowest(self.delays, starts) > self.limit(lambda limits: limits.ahead_ms)
        for mask in self.has:
            # What a reading does not tell is what was told last: each is looked at by itself.
            if mask is not None:
                is_close |= ~np.logical_and.reduceat(mask, starts)
        # Where a row differs from the one before; the last such place begins the equal ones.
        differs = np.zeros(len(self.times), np.bool_)
        differs[starts] = True
        for place, quantity in enumerate(self._limits.quantities):
            values = self.values[place]
            differs[1:] |= values[1:] != values[:-1]
            if not quantity.is_number:
                continue
            # Differences of whole numbers may not fit their type.
            numbers = values.astype(np.float64, copy=False)
            least, greatest = lowest(numbers, starts), highest(numbers, starts)
            is_close |= least < self._of_quantity(place, "plausible_least")
            is_close |= greatest > self._of_quantity(place, "plausible_greatest")
            is_close |= greatest - least > self._of_quantity(place, "jump")
        unchanged = ends - highest(np.where(differs, np.arange(len(differs)), 0), starts)
        gaps = np.diff(self.arrivals, prepend=self.arrivals[:1])
        gaps[starts] = 0
        newest = highest(self.arrivals, starts)
        calm = zip(
            newest.tolist(),
            _number_of_all(lowest(self.arrivals, starts), newest, HALF_MS),
            _number_of_all(lowest(self.times, starts), highest(self.times, starts), MS_PER_HOUR),
            unchanged.tolist(),
            self._values_at(ends - 1),
            most.tolist(),
            strict=True,
        )
        return zip(
            self._groups.names(),
            starts.tolist(),
            ends.tolist(),
            is_close.tolist(),
            highest(gaps, starts).tolist(),
            self.arrivals[starts].tolist(),
            self._values_at(starts),
            calm,
            strict=True,
        )


def _limit_of(
    groups: RowGroups, limits: QualityLimits, of: Callable[[QualityLimits], float]
) -> _Limit:
    if not limits.by_group:
        return of(limits)
    return np.array([of(limits.of(name)) for name in groups.names()])


def _number_of_all(first_ms: Ints, last_ms: Ints, piece_ms: int) -> list[int]:
    """Of each group the piece of time that holds all of it; -1: several do."""
    first = first_ms // piece_ms
    numbers: list[int] = np.where(first == last_ms // piece_ms, first, -1).tolist()
    return numbers


@dataclass(frozen=True, slots=True)
class _Backfills:
    """What groups of readings that came long after tell, as columns with a value for each.

    Of a group the first and last reading count as they arrived, from `began_ms` to `ended_ms`.
    `are_plain`: even the latest reading was late enough when the first one came, and no ten in a
    row can be late by the same, as those of a clock that is behind are.
    """

    names: Sequence[str]
    counts: list[int]
    first_ms: list[int]
    last_ms: list[int]
    began_ms: list[int]
    ended_ms: list[int]
    are_plain: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, groups: RowGroups, limits: QualityLimits) -> "_Backfills":
        columns, places, counts = groups.columns, groups.places(), groups.counts
        times: Ints = columns.ms[places]
        ends: Ints = np.cumsum(counts)
        starts: Ints = ends - counts
        began: Ints = arrived_ms(columns.written_us[places[starts]])
        ended: Ints = arrived_ms(columns.written_us[places[ends - 1]])
        newest, oldest = np.maximum.reduceat(times, starts), np.minimum.reduceat(times, starts)
        steady = STEADY_MS + np.abs(ended - began)
        backfill = _limit_of(groups, limits, lambda limits: limits.backfill_ms)
        are_plain = np.minimum(began, ended) - newest > backfill
        are_plain &= newest - oldest > steady
        are_plain &= np.minimum.reduceat(_steps(times, counts), starts) > steady
        return cls(
            groups.names(),
            counts.tolist(),
            times[starts].tolist(),
            times[ends - 1].tolist(),
            began.tolist(),
            ended.tolist(),
            are_plain,
        )


def _steps(times: Ints, counts: Ints) -> Ints:
    """Of each reading the ms to the one that ends a steady run; the most where its group ends."""
    steps = np.full(len(times), np.iinfo(np.int64).max)
    more = STEADY_READINGS - 1
    if len(times) > more:
        group = np.repeat(np.arange(len(counts)), counts)
        is_same = group[more:] == group[:-more]
        steps[:-more][is_same] = np.abs(times[more:] - times[:-more])[is_same]
    return steps


def fold_rows(states: FleetStates, device_id: str, rows: Iterable[tuple[int, int, Values]]) -> None:
    """Take in one device's (measured_ms, arrived_ms, values), as they arrived."""
    state = states.devices.setdefault(device_id, DeviceState())
    limits = states.limits.of(device_id)
    for ms, at, values in rows:
        state.take_row(ms, at, values, limits)
        if at - ms <= limits.backfill_ms:
            states.record.add(at // MS_PER_HOUR, Delays.of([at - ms]))
    states.changed.add(device_id)
