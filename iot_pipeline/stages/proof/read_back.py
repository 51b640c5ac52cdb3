"""Fetch stored rows by their keys, many partitions at once, and compare them with their records.

Reads only. Bounded: so many questions on their way, each answered in one page.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from iot_pipeline.core.proof.read_back import Place, ReadBack, StoredRow
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.ports import (
    MAX_ROWS_PER_READ,
    MAX_TIMES_PER_READ,
    Answer,
    SensorData,
)
from iot_pipeline.stages.requests import Flight

# So many wanted rows are asked for as one range; others may lie between them, up to as many again.
_KEYS_PER_RANGE = 2_000
_ROWS_BETWEEN = 50
READS_IN_FLIGHT = 64
# Each keeps a thread of Cassandra busy until its partition is read.
SUMS_IN_FLIGHT = 16

StoredRows = Answer[Sequence[tuple[int, StoredRow]]]
# Rows, and per quantity the sum of the write times.
Sums = tuple[int, Sequence[int]]
Fetched = tuple[Place, Sequence[int], dict[int, StoredRow]]


def fetch_rows(
    reader: SensorData,
    wanted: Iterable[tuple[Place, Sequence[int]]],
    give_up_after_seconds: float,
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[Fetched]:
    """The stored rows of many keys, in any order of places.

    Args:
        reader: the store.
        wanted: per place the timestamps in milliseconds, in order; consumed as questions leave.
        give_up_after_seconds: how long transient errors may last without one answer.
        is_over: asked all the time; True ends it, and answers on their way are not waited for.

    Returns:
        (place, timestamps asked for, those rows that exist by timestamp): each timestamp once,
        a place maybe several times; rows between the timestamps may come along.
    """
    asking = _Asking(reader, _as_ranges(wanted), give_up_after_seconds, is_over=is_over)
    for question, found in asking.answers():
        if isinstance(question, _Range) and len(found) >= question.limit:
            # Too many rows lie between the wanted ones: ask for those alone.
            for part in _parts(question.times, MAX_TIMES_PER_READ):
                asking.ask(_Times(question.place, part))
            continue
        yield question.place, question.times, dict(found)


def fetch_row(
    reader: SensorData, place: Place, timestamp_ms: int, give_up_after_seconds: float
) -> StoredRow | None:
    """The stored row of one key."""
    for _, _, found in fetch_rows(reader, [(place, [timestamp_ms])], give_up_after_seconds):
        return found.get(timestamp_ms)
    return None


def scan_rows(
    reader: SensorData, places: Iterable[Place], give_up_after_seconds: float
) -> Iterator[tuple[Place, Sequence[tuple[int, StoredRow]]]]:
    """Every row of these partitions, a page at a time, pages of several places interleaved."""
    whole = (
        _Range(place, (place[1] * MS_PER_DAY, (place[1] + 1) * MS_PER_DAY - 1)) for place in places
    )
    asking = _Asking(reader, whole, give_up_after_seconds, MAX_ROWS_PER_READ)
    for question, found in asking.answers():
        if len(found) >= MAX_ROWS_PER_READ:
            # Newest first, so the next page ends just below the oldest of this one.
            asking.ask(_Range(question.place, (question.times[0], found[-1][0] - 1)))
        yield question.place, found


def sum_rows(
    reader: SensorData, places: Iterable[Place], give_up_after_seconds: float
) -> Iterator[tuple[Place, Sums]]:
    """Rows of these partitions, and the sums of their write times."""
    flight = Flight(reader.wait, give_up_after_seconds)
    answered: list[tuple[Place, Sums]] = []

    def ask(place: Place) -> None:
        def take(answer: Answer[Sums]) -> None:
            answered.append((place, answer.found))

        flight.start(lambda: reader.start_sums(*place), take)

    waiting = iter(places)
    while True:
        for place in islice(waiting, SUMS_IN_FLIGHT - flight.size):
            ask(place)
        if not flight.size:
            return
        if not flight.take_answers():
            reader.wait(0.05)
        yield from answered
        answered.clear()


def read_back(
    reader: SensorData,
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


@dataclass(frozen=True, slots=True)
class _Range:
    """Rows of a place from the first to the last of `times`."""

    place: Place
    times: Sequence[int]

    @property
    def limit(self) -> int:
        return 2 * len(self.times) + _ROWS_BETWEEN

    def start(self, reader: SensorData, limit: int | None) -> StoredRows:
        device_id, day_number = self.place
        return reader.start_range(
            device_id, day_number, self.times[0], self.times[-1], limit or self.limit
        )


@dataclass(frozen=True, slots=True)
class _Times:
    """The rows of a place at exactly `times`."""

    place: Place
    times: Sequence[int]

    def start(self, reader: SensorData, _limit: int | None) -> StoredRows:
        return reader.start_times(*self.place, self.times)


def _as_ranges(wanted: Iterable[tuple[Place, Sequence[int]]]) -> Iterator[_Range]:
    for place, times in wanted:
        for part in _parts(times, _KEYS_PER_RANGE):
            yield _Range(place, part)


def _parts(times: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(times), size):
        yield times[at : at + size]


class _Asking:
    """Keeps so many questions on their way; what fails for a while is asked again."""

    def __init__(
        self,
        reader: SensorData,
        questions: Iterator[_Range],
        give_up_after_seconds: float,
        limit: int | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reader, self._questions, self._limit = reader, questions, limit
        self._is_over = is_over
        self._flight = Flight(reader.wait, give_up_after_seconds)
        self._answered: deque[tuple[_Range | _Times, StoredRows]] = deque()

    def ask(self, question: _Range | _Times) -> None:
        def send() -> StoredRows:
            return question.start(self._reader, self._limit)

        def take(answer: StoredRows) -> None:
            self._answered.append((question, answer))

        self._flight.start(send, take)

    def answers(self) -> Iterator[tuple[_Range | _Times, Sequence[tuple[int, StoredRow]]]]:
        while True:
            while self._flight.size < READS_IN_FLIGHT:
                question = next(self._questions, None)
                if question is None:
                    break
                self.ask(question)
            if not self._flight.size or self._is_over():
                return
            if not self._flight.take_answers():
                self._reader.wait(0.05)
            while self._answered:
                answered, answer = self._answered.popleft()
                yield answered, answer.found
