"""Bring one micro-batch's rows into the store: a bounded window, retries, refused rows found.

At-least-once: a group is sent until it is acknowledged, and the store upserts by primary key with
a write time from the log, so a second copy changes nothing.
"""

import logging
import math
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TypeVar

import numpy as np

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.refusals import Refusals
from iot_pipeline.core.ingest.requests import MAX_ROWS_PER_BATCH, requests_of
from iot_pipeline.core.ingest.throttle import ROW_WIRE_BYTES
from iot_pipeline.core.reading.columns import DeviceCodes, Ints
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import RowsByTime, arrived_ms, record_of
from iot_pipeline.core.times import day_of
from iot_pipeline.core.words import counted
from iot_pipeline.errors import PipelineError, RowsRefusedError, TransientError
from iot_pipeline.stages.ingest.throttle import Throttle
from iot_pipeline.stages.ports.answers import Pending
from iot_pipeline.stages.ports.readings import ReadingStore
from iot_pipeline.stages.requests import RETRIED, backoff_seconds

_log = logging.getLogger(__name__)
_IntOrInts = TypeVar("_IntOrInts", int, Ints)

MAX_DEVICES_PER_BATCH = MAX_ROWS_PER_BATCH
# A row in devices_by_day is written again when the last write is older: with a TTL it would
# otherwise end before rows that arrived later for the same day. It lives this long beyond them, and
# as long again; then no question is asked any more about rows that have expired.
DEVICE_REFRESH_MS = 6 * 3_600_000
# Past about 4 MB unsent the driver refuses to take more.
MAX_BYTES_IN_FLIGHT = 2 * 1024 * 1024
_SAY_SECONDS = 1.0
# Answers later than this mean that Cassandra queues what we send: less of it loses nothing.
SLOW_ANSWER_SECONDS = 0.25
# But never fewer than these on their way because of slowness alone: with one at a time what
# limits us is our own round trip, and a follow run falls behind on a busy machine.
MIN_WINDOW_WHEN_SLOW = 16
# About 250 bytes each. When it is full all are noted again, which costs a write and is harmless.
MAX_NOTED_DEVICES = 200_000
# When a device was noted that was not: far below every time, and no overflow when subtracted.
_NEVER_MS = -(1 << 61)


@dataclass(slots=True)
class _Request:
    """Rows, or devices of a day."""

    rows: RowSlice | None = None
    day_number: int = 0
    devices: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    sent_at: float = 0.0
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        # About what it takes on the wire.
        if self.rows is None:
            self.size_bytes = sum(ROW_WIRE_BYTES + len(name) for name in self.devices)
        else:
            self.size_bytes = len(self.rows) * (ROW_WIRE_BYTES + len(self.rows.device_id))


@dataclass(slots=True)
class RowWriter:
    """Writes one micro-batch at a time: `begin`, then `pump` until it says True.

    Args:
        requests_in_flight: CQL batches on their way at once, at most; halved when a write fails,
            less by an eighth when answers are slow, and grown back one by one.
        give_up_after_seconds: how long transient errors may last without one success.
        clock: monotonic seconds.
        throttle: says when a request may leave that was not sent before; None: at once.
    """

    store: ReadingStore
    requests_in_flight: int
    give_up_after_seconds: float
    clock: Callable[[], float] = time.monotonic
    throttle: Throttle | None = None
    refusals: Refusals = field(default_factory=lambda: Refusals(_empty()))
    _refused_devices: list[tuple[int, str, RowsRefusedError]] = field(default_factory=list)
    # What is still to be made of the micro-batch; and requests that are sent before those.
    _source: Iterator[_Request] | None = None
    _queue: deque[_Request] = field(default_factory=deque)
    _delayed: list[tuple[float, _Request]] = field(default_factory=list)
    _in_flight: deque[tuple[Pending, _Request]] = field(default_factory=deque)
    _failing_since: float | None = None
    _window: float = 0.0
    _slowed_at: float = 0.0
    _bytes_in_flight: int = 0
    _unsaid: int = 0
    _said_at: float = -math.inf
    _at_most: int = 0
    # By `_place_numbers`, which hold for these codes alone.
    _noted_devices: dict[int, int] = field(default_factory=dict)
    _codes: DeviceCodes = field(default_factory=DeviceCodes)
    _notes_again: bool = False
    # Of rows that are of no micro-batch.
    _own_codes: DeviceCodes = field(default_factory=DeviceCodes)

    def __post_init__(self) -> None:
        self._window = float(self.requests_in_flight)

    def begin(self, batch: MicroBatch, at_most: int | None = None) -> None:
        """Queue the rows of a micro-batch; nothing of an earlier one may be left.

        Args:
            at_most: requests in flight, if fewer than usual.
        """
        assert not self.is_busy, "one micro-batch at a time"
        self._at_most = min(at_most or self.requests_in_flight, self.requests_in_flight)
        self.refusals, self._refused_devices = Refusals(batch), []
        self._failing_since = None
        if batch.groups.columns.codes is not self._codes or self._notes_again:
            self._codes, self._notes_again = batch.groups.columns.codes, False
            self._noted_devices.clear()
        rows = map(_Request, requests_of(batch.groups, self._at_most))
        self._source = chain(rows, self._device_requests(batch))

    def note_again(self) -> None:
        """Some notes of devices were deleted: from the next micro-batch on none is relied on."""
        self._notes_again = True

    def _device_requests(self, batch: MicroBatch) -> Iterator[_Request]:
        """Those that note which devices have rows on which days, where that is due."""
        groups = batch.groups
        numbers = _place_numbers(groups)
        noted_ms = np.fromiter(
            map(self._noted_devices.get, numbers, repeat(_NEVER_MS)), np.int64, len(numbers)
        )
        # No row is newer than the newest of all: only where that one asks for it are all looked at.
        if not (batch.newest_ms - noted_ms >= DEVICE_REFRESH_MS).any():
            return
        written_us = groups.columns.written_us[groups.places()]
        firsts = np.cumsum(groups.counts) - groups.counts
        newest_ms = arrived_ms(np.maximum.reduceat(written_us, firsts))
        due = np.flatnonzero(newest_ms - noted_ms >= DEVICE_REFRESH_MS)
        # By day and bucket: a batch of one Cassandra partition, which no guard rail is about.
        found: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
        new = groups.select(due)
        for device_id, day_number, ms in zip(
            new.names(), new.days.tolist(), newest_ms[due].tolist(), strict=True
        ):
            found[day_number, bucket_of(device_id)][device_id] = ms
        for (day_number, _), devices in found.items():
            names = list(devices)
            for at in range(0, len(names), MAX_DEVICES_PER_BATCH):
                part_of = {name: devices[name] for name in names[at : at + MAX_DEVICES_PER_BATCH]}
                yield _Request(day_number=day_number, devices=part_of)

    def write(self, groups: dict[tuple[str, int], RowsByTime]) -> None:
        """Bring rows in that are of no micro-batch; returns when all are acknowledged or refused.

        Raises:
            TransientError: as `pump`.
            RowsRefusedError: more rows were refused than a wrong row or two explain.
        """
        self._own_codes = self._own_codes.renewed()
        self.begin(_empty(RowGroups.of(groups, self._own_codes)))
        while not self.pump(0.1):
            pass
        for error in self.refusals.stopped.values():
            raise error

    @property
    def in_flight(self) -> int:
        """Requests on their way now; may be asked from another thread."""
        return len(self._in_flight)

    @property
    def is_busy(self) -> bool:
        return bool(self._source or self._queue or self._delayed or self._in_flight)

    def pump(self, wait_seconds: float = 0.0) -> bool:
        """Send what fits the window and take in answers; True when everything is acknowledged.

        Waits for answers at most `wait_seconds`, and only when nothing else can be done. What was
        refused is in `refusals`.

        Raises:
            TransientError: no write succeeded for `give_up_after_seconds`.
            PermanentError: what Cassandra says of a table, not of rows.
        """
        while True:
            moved = self._collect() + self._send()
            if not self.is_busy:
                self._check_refused_devices()
                return True
            if moved:
                continue
            if wait_seconds <= 0:
                return False
            self.store.wait(wait_seconds)
            wait_seconds = 0

    def _send(self) -> int:
        if self._delayed:
            now = self.clock()
            ready = [request for at, request in self._delayed if at <= now]
            self._delayed = [(at, request) for at, request in self._delayed if at > now]
            self._queue.extend(ready)
        sent = 0
        while (
            len(self._in_flight) < min(self._window, self._at_most)
            and self._bytes_in_flight < MAX_BYTES_IN_FLIGHT
            and (request := self._next()) is not None
        ):
            request.sent_at = self.clock()
            try:
                if request.rows is None:
                    pending = self.store.send_devices(request.day_number, request.devices)
                else:
                    pending = self.store.send_rows(request.rows)
            except PipelineError as exc:
                # What could not leave is treated as what came back with an error; the rest waits
                # for the next turn, so that one outage is not met once per request.
                self._take_back(request, exc)
                break
            self._in_flight.append((pending, request))
            self._bytes_in_flight += request.size_bytes
            sent += 1
        return sent

    def _next(self) -> _Request | None:
        if self._queue:
            return self._queue.popleft()
        if self._source is None:
            return None
        # What is sent again was paid for, and an outage must not look longer than it is.
        throttle = self.throttle
        if throttle is not None and not throttle.may_send():
            return None
        request = next(self._source, None)
        if request is None:
            self._source = None
        elif throttle is not None:
            rows = len(request.devices) if request.rows is None else len(request.rows)
            throttle.sent(rows, request.size_bytes)
        return request

    def _collect(self) -> int:
        collected = 0
        for _ in range(len(self._in_flight)):
            pending, request = self._in_flight.popleft()
            if not pending.done:
                self._in_flight.append((pending, request))
                continue
            collected += 1
            self._bytes_in_flight -= request.size_bytes
            error = pending.error
            if error is not None:
                self._take_back(request, error)
                continue
            self._failing_since = None
            self._adapt(request)
            self._note(request)
        return collected

    def _adapt(self, request: _Request) -> None:
        now = self.clock()
        if now - request.sent_at <= SLOW_ANSWER_SECONDS:
            self._window = min(self._window + 1 / self._window, self.requests_in_flight)
        elif request.sent_at >= self._slowed_at:
            # Once per round: what was sent before the window shrank says nothing about it.
            self._slowed_at = now
            lowest = min(self._window, MIN_WINDOW_WHEN_SLOW)
            self._window = max(lowest, self._window * 7 / 8)

    def _take_back(self, request: _Request, error: PipelineError) -> None:
        if isinstance(error, TransientError):
            self._delay(request, error)
        elif isinstance(error, RowsRefusedError) and request.rows is not None:
            self._halve(request.rows, error)
        elif isinstance(error, RowsRefusedError):
            self._halve_devices(request, error)
        else:
            raise error

    def _note(self, request: _Request) -> None:
        # Only now: a device noted before its write is acknowledged would stay unwritten.
        if len(self._noted_devices) > MAX_NOTED_DEVICES:
            self._noted_devices.clear()
        for device_id, produced_ms in request.devices.items():
            number = _place_number(request.day_number, self._codes[device_id])
            self._noted_devices[number] = produced_ms

    def _delay(self, request: _Request, error: TransientError) -> None:
        now = self.clock()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self.give_up_after_seconds:
            raise error
        request.failures += 1
        # Once per answer, so a burst of failures brings it to 1: work of our own making must
        # not be what keeps Cassandra busy.
        self._window = max(1.0, self._window / 2)
        wait = backoff_seconds(request.failures, random.random())
        self._delayed.append((now + wait, request))
        self._unsaid += 1
        # Of all that is on its way, once a second: a run's log in Dagster is a database.
        if now - self._said_at >= _SAY_SECONDS:
            self._said_at = now
            _log.warning(
                "%s; sending %s again in %.1f s",
                error,
                counted(self._unsaid, "request"),
                wait,
                extra={RETRIED: self._unsaid},
            )
            self._unsaid = 0

    def _halve(self, rows: RowSlice, error: RowsRefusedError) -> None:
        if rows.parts == 1:
            rows = self.refusals.without_stopped(rows)
        if len(rows) > 1:
            self._queue.extend(map(_Request, rows.split()))
            return
        for _, of_place in rows.items():
            for row in of_place.values():
                self.refusals.add(row, error)

    def _halve_devices(self, request: _Request, error: RowsRefusedError) -> None:
        names = list(request.devices)
        if len(names) == 1:
            self._refused_devices.append((request.day_number, names[0], error))
            return
        middle = len(names) // 2
        for half in (names[:middle], names[middle:]):
            devices = {name: request.devices[name] for name in half}
            self._queue.append(_Request(day_number=request.day_number, devices=devices))

    def _check_refused_devices(self) -> None:
        """Stop the partitions of a refused device, unless all of its rows were refused too."""
        refused = set(map(record_of, self.refusals.rows))
        for day_number, device_id, error in self._refused_devices:
            rows = self.refusals.batch.groups.rows_of(device_id, day_number)
            stored = [row for row in rows if record_of(row) not in refused]
            text = (
                f"{error}. {device_id} has {len(stored)} rows on {day_of(day_number)}, and no "
                "list of devices would show them without it: devices_by_day does not fit, not the "
                "data. Nothing of their Kafka partition moved; compare it with `iot setup`, then "
                "run again"
            )
            for row in stored:
                self.refusals.stopped.setdefault(row[2], RowsRefusedError(text))


def _empty(groups: RowGroups | None = None) -> MicroBatch:
    return MicroBatch(RowGroups.of({}) if groups is None else groups, [], {}, {}, {}, [])


def _place_numbers(groups: RowGroups) -> list[int]:
    """A number for each device and day."""
    numbers: list[int] = _place_number(groups.days, groups.codes.astype(np.int64)).tolist()
    return numbers


def _place_number(day_number: _IntOrInts, code: _IntOrInts) -> _IntOrInts:
    return (day_number << 32) + code
