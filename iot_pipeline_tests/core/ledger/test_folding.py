from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome, find_flaws, sum_counts
from iot_pipeline.core.ledger.folding import (
    FinishedRun,
    choose_runs_to_delete,
    fold_entries,
)

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def entry(start, end, *, hours_ago=72.0, outcome=Outcome.INGESTED, partition=0, epoch=0):
    updated_at = NOW - timedelta(hours=hours_ago)
    span = end - start
    counts = Counts(
        stored=span - span // 3,
        rejected=span // 3,
        stored_by_day={updated_at.date(): span - span // 3} if span else {},
        first_record_ms=start,
        last_record_ms=end,
    )
    if outcome in (Outcome.EXPIRED, Outcome.REBASED):
        counts = Counts()
    return LedgerEntry(
        "t", partition, epoch, start, end, outcome, f"run{start}", uuid4(), counts, updated_at
    )


def apply(entries, folds):
    kept = [
        item
        for item in entries
        if not any(
            (fold.folded.partition, fold.folded.epoch) == (item.partition, item.epoch)
            and fold.folded.start_offset <= item.start_offset < fold.folded.end_offset
            for fold in folds
        )
    ]
    return kept + [fold.folded for fold in folds]


@st.composite
def chains(draw):
    entries = []
    for partition in range(draw(st.integers(1, 2))):
        at, hours = 0, draw(st.floats(30, 400))
        for _ in range(draw(st.integers(0, 25))):
            at += draw(st.sampled_from([0, 0, 0, 0, 7]))  # now and then a gap
            span = draw(st.integers(1, 50))
            outcome = draw(
                st.sampled_from([Outcome.INGESTED] * 6 + [Outcome.FOLDED, Outcome.EXPIRED])
            )
            entries.append(
                entry(at, at + span, hours_ago=hours, outcome=outcome, partition=partition)
            )
            at += span
            hours = max(0.0, hours - draw(st.floats(0, 20)))
    return entries


@given(chains())
def test_folding_changes_no_sum_no_flaw_and_no_day(entries):
    after = apply(entries, fold_entries(entries, NOW))
    assert len(after) <= len(entries)
    assert sum_counts(e.counts for e in after) == sum_counts(e.counts for e in entries)
    assert sum(e.span for e in after) == sum(e.span for e in entries)
    assert sorted(map(str, find_flaws(after, []))) == sorted(map(str, find_flaws(entries, [])))


@given(chains())
def test_folding_twice_folds_nothing_more(entries):
    assert fold_entries(apply(entries, fold_entries(entries, NOW)), NOW) == []


@given(chains())
def test_gaps_expired_ranges_and_the_newest_entry_are_never_folded(entries):
    folds = fold_entries(entries, NOW)
    newest = {e.partition: e for e in sorted(entries, key=lambda e: e.start_offset)}
    for fold in folds:
        inside = [
            e
            for e in entries
            if e.partition == fold.folded.partition
            and fold.folded.start_offset <= e.start_offset < fold.folded.end_offset
        ]
        assert len(inside) == fold.replaced >= 2
        assert all(e.outcome in (Outcome.INGESTED, Outcome.FOLDED) for e in inside)
        assert newest[fold.folded.partition] not in inside
        assert all(NOW.date() - e.updated_at.date() > timedelta(days=1) for e in inside)
        assert len({e.updated_at.date() for e in inside}) == 1


def test_a_day_becomes_one_entry_per_partition():
    day = [entry(n * 10, n * 10 + 10, hours_ago=70 - n / 100) for n in range(100)]
    today = [entry(1000, 1010, hours_ago=1)]
    (fold,) = fold_entries(day + today, NOW)
    assert (fold.folded.start_offset, fold.folded.end_offset) == (0, 1000)
    assert fold.folded.outcome is Outcome.FOLDED
    assert fold.folded.writer_id is None
    assert fold.replaced == 100
    assert (fold.folded.counts.first_record_ms, fold.folded.counts.last_record_ms) == (0, 1000)


def test_only_entries_that_were_read_by_one_declaration_are_folded_together():
    day = [
        replace(entry(n * 10, n * 10 + 10, hours_ago=70 - n / 100), declaration="ab"[n > 4])
        for n in range(10)
    ]
    folds = fold_entries([*day, entry(100, 110, hours_ago=1)], NOW)
    assert [(fold.folded.end_offset, fold.folded.declaration) for fold in folds] == [
        (50, "a"),
        (100, "b"),
    ]


def test_an_entry_whose_sum_is_wrong_stays_as_evidence():
    entries = [entry(n * 10, n * 10 + 10) for n in range(4)]
    entries[1] = replace(entries[1], counts=Counts(stored=9))
    assert fold_entries(entries, NOW) == []


def test_epochs_are_not_folded_together():
    old = [entry(0, 10, epoch=0), entry(10, 20, epoch=0), entry(20, 30, epoch=0)]
    new = [entry(20, 40, epoch=1), entry(40, 50, epoch=1)]
    folds = fold_entries(old + new, NOW)
    assert [(f.folded.epoch, f.folded.end_offset) for f in folds] == [(0, 20)]


def test_a_setting_below_a_day_is_a_day():
    entries = [entry(n * 10, n * 10 + 10, hours_ago=20 - n) for n in range(4)]
    assert fold_entries(entries, NOW, detail_days=0) == []


def run(name, days_ago, is_success=True):
    return FinishedRun(name, NOW - timedelta(days=days_ago), is_success)


def test_old_runs_go_oldest_first_and_failures_stay_longer():
    runs = [run("young", 1), run("old", 8), run("older", 9), run("failed", 9, is_success=False)]
    chosen = choose_runs_to_delete(runs, NOW, keep_days=7, keep_failed_days=30, keep_runs=100)
    assert chosen == ["older", "old"]


@given(
    st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=40),
    st.integers(1, 50),
)
def test_no_more_runs_stay_than_asked_and_the_newest_do(ages, keep_runs):
    runs = [run(str(n), age, ok) for n, (age, ok) in enumerate(ages)]
    gone = choose_runs_to_delete(runs, NOW, keep_days=7, keep_failed_days=30, keep_runs=keep_runs)
    stay = [r for r in runs if r.run_id not in gone]
    assert len(stay) <= keep_runs
    for r in runs:
        limit = 7 if r.is_success else 30
        if NOW - r.ended_at > timedelta(days=limit):
            assert r.run_id in gone
        elif r.run_id in gone:
            assert len(stay) == keep_runs
            assert all(s.ended_at >= r.ended_at for s in stay)
