"""Every question to the table is answered by statements that Cassandra does not refuse."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import given

from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.core.reading.spans import Counted, Span, Summed, whole_day
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR
from iot_pipeline.errors import (
    CassandraSlowError,
    CassandraUnavailableError,
    PipelineError,
    TooManyTombstonesError,
)
from iot_pipeline.stages.ports.readings import SensorData
from iot_pipeline.stages.reading.slices import SlicedRows
from iot_pipeline.stages.requests import wait_for
from iot_pipeline_tests.stages.contracts_readings import MIDNIGHT_MS, NUMBER
from iot_pipeline_tests.stages.fake_rows import FakeSensorData
from iot_pipeline_tests.stages.fakes import FakeAnswer, answer

T = TypeVar("T")
DEAD = 200
SLOW = 1_000
ALL = whole_day("hot", NUMBER)


@dataclass(slots=True)
class LimitedRows(FakeSensorData):
    """Gives up on a statement that meets more than DEAD dead rows, or adds up more than SLOW.

    `dead` are times of rows that have expired; `tripped` counts statements it gave up on, and
    `longest` is the largest number of dead rows that one met.
    """

    dead: Sequence[int] = ()
    tripped: Counter[str] = field(default_factory=Counter)
    most_dead: int = 0

    def _dead_in(self, span: Span, found: Sequence[tuple[object, ...]], limit: int) -> int:
        first, last = span.first_ms, span.last_ms
        if limit and len(found) >= limit:  # it stops at the last row of the page
            times = [int(str(row[0])) for row in found]
            first, last = (min(times), last) if times[0] > times[-1] else (first, max(times))
        return sum(first <= ms <= last for ms in self.dead)

    def _limited(
        self, span: Span, found: FakeAnswer[T], rows: Sequence[tuple[object, ...]], limit: int = 0
    ) -> FakeAnswer[T]:
        dead = self._dead_in(span, rows, limit)
        error: PipelineError | None = None
        if dead > DEAD:
            self.tripped["dead"] += 1
            error = TooManyTombstonesError("too many")
        elif not limit and len(rows) > SLOW:
            self.tripped["slow"] += 1
            error = CassandraSlowError("too slow")
        else:
            self.most_dead = max(self.most_dead, dead)
        return answer(found.found, error) if error else found

    def start_range(self, span: Span, limit: int) -> FakeAnswer[list[tuple[int, StoredRow]]]:
        found = FakeSensorData.start_range(self, span, limit)
        return self._limited(span, found, found.found, limit)

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> FakeAnswer[Sequence[tuple[int, *tuple[float | None, ...]]]]:
        found = FakeSensorData.start_page(self, span, limit, newest_first=newest_first)
        return self._limited(span, found, found.found, limit)

    def start_count(self, span: Span) -> FakeAnswer[Counted]:
        return self._limited(span, FakeSensorData.start_count(self, span), self._rows_in(span))

    def start_sums(self, span: Span) -> FakeAnswer[Summed]:
        return self._limited(span, FakeSensorData.start_sums(self, span), self._rows_in(span))

    def start_counts(self, span: Span, piece_ms: int) -> FakeAnswer[list[tuple[int, int, int]]]:
        found = FakeSensorData.start_counts(self, span, piece_ms)
        return self._limited(span, found, self._rows_in(span))

    def start_means(
        self, span: Span, piece_ms: int
    ) -> FakeAnswer[list[tuple[int, int, float | None]]]:
        found = FakeSensorData.start_means(self, span, piece_ms)
        return self._limited(span, found, self._rows_in(span))

    def _rows_in(self, span: Span) -> Sequence[tuple[int, StoredRow]]:
        return self._between(span.device_id, span.day_number, span.first_ms, span.last_ms)


def everything(rows: SensorData) -> dict[str, object]:
    """What each question finds of the whole day, asked on until nothing is left."""
    found: dict[str, object] = {
        "oldest": list(wait_for(rows.start_page(ALL, 5_000), rows.wait)),
        "newest": list(wait_for(rows.start_page(ALL, 5_000, newest_first=True), rows.wait)),
        "some": list(wait_for(rows.start_page(ALL, 7), rows.wait)),
        "range": list(wait_for(rows.start_range(ALL, 5_000), rows.wait)),
        "counts": list(wait_for(rows.start_counts(ALL, MS_PER_HOUR), rows.wait)),
    }
    means = wait_for(rows.start_means(ALL, MS_PER_HOUR), rows.wait)
    found["means"] = [(at, count, round(mean or 0.0, 9)) for at, count, mean in means]
    rest: Span | None = ALL
    count = 0
    while rest is not None:
        counted = wait_for(rows.start_count(rest), rows.wait)
        count, rest = count + counted.rows, counted.rest
    found["count"] = count
    rest, total, sums = ALL, 0, defaultdict[int, int](int)
    while rest is not None:
        summed = wait_for(rows.start_sums(rest), rows.wait)
        total, rest = total + summed.rows, summed.rest
        for at, of in enumerate(summed.totals):
            sums[at] = (sums[at] + of) % 2**64
    return {**found, "sums": (total, [*sums.values()])}


def table(live: Sequence[int], dead: Sequence[int] = ()) -> tuple[LimitedRows, FakeSensorData]:
    """The same rows twice: with limits, and without."""
    limited, plain = LimitedRows(dead=dead), FakeSensorData()
    for rows in (limited, plain):
        rows.add("hot", [ms for ms in live if ms % 2], 10.0)
        rows.add("hot", [ms for ms in live if not ms % 2], 20.0)
    return limited, plain


TIMES = st.lists(
    st.one_of(
        st.integers(0, MS_PER_DAY - 1),
        # Bursts: many rows within seconds.
        st.integers(MS_PER_HOUR, MS_PER_HOUR + 2_000),
    ),
    unique=True,
    max_size=1_500,
).map(lambda times: [MIDNIGHT_MS + ms for ms in sorted(times)])


@given(live=TIMES, dead=TIMES, retention_hours=st.sampled_from([0, 1, 12, 100]))
def test_whatever_lies_in_a_day_each_question_finds_what_is_there(
    live: list[int], dead: list[int], retention_hours: int
) -> None:
    limited, plain = table(live, dead)
    now = (MIDNIGHT_MS + MS_PER_DAY) / 1000
    sliced = SlicedRows(
        limited,
        len(QUANTITIES),
        Retention(retention_hours / 24),
        rows_at_once=100,
        wall_clock=lambda: now,
    )
    assert everything(sliced) == everything(plain)


def test_a_day_of_expired_rows_is_walked_far_below_the_limit_once_it_is_known() -> None:
    dead = range(MIDNIGHT_MS, MIDNIGHT_MS + MS_PER_DAY, 8_640)  # 10,000, fifty times the limit
    limited, _ = table([MIDNIGHT_MS + 5], dead)
    now = (MIDNIGHT_MS + 2 * MS_PER_DAY) / 1000
    group = DeviceGroup("this one's", (ALL.device_id,), retention_days=0.5)
    retention = Retention.of(0, [group])
    sliced = SlicedRows(limited, len(QUANTITIES), retention, wall_clock=lambda: now)
    assert wait_for(sliced.start_page(ALL, 10), sliced.wait) == [(MIDNIGHT_MS + 5, 10.0, 40.0)]
    first = limited.tripped["dead"]
    assert first <= 4
    # The next question begins where the first one learned.
    assert len(wait_for(sliced.start_page(ALL, 10), sliced.wait)) == 1
    assert limited.tripped["dead"] == first
    # A slice that was too large is never again longer than half.
    assert limited.most_dead <= DEAD * 0.6


@dataclass(slots=True)
class Watched(FakeSensorData):
    """Notes which parts of a day are asked for."""

    parts: list[tuple[int, int]] = field(default_factory=list)

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> FakeAnswer[Sequence[tuple[int, *tuple[float | None, ...]]]]:
        self.parts.append((span.first_ms, span.last_ms))
        return FakeSensorData.start_page(self, span, limit, newest_first=newest_first)


def test_the_part_of_a_day_that_still_lives_is_asked_for_first_and_in_one_piece() -> None:
    rows, noon = Watched(), MIDNIGHT_MS + MS_PER_DAY // 2
    rows.add("hot", [noon + 60_000 * n for n in range(500)])
    end = MIDNIGHT_MS + MS_PER_DAY
    sliced = SlicedRows(rows, len(QUANTITIES), Retention(0.5), wall_clock=lambda: end / 1000)
    found = wait_for(sliced.start_page(ALL, 100, newest_first=True), sliced.wait)
    assert (len(found), rows.parts) == (100, [(noon, end - 1)])
    # What may have expired comes after it, an hour at first.
    wait_for(sliced.start_page(ALL, 1_000, newest_first=True), sliced.wait)
    assert rows.parts[1:3] == [(noon, end - 1), (noon - MS_PER_HOUR, noon - 1)]


def test_rows_that_cannot_have_expired_are_asked_for_at_once() -> None:
    limited, _ = table([MIDNIGHT_MS + 1_000 * n for n in range(100)])
    now = (MIDNIGHT_MS + MS_PER_DAY) / 1000
    sliced = SlicedRows(limited, len(QUANTITIES), Retention(30.0), wall_clock=lambda: now)
    assert wait_for(sliced.start_count(ALL), sliced.wait) == Counted(100)
    assert limited.asked == {"page": 1}


def test_many_rows_are_added_up_in_parts_and_no_statement_is_too_slow() -> None:
    live = [MIDNIGHT_MS + 10 * n for n in range(5_000)]
    limited, plain = table(live)
    sliced = SlicedRows(limited, len(QUANTITIES), rows_at_once=SLOW // 2)
    assert everything(sliced) == everything(plain)
    assert not limited.tripped
    part = wait_for(sliced.start_count(ALL), sliced.wait)
    assert part.rest is not None
    assert part.rows < 1_100


@dataclass(slots=True)
class DeadServer(FakeSensorData):
    """Answers nothing in time."""

    def start_count(self, span: Span) -> FakeAnswer[Counted]:
        self.asked["count"] += 1
        return answer(Counted(0), CassandraSlowError("no answer"))


@pytest.mark.parametrize("error", [CassandraUnavailableError("away"), CassandraSlowError("slow")])
def test_a_server_that_is_away_is_not_asked_in_ever_smaller_pieces(error: PipelineError) -> None:
    rows = DeadServer()
    rows.add("hot", [MIDNIGHT_MS + 10 * n for n in range(5_000)])
    sliced = SlicedRows(rows, len(QUANTITIES))
    with pytest.raises(CassandraSlowError):
        wait_for(sliced.start_count(ALL), sliced.wait)
    assert rows.asked["count"] == 2
    rows.failures = [error] * 10
    with pytest.raises(type(error)):
        wait_for(sliced.start_page(ALL, 10), sliced.wait)
    assert rows.asked["page"] <= 1 + 2
