from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import LOSSES, Counts, LedgerEntry, Outcome
from iot_pipeline.core.ledger.folding import fold_entries
from iot_pipeline.core.ledger.sums import MAX_LOSSES, extend_sum, place_of

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def entry(start, end, *, days_ago=3, outcome=Outcome.INGESTED, epoch=0):
    at = NOW - timedelta(days=days_ago)
    span = end - start
    by_day = {at.date(): span - 1, date(2026, 1, 1): 1} if span > 1 else {at.date(): span}
    counts = Counts(stored=span, stored_by_day=by_day) if outcome is Outcome.INGESTED else Counts()
    return LedgerEntry("t", 0, epoch, start, end, outcome, f"run{start}", None, counts, at)


def total_of(entries):
    total = Counter()
    for item in entries:
        total.update(item.counts.stored_by_day)
    return dict(total)


@st.composite
def chains(draw):
    """One Kafka partition's ledger, oldest first, some of it lost, in one or two epochs."""
    found, at = [], 0
    for epoch in range(draw(st.integers(1, 2))):
        for _ in range(draw(st.integers(1, 12))):
            outcome = draw(st.sampled_from([Outcome.INGESTED] * 6 + list(LOSSES)))
            span = draw(st.integers(1, 9))
            days_ago = draw(st.integers(0, 5))
            found.append(entry(at, at + span, days_ago=days_ago, outcome=outcome, epoch=epoch))
            at += span
    return found


@given(chains(), st.data())
def test_a_sum_moved_on_in_any_steps_is_that_of_all_entries_before_the_newest(chain, data):
    kept, end = None, 0
    while end < len(chain):
        start = max(0, end - 1)
        end = data.draw(st.integers(end + 1, len(chain)))
        kept = extend_sum(kept, chain[start:end][::-1])
        assert kept is not None
        assert kept.until == place_of(chain[end - 1])
        assert kept.stored_by_day == total_of(chain[: end - 1])
        losses = [e for e in chain[: end - 1] if e.outcome.is_loss]
        assert kept.places == [kept.until, *map(place_of, losses)]
        assert kept.holds(chain)
        for lost in losses:
            others = [e for e in chain if e is not lost]
            ingested = replace(lost, outcome=Outcome.INGESTED)
            half = replace(lost, end_offset=lost.end_offset - 1)
            for found in (others, [*others, ingested], [*others, half]):
                assert not kept.holds(found), "a loss that is none any more"


@given(chains(), st.integers(1, 30))
def test_where_nothing_begins_any_more_no_sum_is_moved_on(chain, cut):
    cut = min(cut, len(chain))
    kept = extend_sum(None, chain[:cut])
    folds = fold_entries(chain, NOW + timedelta(days=9))
    remaining = [
        item
        for item in chain
        if not any(
            fold.folded.epoch == item.epoch
            and fold.folded.start_offset <= item.start_offset < fold.folded.end_offset
            for fold in folds
        )
    ] + [fold.folded for fold in folds]
    newer = [item for item in remaining if place_of(item) >= kept.until]
    moved = extend_sum(kept, newer)
    if any(place_of(item) == kept.until for item in remaining):
        assert moved.stored_by_day == total_of(chain[:-1])
    else:
        assert moved is None


def test_a_broken_chain_is_not_summed():
    assert extend_sum(None, []) is None
    assert extend_sum(None, [entry(0, 5), entry(6, 9)]) is None
    assert extend_sum(None, [entry(0, 5), entry(4, 9)]) is None


def test_what_is_read_from_the_newest_end_only_is_not_summed():
    kept = extend_sum(None, [entry(0, 5), entry(5, 9)])
    assert extend_sum(kept, [entry(9, 12), entry(12, 15)]) is None


def test_of_too_many_losses_no_sum_is_kept():
    def losses(count):
        return [entry(at, at + 1, outcome=Outcome.EXPIRED) for at in range(count)]

    newest = entry(500, 501, epoch=1)
    assert extend_sum(None, [*losses(MAX_LOSSES), newest]) is not None
    assert extend_sum(None, [*losses(MAX_LOSSES + 1), newest]) is None
