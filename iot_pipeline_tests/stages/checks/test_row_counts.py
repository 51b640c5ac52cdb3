"""A day that one look cannot count whole is counted by several, each where the last one ended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import pytest

from iot_pipeline.core.proof.forgetting import ForgottenRows
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import Counted, PlainRow, Span
from iot_pipeline.stages.checks.machinery.row_counts import CountSoFar, DayCount, count_days
from iot_pipeline.stages.reading.slices import SlicedRows
from iot_pipeline_tests.stages.contracts_readings import DAY, MIDNIGHT_MS
from iot_pipeline_tests.stages.fake_rows import FakeDeviceDays, FakeSensorData
from iot_pipeline_tests.stages.fakes import FakeAnswer

TOTAL = 10 + 4_000 + 40 * 10


@dataclass
class Sums:
    """What the ledgers say of the day."""

    rows: int

    def stored_by_day(self, *_: object, of_cells: bool = False) -> Iterator[dict[date, int]]:
        yield {DAY: self.rows}


@dataclass(slots=True)
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class SlowRows(FakeSensorData):
    """Each question takes a second."""

    clock: Clock = field(default_factory=Clock)

    def start_count(self, span: Span) -> FakeAnswer[Counted]:
        self.clock.now += 1
        return FakeSensorData.start_count(self, span)

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> FakeAnswer[Sequence[PlainRow]]:
        self.clock.now += 1
        return FakeSensorData.start_page(self, span, limit, newest_first=newest_first)


def look(
    rows: SlowRows, ledger: Sums, so_far: CountSoFar | None = None, seconds: float = 2.5
) -> DayCount:
    (day,) = count_days(
        ledger,  # type: ignore[arg-type]
        SlicedRows(rows, len(QUANTITIES), rows_at_once=500),
        FakeDeviceDays(rows.store),
        "t",
        [0],
        [DAY],
        budget_seconds=seconds,
        begun={DAY: so_far} if so_far else None,
        clock=rows.clock,
    )
    return day


@pytest.fixture
def rows() -> SlowRows:
    """One hot device between two that have few rows, and 40 behind."""
    rows = SlowRows()
    rows.add("a quiet one", [MIDNIGHT_MS + at for at in range(10)])
    rows.add("hot", [MIDNIGHT_MS + 10 * at for at in range(4_000)])
    for number in range(40):
        rows.add(f"z{number:02}", [MIDNIGHT_MS + at for at in range(10)])
    return rows


def test_a_count_that_does_not_finish_goes_on_where_it_was_within_a_device_as_well(
    rows: SlowRows,
) -> None:
    so_far, looks, cut_within = None, 0, set()
    while True:
        day = look(rows, Sums(TOTAL), so_far)
        looks += 1
        if day.is_whole:
            break
        assert day.deficit == day.surplus == 0
        assert day.so_far is not None
        assert str(day.so_far) != str(so_far)
        so_far = CountSoFar.parse(str(day.so_far))
        assert so_far == day.so_far
        cut_within.add(so_far.device_id)
    assert (day.rows, day.devices_counted, day.surplus, day.deficit) == (TOTAL, 42, 0, 0)
    assert looks > 3
    assert "hot" in cut_within


def test_what_is_ingested_between_two_looks_is_neither_too_much_nor_too_little(
    rows: SlowRows,
) -> None:
    day = look(rows, Sums(TOTAL))
    # Before the place where the count goes on, so it is never counted; and behind it.
    rows.add("0 new", [MIDNIGHT_MS])
    rows.add("zz new", [MIDNIGHT_MS])
    while not day.is_whole:
        day = look(rows, Sums(TOTAL + 2), day.so_far)
    assert (day.rows, day.ledger_before, day.ledger_after) == (TOTAL + 1, TOTAL, TOTAL + 2)
    assert (day.surplus, day.deficit) == (0, 0)


def test_a_row_that_is_missing_is_found_by_the_look_that_ends_the_count(rows: SlowRows) -> None:
    day = look(rows, Sums(TOTAL + 1))
    while not day.is_whole:
        day = look(rows, Sums(TOTAL + 1), day.so_far)
    assert day.deficit == 1


def test_a_count_says_of_how_many_devices_it_has_how_many(rows: SlowRows) -> None:
    day = look(rows, Sums(TOTAL))
    while day.devices_counted < 10:
        assert day.devices == 42
        day = look(rows, Sums(TOTAL), day.so_far)
    assert day.so_far is not None
    assert day.so_far.devices == day.devices_counted
    # As an earlier version left it.
    old = str(day.so_far).replace(f"/{day.devices_counted}", "")
    so_far = CountSoFar.parse(old)
    assert so_far is not None
    assert (so_far.before_ms, so_far.devices) == (day.so_far.before_ms, 0)


def test_a_look_without_time_takes_no_more_names_than_it_counts(rows: SlowRows) -> None:
    """A day may have a million, and they are not listed to count a few."""

    class Walked(FakeDeviceDays):
        taken = 0

        def walk(self, day: date, since: str = "") -> Iterator[str]:
            for name in FakeDeviceDays.walk(self, day, since):
                Walked.taken += 1
                yield name

    for number in range(1_000):
        rows.add(f"zz{number:04}", [MIDNIGHT_MS])
    (day,) = count_days(
        Sums(TOTAL + 1_000),  # type: ignore[arg-type]
        SlicedRows(rows, len(QUANTITIES), rows_at_once=500),
        Walked(rows.store),
        "t",
        [0],
        [DAY],
        budget_seconds=2.5,
        clock=rows.clock,
    )
    assert not day.is_whole
    assert day.devices == 1_042
    assert Walked.taken < 100


def test_rows_ahead_of_the_ledger_are_waited_for_also_when_some_were_forgotten(
    rows: SlowRows,
) -> None:
    """What a run has written and not committed yet is not hidden by what is gone."""
    forgotten, uncommitted = 300, 50

    class Committing(Sums):
        looks = 0

        def stored_by_day(self, *_: object, of_cells: bool = False) -> Iterator[dict[date, int]]:
            Committing.looks += 1
            known = TOTAL + forgotten
            yield {DAY: known if Committing.looks > 2 else known - uncommitted}

    (day,) = count_days(
        Committing(0),  # type: ignore[arg-type]
        SlicedRows(rows, len(QUANTITIES), rows_at_once=500),
        FakeDeviceDays(rows.store),
        "t",
        [0],
        [DAY],
        budget_seconds=1_000,
        patience_seconds=5,
        forgotten=lambda: ForgottenRows({DAY: forgotten}),
        clock=rows.clock,
    )
    assert (day.rows, day.surplus, day.deficit, day.gone) == (TOTAL, 0, 0, forgotten)
    assert Committing.looks == 3
