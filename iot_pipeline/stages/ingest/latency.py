"""Measure, while rows are written, when they can be read: a probe that reads a sample back.

Stands between a drain and the store it writes to. A row is chosen when it is sent; once its write
is acknowledged it is asked for, and when the answer holds it, the time since the broker's timestamp
is one sample. So a sample is how long a reader of the row would have waited, its question
included. Reads only, at most `PROBES_PER_SECOND` of them.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.ingest.latency import Latencies
from iot_pipeline.core.proof.read_back import StoredRow, newest_us
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import arrived_ms
from iot_pipeline.errors import PipelineError, TransientError
from iot_pipeline.stages.ports.answers import Answer, Pending
from iot_pipeline.stages.ports.readings import ReadingStore, SensorData

# A probe costs the client about 0.3 ms: these are less than one percent of a run's time.
PROBES_PER_SECOND = 20.0
# No probe is sent while this many have no answer: an outage has measures of its own.
_MAX_WAITING = 64


StoredRows = Answer[Sequence[tuple[int, StoredRow]]]


@dataclass(frozen=True, slots=True)
class _Probe:
    """One row, and the write time it has at least once it can be read."""

    timestamp_ms: int
    written_us: int

    @property
    def produced_at(self) -> float:
        """Seconds since 1970: the write time names the broker's millisecond."""
        return arrived_ms(self.written_us) / 1000

    def is_in(self, answer: StoredRows) -> bool:
        """Whether the answer holds the row, or one that has won over it since."""
        return any(
            at == self.timestamp_ms and newest_us(row) >= self.written_us
            for at, row in answer.found
        )


class _ProbedWrite:
    """A write on its way; once it is acknowledged its row is asked for, once."""

    def __init__(self, write: Pending, on_acknowledged: Callable[[], None]) -> None:
        self._write, self._on_acknowledged = write, on_acknowledged
        self._is_asked = False

    @property
    def done(self) -> bool:
        is_done = self._write.done
        if is_done and not self._is_asked:
            self._is_asked = True
            if self._write.error is None:
                self._on_acknowledged()
        return is_done

    @property
    def error(self) -> PipelineError | None:
        return self._write.error


@dataclass(slots=True)
class LatencyProbe:
    """A `ReadingStore` that measures: hand it to a drain in the place of `store`.

    Args:
        store: where rows go; every call is passed on as it is.
        clock: monotonic seconds, for the pace of probes.
        random_: chooses the row of a group.
        since_seconds: rows of records that arrived in Kafka before this (seconds since 1970) are
            not measured: they waited for the run, and `waited_seconds` says how long.
        on_measured: is told each sample, in seconds, in whichever thread collects it.

    `take` may be called from another thread than the drain's. `unreadable` counts rows that were
    acknowledged and could not be read then: a person deleted them, or Cassandra went away.
    """

    store: ReadingStore
    rows: SensorData
    clock: Callable[[], float] = time.monotonic
    random_: random.Random = field(default_factory=random.Random)
    since_seconds: float = 0.0
    unreadable: int = 0
    on_measured: Callable[[float], None] = lambda _: None
    _due: float = 0.0
    _asked: deque[tuple[_Probe, StoredRows]] = field(default_factory=deque)
    _measured: Latencies = field(default_factory=Latencies)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send_rows(self, rows: RowSlice) -> Pending:
        write = self.store.send_rows(rows)
        return self._probed(write, rows) if self._is_due() else write

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> Pending:
        return self.store.send_devices(day_number, devices)

    def wait(self, timeout_seconds: float) -> None:
        self.store.wait(timeout_seconds)

    def take(self) -> Latencies:
        """What was measured since the last call; probes without an answer stay for the next."""
        with self._lock:
            self._collect()
            found, self._measured = self._measured, Latencies()
        return found

    def _collect(self) -> None:
        for _ in range(len(self._asked)):
            probe, answer = self._asked.popleft()
            if not answer.done:
                self._asked.append((probe, answer))
            elif answer.error is None and probe.is_in(answer):
                seconds = answer.answered_at - probe.produced_at
                self._measured.add(seconds)
                self.on_measured(seconds)
            else:
                self.unreadable += 1

    def _is_due(self) -> bool:
        now = self.clock()
        if now < self._due:
            return False
        self._due = now + 1 / PROBES_PER_SECOND
        with self._lock:
            self._collect()
            return len(self._asked) < _MAX_WAITING

    def _probed(self, write: Pending, rows: RowSlice) -> Pending:
        (device_id, day_number), of_place = self.random_.choice(rows.items())
        timestamp_ms = self.random_.choice(list(of_place))
        probe = _Probe(timestamp_ms, of_place[timestamp_ms][0])
        if probe.produced_at < self.since_seconds:
            return write

        def ask() -> None:
            try:
                answer = self.rows.start_times(device_id, day_number, [timestamp_ms])
            except TransientError:
                # The writes meet the same outage, and they are the ones to wait or to give up.
                self.unreadable += 1
                return
            with self._lock:
                self._asked.append((probe, answer))

        return _ProbedWrite(write, ask)
