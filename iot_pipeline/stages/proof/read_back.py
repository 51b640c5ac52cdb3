"""Fetch stored rows by their keys, many partitions at once, and compare them with their records.

Reads only. Bounded: `READS_IN_FLIGHT` questions on their way, each answered in one page.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from iot_pipeline.core.proof.read_back import ReadBack, StoredRow
from iot_pipeline.core.reading.spans import Place, Span, Summed, whole_day
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.ports.answers import Answer
from iot_pipeline.stages.ports.readings import MAX_ROWS_PER_READ, MAX_TIMES_PER_READ, SensorData
from iot_pipeline.stages.requests import Flight

# Wanted rows that are asked for as one range; up to as many others may lie between them.
_KEYS_PER_RANGE = 2_000
_ROWS_BETWEEN = 50
READS_IN_FLIGHT = 64
# Each keeps a thread of Cassandra busy until its partition is read.
SUMS_IN_FLIGHT = 16

StoredRows = Answer[Sequence[tuple[int, StoredRow]]]
Fetched = tuple[Place, Sequence[int], dict[int, StoredRow]]


def fetch_rows(
    reader: SensorData,
    wanted: Iterable[tuple[Place, Sequence[int]]],
    give_up_after_seconds: float,
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[Fetched]:
    """The stored rows of many keys, in any order of places.

    Args:
        wanted: per place the timestamps in milliseconds, in order; consumed as questions leave.
        give_up_after_seconds: how long transient errors may last without one answer.
        is_over: asked all the time; True ends it, and answers on their way are not waited for.

    Returns:
        (place, timestamps asked for, those rows that exist by timestamp): each timestamp once,
        a place maybe several times; rows between the timestamps may come along.
    """

    def again(question: _Question, answer: StoredRows) -> list[_Question]:
        # Too many rows lie between the wanted ones: ask for those alone.
        if not question.limit or len(answer.found) < question.limit:
            return []
        return [_Question(question.place, p) for p in _parts(question.times, MAX_TIMES_PER_READ)]

    for question, answer in Flight(reader.wait, give_up_after_seconds).answers(
        _as_ranges(wanted),
        lambda question: question.start(reader),
        READS_IN_FLIGHT,
        again=again,
        in_order=False,
        is_over=is_over,
        is_cut_off=True,
    ):
        if not question.limit or len(answer.found) < question.limit:
            yield question.place, question.times, dict(answer.found)


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

    def page(place: Place, last_ms: int) -> _Question:
        return _Question(place, (place[1] * MS_PER_DAY, last_ms), MAX_ROWS_PER_READ)

    def again(question: _Question, answer: StoredRows) -> list[_Question]:
        # Newest first, so the next page ends just below the oldest of this one.
        found = answer.found
        return [page(question.place, found[-1][0] - 1)] if len(found) >= MAX_ROWS_PER_READ else []

    for question, answer in Flight(reader.wait, give_up_after_seconds).answers(
        (page(place, (place[1] + 1) * MS_PER_DAY - 1) for place in places),
        lambda question: question.start(reader),
        READS_IN_FLIGHT,
        again=again,
        in_order=False,
    ):
        yield question.place, answer.found


def sum_rows(
    reader: SensorData, places: Iterable[Place], give_up_after_seconds: float
) -> Iterator[tuple[Place, Summed]]:
    """Rows of these partitions, and the sums of their write times; a place maybe several times."""
    for span, answer in Flight(reader.wait, give_up_after_seconds).answers(
        (whole_day(*place) for place in places),
        reader.start_sums,
        SUMS_IN_FLIGHT,
        again=lambda _, answer: [answer.found.rest] if answer.found.rest else [],
        in_order=False,
    ):
        yield (span.device_id, span.day_number), answer.found


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
class _Question:
    """Rows of a place from the first to the last of `times`, no more than `limit`.

    Without a limit: the rows at exactly these times.
    """

    place: Place
    times: Sequence[int]
    limit: int = 0

    def start(self, reader: SensorData) -> StoredRows:
        if not self.limit:
            return reader.start_times(*self.place, self.times)
        return reader.start_range(Span(*self.place, self.times[0], self.times[-1]), self.limit)


def _as_ranges(wanted: Iterable[tuple[Place, Sequence[int]]]) -> Iterator[_Question]:
    for place, times in wanted:
        for part in _parts(times, _KEYS_PER_RANGE):
            yield _Question(place, part, 2 * len(part) + _ROWS_BETWEEN)


def _parts(times: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(times), size):
        yield times[at : at + size]
