"""Bring one micro-batch's rows into the store: a bounded window, retries, refused rows found.

At-least-once: a group is sent until it is acknowledged, and the store upserts by primary key with
a write time from the log, so a second copy changes nothing.
"""

import logging
import math
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.refusals import Refusals
from iot_pipeline.core.ingest.sizing import MOST_ROWS_PER_PARTITION
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import RowsByTime, arrived_ms, record_of
from iot_pipeline.core.times import day_of
from iot_pipeline.errors import PipelineError, RowsRefusedError, TransientError
from iot_pipeline.stages.ports import Pending, ReadingStore
from iot_pipeline.stages.requests import backoff_seconds

_log = logging.getLogger(__name__)

# Rows of one CQL batch: single-partition unlogged batches are exempt from the size guard, and
# past this many the server gains nothing (measured at 300, 600 and 1,000 rows).
MAX_ROWS_PER_BATCH = MOST_ROWS_PER_PARTITION
MAX_DEVICES_PER_BATCH = MAX_ROWS_PER_BATCH
# A row in devices_by_day is written again when the last write is older: with a TTL it would
# otherwise end before rows that arrived later for the same day. It lives this long beyond them, and
# as long again; then no question is asked any more about rows that have expired.
DEVICE_REFRESH_MS = 6 * 3_600_000
# Groups of fewer rows share a CQL batch: within Cassandra's guard rails for batches that span
# partitions: 10 of them and 5 KiB, which 50 rows are below. No
# more of them than the window asks for: Cassandra applies the partitions of one request one after
# the other, each waiting for the commit log (one of 10 takes 10 ms, ten of one 3 ms).
MIN_ROWS_ALONE = 6
MAX_MERGED_PARTITIONS = 10
MAX_MERGED_KEY_BYTES = 1024
# Past about 4 MB unsent the driver refuses to take more.
MAX_BYTES_IN_FLIGHT = 2 * 1024 * 1024
# What a row takes on the wire beside its device_id.
_ROW_WIRE_BYTES = 96
# Answers later than this mean that Cassandra queues what we send: less of it loses nothing.
SLOW_ANSWER_SECONDS = 0.25
# But never fewer than these on their way because of slowness alone: with one at a time what
# limits us is our own round trip, and a follow run falls behind on a busy machine.
MIN_WINDOW_WHEN_SLOW = 16
# About 250 bytes each. When it is full all are noted again, which costs a write and is harmless.
MAX_NOTED_DEVICES = 200_000


# (device_id, day number, rows): rows of one Cassandra partition
Part = tuple[str, int, RowsByTime]


@dataclass(slots=True)
class _Group:
    """One request: rows of one Cassandra partition or of a few small ones, or devices of a day."""

    parts: list[Part] = field(default_factory=list)
    day_number: int = 0
    devices: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    sent_at: float = 0.0

    @property
    def size_bytes(self) -> int:
        """About what it takes on the wire."""
        if not self.parts:
            return sum(_ROW_WIRE_BYTES + len(name) for name in self.devices)
        return sum(len(rows) * (_ROW_WIRE_BYTES + len(name)) for name, _, rows in self.parts)


@dataclass(slots=True)
class RowWriter:
    """Writes one micro-batch at a time: `begin`, then `pump` until it says True.

    Args:
        requests_in_flight: CQL batches on their way at once, at most; halved when a write fails,
            less by an eighth when answers are slow, and grown back one by one.
        give_up_after_seconds: how long transient errors may last without one success.
        clock: monotonic seconds.
    """

    store: ReadingStore
    requests_in_flight: int
    give_up_after_seconds: float
    clock: Callable[[], float] = time.monotonic
    refusals: Refusals = field(default_factory=lambda: Refusals(_empty()))
    _refused_devices: list[tuple[int, str, RowsRefusedError]] = field(default_factory=list)
    _queue: deque[_Group] = field(default_factory=deque)
    _delayed: list[tuple[float, _Group]] = field(default_factory=list)
    _in_flight: deque[tuple[Pending, _Group]] = field(default_factory=deque)
    _failing_since: float | None = None
    _window: float = 0.0
    _slowed_at: float = 0.0
    _bytes_in_flight: int = 0
    _at_most: int = 0
    _noted_devices: dict[tuple[int, str], int] = field(default_factory=dict)

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
        # By day and bucket: a batch of one Cassandra partition, which no guard rail is about.
        new_devices: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
        newest_ms = batch.newest_ms
        small: list[Part] = []
        for (device_id, day_number), rows in batch.groups.items():
            if len(rows) < MIN_ROWS_ALONE:
                small.append((device_id, day_number, rows))
            else:
                for part in _parts(rows, MAX_ROWS_PER_BATCH):
                    self._queue.append(_Group([(device_id, day_number, part)]))
            noted = self._noted_devices.get((day_number, device_id))
            # No row is newer than the newest of all: looking at each costs as much as packing it.
            if noted is None or newest_ms - noted >= DEVICE_REFRESH_MS:
                produced_ms = arrived_ms(max(rows.values())[0])
                if noted is None or produced_ms - noted >= DEVICE_REFRESH_MS:
                    new_devices[day_number, bucket_of(device_id)][device_id] = produced_ms
        at_once = min(MAX_MERGED_PARTITIONS, math.ceil(len(small) / self._at_most))
        self._queue.extend(map(_Group, _merge(small, at_once)))
        for (day_number, _), devices in new_devices.items():
            names = list(devices)
            for at in range(0, len(names), MAX_DEVICES_PER_BATCH):
                part_of = {name: devices[name] for name in names[at : at + MAX_DEVICES_PER_BATCH]}
                self._queue.append(_Group(day_number=day_number, devices=part_of))

    def write(self, groups: dict[tuple[str, int], RowsByTime]) -> None:
        """Bring rows in that are of no micro-batch; returns when all are acknowledged or refused.

        Raises:
            TransientError: as `pump`.
            RowsRefusedError: more rows were refused than a wrong row or two explain.
        """
        self.begin(_empty(groups))
        while not self.pump(0.1):
            pass
        for error in self.refusals.stopped.values():
            raise error

    @property
    def is_busy(self) -> bool:
        return bool(self._queue or self._delayed or self._in_flight)

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
            ready = [group for at, group in self._delayed if at <= now]
            self._delayed = [(at, group) for at, group in self._delayed if at > now]
            self._queue.extend(ready)
        sent = 0
        while (
            self._queue
            and len(self._in_flight) < min(self._window, self._at_most)
            and self._bytes_in_flight < MAX_BYTES_IN_FLIGHT
        ):
            group = self._queue.popleft()
            group.sent_at = self.clock()
            try:
                if not group.parts:
                    pending = self.store.send_devices(group.day_number, group.devices)
                elif len(group.parts) == 1:
                    pending = self.store.send_rows(*group.parts[0])
                else:
                    pending = self.store.send_merged(group.parts)
            except PipelineError as exc:
                # What could not leave is treated as what came back with an error; the rest waits
                # for the next turn, so that one outage is not met once per group.
                self._take_back(group, exc)
                break
            self._in_flight.append((pending, group))
            self._bytes_in_flight += group.size_bytes
            sent += 1
        return sent

    def _collect(self) -> int:
        collected = 0
        for _ in range(len(self._in_flight)):
            pending, group = self._in_flight.popleft()
            if not pending.done:
                self._in_flight.append((pending, group))
                continue
            collected += 1
            self._bytes_in_flight -= group.size_bytes
            error = pending.error
            if error is not None:
                self._take_back(group, error)
                continue
            self._failing_since = None
            self._adapt(group)
            self._note(group)
        return collected

    def _adapt(self, group: _Group) -> None:
        now = self.clock()
        if now - group.sent_at <= SLOW_ANSWER_SECONDS:
            self._window = min(self._window + 1 / self._window, self.requests_in_flight)
        elif group.sent_at >= self._slowed_at:
            # Once per round: what was sent before the window shrank says nothing about it.
            self._slowed_at = now
            lowest = min(self._window, MIN_WINDOW_WHEN_SLOW)
            self._window = max(lowest, self._window * 7 / 8)

    def _take_back(self, group: _Group, error: PipelineError) -> None:
        if isinstance(error, TransientError):
            self._delay(group, error)
        elif isinstance(error, RowsRefusedError) and group.parts:
            self._halve(group, error)
        elif isinstance(error, RowsRefusedError):
            self._halve_devices(group, error)
        else:
            raise error

    def _note(self, group: _Group) -> None:
        # Only now: a device noted before its write is acknowledged would stay unwritten.
        if len(self._noted_devices) > MAX_NOTED_DEVICES:
            self._noted_devices.clear()
        for device_id, produced_ms in group.devices.items():
            self._noted_devices[group.day_number, device_id] = produced_ms

    def _delay(self, group: _Group, error: TransientError) -> None:
        now = self.clock()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self.give_up_after_seconds:
            raise error
        group.failures += 1
        # Once per answer, so a burst of failures brings it to 1: work of our own making must
        # not be what keeps Cassandra busy.
        self._window = max(1.0, self._window / 2)
        wait = backoff_seconds(group.failures, random.random())
        _log.warning("%s; sending these rows again in %.1f s", error, wait)
        self._delayed.append((now + wait, group))

    def _halve(self, group: _Group, error: RowsRefusedError) -> None:
        if len(group.parts) > 1:
            self._queue.extend(_Group([part]) for part in group.parts)
            return
        device_id, day_number, rows = group.parts[0]
        rows = self.refusals.without_stopped(rows)
        if len(rows) > 1:
            for half in _parts(rows, (len(rows) + 1) // 2):
                self._queue.append(_Group([(device_id, day_number, half)]))
            return
        for row in rows.values():
            self.refusals.add(row, error)

    def _halve_devices(self, group: _Group, error: RowsRefusedError) -> None:
        names = list(group.devices)
        if len(names) == 1:
            self._refused_devices.append((group.day_number, names[0], error))
            return
        middle = len(names) // 2
        for half in (names[:middle], names[middle:]):
            devices = {name: group.devices[name] for name in half}
            self._queue.append(_Group(day_number=group.day_number, devices=devices))

    def _check_refused_devices(self) -> None:
        """Stop the partitions of a refused device, unless all of its rows were refused too."""
        refused = set(map(record_of, self.refusals.rows))
        for day_number, device_id, error in self._refused_devices:
            rows = self.refusals.batch.groups[device_id, day_number].values()
            stored = [row for row in rows if record_of(row) not in refused]
            text = (
                f"{error}. {device_id} has {len(stored)} rows on {day_of(day_number)}, and no "
                "list of devices would show them without it: devices_by_day does not fit, not the "
                "data. Nothing of their Kafka partition moved; compare it with `iot setup`, then "
                "run again"
            )
            for row in stored:
                self.refusals.stopped.setdefault(row[2], RowsRefusedError(text))


def _empty(groups: dict[tuple[str, int], RowsByTime] | None = None) -> MicroBatch:
    return MicroBatch(groups or {}, [], {}, {}, {}, [])


def _merge(small: list[Part], at_once: int) -> list[list[Part]]:
    """Put up to `at_once` parts of few rows together, each result within the guard rails."""
    merged: list[list[Part]] = []
    key_bytes = 0
    for part in small:
        size = len(part[0].encode())
        if not merged or len(merged[-1]) == at_once or key_bytes + size > MAX_MERGED_KEY_BYTES:
            merged.append([])
            key_bytes = 0
        merged[-1].append(part)
        key_bytes += size
    return merged


def _parts(rows: RowsByTime, size: int) -> list[RowsByTime]:
    if len(rows) <= size:
        return [rows]
    items = list(rows.items())
    return [dict(items[at : at + size]) for at in range(0, len(items), size)]
