"""The fleet of one run: folded as readings pass, kept between runs, looked at at any time.

Readings are observed in the thread that ingests, and no question is asked there; `load`, `look` and
`save` may be called in another one. What is kept is derived: losing it costs a look at the rows,
and no reading. Up to MANY devices all of them are loaded and looked at; of a larger fleet about
20,000, always the same, those that had problems, and those that send readings to the run.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from iot_pipeline.core.fleet.delays import Delays, FleetRecord
from iot_pipeline.core.fleet.kept_states import (
    decode,
    encode,
    form_of,
    merge,
    merge_records,
)
from iot_pipeline.core.fleet.problems import Fleet, expected_states, is_silent
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.states import MANY, FleetStates, fold_rows
from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.parts import join_parts
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.errors import PipelineError, SchemaMismatchError
from iot_pipeline.stages.fleet.rows import (
    FleetPorts,
    Until,
    count_again,
    list_devices,
    look_again,
    make_states,
)
from iot_pipeline.stages.requests import ask_all

_log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
# Small micro-batches, as a run that follows the topic makes them, are folded together.
_FOLD_ROWS = 5_000
_FOLD_SECONDS = 1.0
# What is folded at once: about a millisecond, while Cassandra is waited for anyway.
_PART_ROWS = 5_000
_PART_GROUPS = 500
# A run looks this often for devices that have rows and no state; the first look of all finds them.
_LIST_MS = 600_000
_MOST_SUSPECTS = 1_000
_KEEP_NOTES_SECONDS = 2.0
_RECOUNT_MS = 60_000


@dataclass(slots=True)
class FleetKeeper:
    """The states of one run.

    Args:
        is_alone: there is no run: devices without a state are looked for each time, and the newest
            rows of each device are asked for, as far as the time suffices.
        sees_all: the run reads all partitions. Of devices that send to the others it knows what
            their runs keep, and what rows say; it keeps nothing of them.
    """

    ports: FleetPorts
    limits: QualityLimits
    is_alone: bool = False
    sees_all: bool = True
    clock: Callable[[], float] = time.monotonic
    _states: FleetStates = field(init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    # Micro-batches that were observed, each with how long its oldest and newest record took; and
    # the rest of one that is folded in parts.
    _waiting: deque[tuple[RowGroups, list[tuple[int, int]]]] = field(default_factory=deque)
    _part: RowGroups | None = None
    _observed_rows: int = 0
    _folded_rows: int = 0
    _folded_at: float = 0.0
    _saved_at: float = 0.0
    _loaded: threading.Event = field(default_factory=threading.Event)
    _has_ended: bool = False
    _is_large: bool = False
    # Devices whose kept state is in ours.
    _known: set[str] = field(default_factory=set)
    _asked_again: set[str] = field(default_factory=set)
    _made: set[str] = field(default_factory=set)
    # Where not all is seen: devices of which the run itself has folded readings.
    _own: set[str] = field(default_factory=set)
    _heard_others_at: float = 0.0

    def __post_init__(self) -> None:
        self._states = FleetStates(self.limits)
        self._folded_at = self._saved_at = self.clock()

    def observe(self, batch: MicroBatch, now_ms: int) -> None:
        """Take in a micro-batch whose rows are acknowledged, as of `now_ms` by our clock.

        It is folded by `work`; what waits before it, if that is much, now: it would be memory.
        """
        if self._observed_rows - self._folded_rows >= _FOLD_ROWS:
            with self._lock:
                self._fold()
        delays = [
            (now_ms - counts.last_record_ms, now_ms - counts.first_record_ms)
            for counts in batch.counts.values()
            if counts.stored and counts.first_record_ms and counts.last_record_ms
        ]
        # No lock: a look at a large fleet holds it for a tenth of a second.
        readings = join_parts(batch.groups)
        self._waiting.append((readings, delays))
        self._observed_rows += readings.rows

    def work(self) -> None:
        """Fold a part of what waits, if it is due: to be called often, between other things."""
        is_due = self._part is not None or self._observed_rows - self._folded_rows >= _FOLD_ROWS
        if not is_due and self.clock() - self._folded_at < _FOLD_SECONDS:
            return
        if self._lock.acquire(blocking=False):
            try:
                self._fold_part()
            finally:
                self._lock.release()

    def load(self) -> None:
        """Read what earlier runs kept, once; what was observed before is put after it.

        Raises:
            TransientError: Cassandra did not answer.
        """
        if self._loaded.is_set():
            return
        try:
            record = self.ports.states.read_fleet()
            found, is_all = self.ports.states.read_some(MANY)
        except SchemaMismatchError:
            # A keyspace of an older version: `schema_matches` says so, and rows tell the rest.
            record, found, is_all = None, {}, True
        with self._lock:
            if self._loaded.is_set():
                return  # another thread was faster: twice would count everything twice
            self._fold()
            self._loaded.set()
            self._is_large = not is_all
            if record is not None:
                self._states.record = merge_records(
                    decode(FleetRecord, record), self._states.record
                )
            self._take_kept(found)
            unread = [name for name in self._states.record.suspects if name not in self._known]
        if self._is_large:
            self._read_kept(unread)

    def look(self, now: datetime, lag_seconds: float, budget_seconds: float = 1.0) -> Fleet:
        """The devices as of now, less the lag of ingestion.

        What is noted of them, such as hours that lack readings, is kept with the next `save`; after
        the last one at once.

        Args:
            lag_seconds: how far ingestion is behind; no device is silent for that.
            budget_seconds: about how long rows may be asked for what the states do not tell.

        Raises:
            TransientError: Cassandra did not answer.
            SchemaMismatchError: no table of readings.
        """
        as_of_ms = int((now.timestamp() - lag_seconds) * 1000)
        until = Until(self.clock() + budget_seconds, self.clock)
        self.load()
        if not self.sees_all:
            self._hear_others()
        self._make_missing(as_of_ms, until)
        self._hear_silent(as_of_ms, until)
        with self._lock:
            self._fold()
            found = self._states.settle(as_of_ms)
        self._count_lacking(found, as_of_ms, until)
        with self._lock:
            record, unlooked = self._states.record, self._states.record.unlooked
            if self._is_large:
                unlooked = max(0, record.listed - len(self._states.devices))
            fleet = self._states.fleet(as_of_ms, unlooked)
        suspects = [name for name, *_ in fleet.worst][:_MOST_SUSPECTS]
        with self._lock:
            record.suspects = suspects
        if self._has_ended:
            self.save(is_last=True, budget_seconds=_KEEP_NOTES_SECONDS)
        return fleet

    def save(self, *, is_last: bool = False, budget_seconds: float = 5.0) -> None:
        """Keep the states that changed, at most once a minute unless it is the last time.

        Ends after about `budget_seconds`. A state that could not be kept is kept the next time; a
        run that ends without it loses nothing but a look at the rows.
        """
        if not is_last and self.clock() - self._saved_at < SAVE_SECONDS:
            return
        self._saved_at = self.clock()
        self._has_ended = self._has_ended or is_last
        deadline = self.clock() + budget_seconds
        if is_last and not self._loaded.is_set():
            return  # a run that looked at nothing; reading now what was kept could take long
        try:
            self.load()
            self._merge_unknown(deadline)
            changed = self._states.changed & self._known
            self._write(changed if self.sees_all else changed & self._own, deadline)
        except PipelineError as exc:
            left = len(self._states.changed)
            _log.warning("states of %d devices are not kept, rows tell them again: %s", left, exc)

    def save_made(self, budget_seconds: float = 5.0) -> None:
        """Keep the states that were made from rows, and no other: a run may keep those.

        None of a large fleet: a state that was not read may be kept already, and say more.
        """
        if self._made and not self._is_large:
            with suppress(PipelineError):  # the next look makes them again
                self._write(set(self._made), self.clock() + budget_seconds)

    def _write(self, names: set[str], deadline: float) -> None:
        states, form = self._states, form_of(self.limits.quantities)
        with self._lock:
            # One that was left out since, of a large fleet, is not kept any more.
            names &= states.devices.keys()
            content = {name: encode(states.devices[name], form) for name in names}
            record = encode(states.record)
            states.changed -= names
        live_seconds = (self.limits.expected_days * MS_PER_DAY + MS_PER_DAY) // 1000
        try:
            store, left = self.ports.states, max(0.1, deadline - self.clock())
            store.write_fleet(record, live_seconds, left)
            for part, _ in ask_all(
                store.in_batches(dict(content)),
                lambda part: store.start_write(part, live_seconds),
                store.wait,
                deadline,
                self.clock,
                is_cut_off=True,
            ):
                for name in part:
                    del content[name]
        finally:
            with self._lock:
                states.changed |= content.keys()

    def _fold(self) -> None:
        """With the lock held: take in all that waits."""
        while self._part is not None or self._waiting:
            self._fold_part()

    def _fold_part(self) -> None:
        """With the lock held: take in the first of what waits, no more than a part of it."""
        if self._part is None:
            if not self._waiting:
                self._folded_at = self.clock()
                return
            groups, delays = self._waiting.popleft()
            for delay in delays:
                self._states.ingested.add(Delays.of(delay))
            rows = groups.rows
            if not self.sees_all:
                ids = groups.columns.codes.ids
                self._own.update(ids[code] for code in np.unique(groups.codes).tolist())
            if rows <= _PART_ROWS and len(groups) <= _PART_GROUPS:
                self._folded_rows += rows
                self._states.fold(groups)
                return
            self._part = groups
        groups = self._part
        rows_until = np.cumsum(groups.counts[:_PART_GROUPS])
        end = int(np.searchsorted(rows_until, _PART_ROWS)) + 1
        part, rest = groups.part(0, end), groups.part(end, len(groups))
        self._part = rest if len(rest) else None
        self._folded_rows += part.rows
        self._states.fold(part, is_part=True)

    def _take_kept(self, found: dict[str, bytes]) -> None:
        devices, form = self._states.devices, form_of(self.limits.quantities)
        for name, content in found.items():
            state = None if name in self._known else decode(DeviceState, content, form)
            if state is not None:
                newer = devices.get(name)
                devices[name] = state if newer is None else merge(state, newer)
                self._known.add(name)

    def _read_kept(self, names: list[str], deadline: float = float("inf")) -> None:
        store = self.ports.states
        for name, answer in ask_all(names, store.start_read, store.wait, deadline, self.clock):
            with self._lock:
                if answer.found is not None:
                    self._take_kept({name: answer.found})
                self._known.add(name)

    def _merge_unknown(self, deadline: float) -> None:
        """Of a large fleet: what is kept of devices that the run heard of goes before that."""
        with self._lock:
            self._fold()
            unknown = self._states.changed - self._known
            if not self._is_large:
                self._known |= unknown
                return
        self._read_kept(sorted(unknown), deadline)

    def _make_missing(self, as_of_ms: int, until: Until) -> None:
        """States for devices that have rows of the last days and none."""
        record = self._states.record
        is_recent = as_of_ms - record.listed_ms < _LIST_MS and not record.unlooked
        if record.listed and not self.is_alone and (is_recent or self._is_large):
            return
        listed = list_devices(self.ports.days, as_of_ms, self.limits.expected_days, until)
        made = FleetStates(self.limits)
        with self._lock:
            self._fold()
            missing = {
                name: on for name, on in listed.days_of.items() if name not in self._states.devices
            }
        names = make_states(self.ports, made, missing, as_of_ms, until)
        with self._lock:
            self._fold()
            for name in names:
                # What came meanwhile is among the rows that were just read.
                self._states.devices[name] = made.devices[name]
                self._states.changed.add(name)
                self._made.add(name)
            merge_records(record, made.record)
            record.listed_ms, record.listed = as_of_ms, listed.known
            record.unlooked = len(missing) - len(names) + listed.known - len(listed.days_of)

    def _hear_others(self) -> None:
        """Take what the runs of other partitions have kept since, as often as they keep it."""
        if self.clock() - self._heard_others_at < SAVE_SECONDS:
            return
        self._heard_others_at = self.clock()
        found, _ = self.ports.states.read_some(MANY)
        form = form_of(self.limits.quantities)
        with self._lock:
            self._fold()
            for name, content in found.items():
                state = None if name in self._own else decode(DeviceState, content, form)
                if state is not None:
                    self._states.devices[name] = state
                    self._known.add(name)

    def _hear_silent(self, as_of_ms: int, until: Until) -> None:
        """Devices that seem silent are asked about once: their state may be a minute old.

        Without a run all are, the silent ones first: what a person sees is the newest there is. So
        are those that send to other runs, each time.
        """
        with self._lock:
            self._fold()
            expected = expected_states(self._states.devices, as_of_ms, self.limits)
            silent = {
                name: state.copy()
                for name, state in expected.items()
                if (name not in self._asked_again or self._is_of_others(name))
                and is_silent(state, as_of_ms, self.limits.of(name))
            }
            if self.is_alone or not self.sees_all:
                rest = [
                    name
                    for name in expected
                    if name not in silent
                    and name not in self._made
                    and (self.is_alone or self._is_of_others(name))
                ]
                silent.update((name, expected[name].copy()) for name in rest[:MANY])
        if not silent:
            return
        news = look_again(self.ports, silent, as_of_ms, self.limits, until)
        with self._lock:
            # What was observed meanwhile is among the rows that were just read.
            self._fold()
            for name, rows in news.items():
                self._asked_again.add(name)
                state = self._states.devices.get(name)
                if rows and state and state.arrived_ms == silent[name].arrived_ms:
                    fold_rows(self._states, name, rows)

    def _is_of_others(self, name: str) -> bool:
        return not self.sees_all and name not in self._own

    def _count_lacking(self, found: list[tuple[str, int]], as_of_ms: int, until: Until) -> None:
        """Let the server count the hours that seem to lack readings.

        Those found just now, before they are called so; and once a minute all of them: a replay may
        have filled one, and no run folds what is replayed.
        """
        places = found
        with self._lock:
            if as_of_ms - self._states.record.recounted_ms >= _RECOUNT_MS:
                self._states.record.recounted_ms = as_of_ms
                states = self._states.devices.items()
                known = {(name, hour) for name, state in states for hour in state.lacking}
                others = list(known.difference(found))
                random.shuffle(others)  # where the time suffices for some, each has its turn
                places = [*found, *others]
        if not places:
            return
        counts = count_again(self.ports, places, until)
        with self._lock:
            for (name, hour), count in counts.items():
                state = self._states.devices.get(name)
                if state is not None and count > state.hours.get(hour, 0):
                    state.hours[hour] = count
                    self._states.changed.add(name)


def look_at_fleet(
    ports: FleetPorts,
    limits: QualityLimits,
    now: datetime,
    lag_seconds: float,
    budget_seconds: float = 20.0,
) -> Fleet:
    """The devices without a run: kept states, and rows for what these do not tell.

    States that had to be made from rows are kept, if they are the first of their devices.
    """
    keeper = FleetKeeper(ports, limits, is_alone=True)
    fleet = keeper.look(now, lag_seconds, budget_seconds)
    keeper.save_made()
    return fleet
