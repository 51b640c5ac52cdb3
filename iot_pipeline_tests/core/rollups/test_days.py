"""Which days are touched: by whatever changed their rows, and by nothing else."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.rollups.days import (
    DayFacts,
    DayRecord,
    DeletedPart,
    DueDays,
    IngestedPart,
    ReplayedPart,
    as_ranges_of_days,
    choose_due_days,
    find_first_day,
    frozen_from,
    gather_facts,
)

NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)
MON, TUE, TODAY = date(2026, 3, 9), date(2026, 3, 10), date(2026, 3, 11)
ARRIVED_MS = 1_773_100_000_000
PARTS = [
    IngestedPart(OffsetRange(0, 0, 100), {MON: 100}, ARRIVED_MS),
    IngestedPart(OffsetRange(0, 100, 200), {TUE: 80, MON: 20}, ARRIVED_MS + 5),
    IngestedPart(OffsetRange(1, 0, 50), {TODAY: 50}, ARRIVED_MS + 9),
]


def seen(
    parts: list[IngestedPart] = PARTS,
    replays: tuple[ReplayedPart, ...] = (),
    deletions: tuple[DeletedPart, ...] = (),
    now: datetime = NOW,
) -> dict[date, str]:
    return {day: f.seen for day, f in gather_facts(parts, replays, deletions, now).items()}


def changed(after: dict[date, str], before: dict[date, str] | None = None) -> set[date]:
    before = seen() if before is None else before
    return {day for day in after if after[day] != before.get(day)}


def test_late_data_touches_its_day_and_no_other() -> None:
    late = IngestedPart(OffsetRange(0, 200, 201), {MON: 1}, ARRIVED_MS)
    assert changed(seen([*PARTS, late])) == {MON}


def test_folding_the_ledger_touches_nothing() -> None:
    folded = IngestedPart(OffsetRange(0, 0, 200), {MON: 120, TUE: 80}, ARRIVED_MS)
    assert changed(seen([folded, PARTS[2]])) == set()


def test_a_replay_touches_the_days_its_ranges_stored_though_no_row_is_new() -> None:
    replay = ReplayedPart("r1", [OffsetRange(0, 0, 100)], 100, {})
    assert changed(seen(replays=(replay,))) == {MON}
    across = ReplayedPart("r1", [OffsetRange(0, 99, 101)], 2, {})
    assert changed(seen(replays=(across,))) == {MON, TUE}
    elsewhere = ReplayedPart("r1", [OffsetRange(1, 50, 60)], 0, {})
    assert changed(seen(replays=(elsewhere,))) == set()


def test_a_replay_that_goes_on_touches_its_days_again() -> None:
    first = ReplayedPart("r1 50", [OffsetRange(0, 0, 50)], 50, {})
    later = ReplayedPart("r1 100", [OffsetRange(0, 0, 100)], 100, {})
    assert changed(seen(replays=(later,)), seen(replays=(first,))) == {MON}


def test_dead_letters_replayed_touch_their_days_or_all_when_they_replaced_rows() -> None:
    new = ReplayedPart("letters", [], 3, {TUE: 3})
    assert changed(seen(replays=(new,))) == {TUE}
    replaced = ReplayedPart("letters", [], 3, {TUE: 2})
    assert changed(seen(replays=(replaced,))) == {MON, TUE, TODAY}


def test_a_deletion_touches_its_days_twice_because_it_is_remembered_before_it_is_done() -> None:
    deletion = DeletedPart("d1", NOW - timedelta(minutes=1), {TUE: 5})
    at_once = seen(deletions=(deletion,))
    assert changed(at_once) == {TUE}
    assert changed(seen(deletions=(deletion,), now=NOW + timedelta(minutes=15)), at_once) == {TUE}


def record(day: date, marks: str, ago_seconds: float = 3600) -> dict[date, DayRecord]:
    at = NOW - timedelta(seconds=ago_seconds)
    return {day: DayRecord(day, at, 1, DayFacts(10, None, {marks}).seen, 10, 1, 0.1, "run")}


def facts(
    day: date, marks: str = "now", oldest_ms: int | None = ARRIVED_MS
) -> dict[date, DayFacts]:
    return {day: DayFacts(10, oldest_ms, {marks})}


def choose(found: dict[date, DayFacts], records: dict[date, DayRecord], **options: Any) -> DueDays:
    defaults: dict[str, Any] = {
        "first_day": date(2026, 1, 1),
        "quiet_seconds": 60,
        "refresh_seconds": 600,
        "retention_days": 0.0,
        "remembered": {},
        "now": NOW,
    }
    given = {**defaults, **options}
    return choose_due_days(found, records, given.pop("remembered"), given.pop("now"), **given)


def test_a_day_whose_marks_are_those_of_its_rebuild_is_left_alone() -> None:
    assert choose(facts(MON), record(MON, "now")) == DueDays([], {}, [], [])


def test_a_touched_day_waits_until_it_is_quiet() -> None:
    looked = choose(facts(MON), record(MON, "before"))
    assert looked.due == []
    soon = NOW + timedelta(seconds=30)
    again = choose(facts(MON), record(MON, "before"), remembered=looked.waiting, now=soon)
    assert again.due == []
    touched = choose(
        facts(MON, "more"), {}, remembered=again.waiting, now=NOW + timedelta(seconds=59)
    )
    assert touched.due == []
    later = NOW + timedelta(seconds=100)
    assert choose(facts(MON, "more"), {}, remembered=touched.waiting, now=later).due == []
    later = NOW + timedelta(seconds=119)
    assert choose(facts(MON, "more"), {}, remembered=touched.waiting, now=later).due == [MON]


def test_a_day_that_is_never_quiet_is_rebuilt_at_last() -> None:
    remembered, found = {}, []
    for second in range(0, 1200, 30):
        now = NOW + timedelta(seconds=second)
        chosen = choose(facts(MON, str(second)), {}, remembered=remembered, now=now)
        remembered = chosen.waiting
        found += [second for _ in chosen.due]
        if chosen.due:
            break
    assert found == [600]


@pytest.mark.parametrize(("ago", "is_due"), [(599, False), (600, True)])
def test_today_is_rebuilt_at_most_once_per_refresh(ago: float, is_due: bool) -> None:
    chosen = choose(facts(TODAY), record(TODAY, "before", ago))
    assert (chosen.due == [TODAY]) is is_due
    assert (TODAY in chosen.waiting) is not is_due


def test_today_is_rolled_up_at_once_when_it_never_was() -> None:
    assert choose(facts(TODAY), {}).due == [TODAY]


def test_days_that_are_no_partition_are_said_not_asked_for() -> None:
    tomorrow = TODAY + timedelta(days=1)
    assert choose(facts(tomorrow), {}).outside == [tomorrow]
    assert choose(facts(MON), {}, first_day=TUE).outside == [MON]


def test_a_day_is_frozen_before_its_first_row_ages_by_arrival_not_by_its_date() -> None:
    day = facts(MON)[MON]
    aging = datetime.fromtimestamp(ARRIVED_MS / 1000, UTC) + timedelta(days=2)
    assert frozen_from(day, 2, aging - timedelta(hours=1, seconds=1)) is None
    assert frozen_from(day, 2, aging - timedelta(hours=1)) == aging
    assert frozen_from(day, 0, aging) is None
    assert choose(facts(MON), {}, now=aging, retention_days=2).frozen == [MON]
    long_ago = date(2026, 1, 3)  # backfilled with the others
    assert choose(facts(long_ago), {}, retention_days=2).frozen == []


def test_neighbouring_days_are_one_range() -> None:
    far = date(2026, 2, 1)
    assert as_ranges_of_days([TODAY, far, MON, TUE]) == [(far, far), (MON, TODAY)]
    assert as_ranges_of_days([]) == []


def facts_of(*days: date, stored: int = 10) -> dict[date, DayFacts]:
    return {day: DayFacts(stored, ARRIVED_MS) for day in days}


@pytest.mark.parametrize(
    ("days", "known", "first"),
    [
        ([], None, None),
        ([], MON, MON),
        ([TODAY], None, TODAY),
        ([MON, TODAY], None, MON),
        ([MON, TODAY], date(2026, 1, 1), date(2026, 1, 1)),
        ([MON], TODAY, MON),
        # A clock that is five years behind, and one that is ahead.
        ([date(2021, 3, 9), MON, TODAY, date(2026, 4, 1)], None, MON),
        # A month's pause is history, a longer one is a wrong clock or an old backfill.
        ([TODAY - timedelta(days=31), TODAY], None, TODAY - timedelta(days=31)),
        ([TODAY - timedelta(days=32), TODAY], None, TODAY),
        # All of it is old.
        ([date(2025, 6, 1), date(2025, 6, 3)], None, date(2025, 6, 1)),
    ],
)
def test_readings_begin_after_the_newest_long_pause(
    days: list[date], known: date | None, first: date | None
) -> None:
    assert find_first_day(facts_of(*days), known, TODAY) == first


def test_a_day_that_holds_no_readings_begins_nothing() -> None:
    facts = facts_of(TODAY) | facts_of(MON, stored=0)
    assert find_first_day(facts, None, TODAY) == TODAY
