"""Fetch stored rows by their keys, many partitions at once, and compare them with their records.

Reads only. Bounded: so many questions on their way, each answered in one page.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from iot_pipeline.core.ingest import RowsByTime
from iot_pipeline.core.read_back import Place, ReadBack, StoredRow
from iot_pipeline.errors import TransientError
from iot_pipeline.stages.ports import MAX_TIMES_PER_READ, PendingRows, RowReader
from iot_pipeline.stages.retry import backoff_seconds

_log = logging.getLogger(__name__)

# So many wanted rows are asked for as one range; others may lie between them, up to as many again.
_KEYS_PER_RANGE = 2_000
_ROWS_BETWEEN = 50
READS_IN_FLIGHT = 64

Fetched = tuple[Place, Sequence[int], dict[int, StoredRow]]


def fetch_rows(
    reader: RowReader,
    wanted: Iterable[tuple[Place, Sequence[int]]],
    give_up_after_seconds: float,
    in_flight: int = READS_IN_FLIGHT,
) -> Iterator[Fetched]:
    """The stored rows of many keys, in any order of places.

    Args:
        reader: the store.
        wanted: per place the timestamps in milliseconds; consumed as questions leave.
        give_up_after_seconds: how long transient errors may last without one answer.
        in_flight: questions on their way at once.

    Returns:
        (place, timestamps asked for, those rows that exist by timestamp): each timestamp once,
        a place maybe several times; rows between the timestamps may come along.
    """
    fetch = _Fetch(reader, give_up_after_seconds)
    questions = _questions(wanted)
    exhausted = False
    while True:
        while not exhausted and fetch.size < in_flight:
            question = next(questions, None)
            if question is None:
                exhausted = True
                break
            fetch.ask(question)
        if exhausted and not fetch.size:
            return
        answered = False
        for fetched in fetch.collect():
            answered = True
            yield fetched
        if not answered:
            reader.wait(0.1)


def read_back(
    reader: RowReader,
    groups: Mapping[Place, RowsByTime],
    give_up_after_seconds: float,
    into: ReadBack,
) -> ReadBack:
    """Compare every row of `groups` with what is stored; the findings go into `into`."""
    wanted = ((place, sorted(rows)) for place, rows in groups.items())
    for place, times, found in fetch_rows(reader, wanted, give_up_after_seconds):
        rows = groups[place]
        for ms in times:
            into.take(place, ms, rows[ms], found.get(ms))
    return into


class _Question:
    """Some keys of one place: asked as a range first, one by one when too much lies between."""

    def __init__(self, place: Place, times: Sequence[int], as_range: bool) -> None:
        self.place, self.times, self.as_range = place, times, as_range
        self.limit = 2 * len(times) + _ROWS_BETWEEN

    def start(self, reader: RowReader) -> PendingRows:
        device_id, day_number = self.place
        if self.as_range:
            return reader.start_range(
                device_id, day_number, self.times[0], self.times[-1], self.limit
            )
        return reader.start_times(device_id, day_number, self.times)


def _questions(wanted: Iterable[tuple[Place, Sequence[int]]]) -> Iterator[_Question]:
    for place, times in wanted:
        for at in range(0, len(times), _KEYS_PER_RANGE):
            yield _Question(place, times[at : at + _KEYS_PER_RANGE], as_range=True)


class _Fetch:
    def __init__(self, reader: RowReader, give_up_after_seconds: float) -> None:
        self._reader, self._give_up = reader, give_up_after_seconds
        self._asked: deque[tuple[PendingRows, _Question]] = deque()
        self._failing_since: float | None = None
        self._failures = 0

    @property
    def size(self) -> int:
        return len(self._asked)

    def ask(self, question: _Question) -> None:
        self._asked.append((question.start(self._reader), question))

    def collect(self) -> Iterator[Fetched]:
        for _ in range(len(self._asked)):
            pending, question = self._asked.popleft()
            if not pending.done:
                self._asked.append((pending, question))
                continue
            error = pending.error
            if error is not None:
                if not isinstance(error, TransientError):
                    raise error
                self._wait_after(error)
                self.ask(question)
                continue
            self._failing_since, self._failures = None, 0
            found = pending.found
            if question.as_range and len(found) >= question.limit:
                # Too many rows lie between the wanted ones: ask for those alone.
                for at in range(0, len(question.times), MAX_TIMES_PER_READ):
                    part = question.times[at : at + MAX_TIMES_PER_READ]
                    self.ask(_Question(question.place, part, as_range=False))
                continue
            yield question.place, question.times, dict(found)

    def _wait_after(self, error: TransientError) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self._give_up:
            raise error
        self._failures += 1
        wait = backoff_seconds(self._failures, random.random())
        _log.warning("%s; asking again in %.1f s", error, wait)
        time.sleep(wait)
