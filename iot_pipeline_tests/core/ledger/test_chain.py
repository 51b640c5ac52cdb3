from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import (
    Applied,
    Commit,
    Counts,
    Fenced,
    LedgerEntry,
    LedgerState,
    Outcome,
    Rebased,
    decide_commit,
    find_flaws,
    ingested_from,
    of_present_log,
    sum_counts,
)
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.errors import CheckpointWentBackError

ME = UUID(int=1)
OTHER = UUID(int=2)
COMMIT = Commit(
    topic="iot_data",
    partition=3,
    epoch=7,
    topic_id="uuid",
    run_start=100,
    expected=150,
    end=200,
    run_id="my-run",
    writer_id=ME,
    counts=Counts(stored=100),
)


def checkpoint(next_offset: int, epoch: int = 7, topic_id: str = "uuid") -> Checkpoint:
    return Checkpoint(3, next_offset, epoch, topic_id)


def entry(start: int, end: int, run_id: str = "other-run", **changes) -> LedgerEntry:
    values: dict[str, Any] = {
        "topic": "iot_data",
        "partition": 3,
        "epoch": 7,
        "start_offset": start,
        "end_offset": end,
        "outcome": Outcome.INGESTED,
        "run_id": run_id,
        "writer_id": OTHER,
        "counts": Counts(stored=end - start),
    }
    return LedgerEntry(**(values | changes))


MINE = entry(100, 200, "my-run", writer_id=ME)
MINE_BEFORE = entry(100, 150, "my-run", writer_id=ME)
AHEAD = entry(150, 400)

# In the order of the rules: each row would be decided otherwise by a later one.
DECISIONS = [
    ("another topic under the name, although my row is there",
     LedgerState(checkpoint(200, topic_id="new"), MINE, MINE), Rebased(3, 7, "new")),
    ("another epoch, although the checkpoint is as expected",
     LedgerState(checkpoint(150, epoch=8), None, None), Rebased(3, 8, "uuid")),
    ("my row reaches the end, nobody went on",
     LedgerState(checkpoint(200), MINE, MINE), Applied.YES),
    ("my row reaches the end, and somebody has gone on since",
     LedgerState(checkpoint(400), MINE, entry(200, 400)), Applied.YES),
    ("my row reaches further than this commit",
     LedgerState(checkpoint(300), replace(MINE, end_offset=300), None), Applied.YES),
    ("my row reaches the end, the checkpoint cannot be read",
     LedgerState(None, MINE, MINE), Applied.YES),
    ("nothing happened since my last commit",
     LedgerState(checkpoint(150), MINE_BEFORE, MINE_BEFORE), Applied.SEND_AGAIN),
    ("nothing happened, and there is no row yet",
     LedgerState(checkpoint(150), None, None), Applied.SEND_AGAIN),
    ("a row as long as mine would be, of another process, is no proof",
     LedgerState(checkpoint(200), replace(MINE, writer_id=OTHER, run_id="b"),
                 replace(MINE, writer_id=OTHER, run_id="b")), Fenced(3, "b", 200)),
    ("somebody is ahead",
     LedgerState(checkpoint(400), MINE_BEFORE, AHEAD), Fenced(3, "other-run", 400)),
    ("somebody is ahead, nobody knows who",
     LedgerState(checkpoint(151), None, None), Fenced(3, "unknown", 151)),
]  # fmt: skip


@pytest.mark.parametrize(("state", "decision"), [row[1:] for row in DECISIONS],
                         ids=[row[0] for row in DECISIONS])  # fmt: skip
def test_a_commit_of_unknown_outcome_is_decided(state, decision):
    assert decide_commit(COMMIT, state) == decision


@pytest.mark.parametrize("found", [None, checkpoint(149), checkpoint(0)])
@pytest.mark.parametrize("row", [None, MINE_BEFORE])
def test_a_ledger_that_is_wiped_or_older_stops_the_run_loudly(found, row):
    with pytest.raises(CheckpointWentBackError, match="expected 150"):
        decide_commit(COMMIT, LedgerState(found, row, AHEAD))


def test_a_rebase_is_told_apart_from_a_ledger_that_went_back():
    assert decide_commit(COMMIT, LedgerState(checkpoint(0, epoch=8), None, None)) == Rebased(
        3, 8, "uuid"
    )


def test_being_fenced_names_the_winner_and_where_it_is():
    assert str(Fenced(3, "run-b", 400)) == "partition 3: run run-b is at offset 400"


counts = st.builds(
    Counts,
    stored=st.integers(0, 9),
    superseded=st.integers(0, 9),
    rejected=st.integers(0, 9),
    aged_out=st.integers(0, 9),
    holes=st.integers(0, 9),
    stored_by_day=st.dictionaries(st.dates(date(2024, 1, 1), date(2024, 1, 3)), st.integers(1, 9)),
    first_record_ms=st.none() | st.integers(0, 99),
    last_record_ms=st.none() | st.integers(0, 99),
)


@given(st.lists(counts, max_size=5))
def test_sums_of_counts_keep_every_part(items):
    total = sum_counts(items)
    assert total.accounted == sum(item.accounted for item in items)
    for day in {day for item in items for day in item.stored_by_day}:
        assert total.stored_by_day[day] == sum(item.stored_by_day.get(day, 0) for item in items)
    firsts = [item.first_record_ms for item in items if item.first_record_ms is not None]
    assert total.first_record_ms == (min(firsts) if firsts else None)
    assert sum_counts(reversed(items)) == total


@st.composite
def good_chains(draw):
    """What runs leave behind: per partition a chain in epoch 7, and an older one beside it."""
    entries, checkpoints = [], []
    for partition in range(draw(st.integers(1, 3))):
        for epoch in (6, 7):
            at = draw(st.integers(0, 50))
            for span in draw(st.lists(st.integers(1, 40), min_size=1, max_size=6)):
                outcome = draw(st.sampled_from(Outcome))
                fates = draw(st.lists(st.integers(0, span), min_size=4, max_size=4).map(sorted))
                parts = [b - a for a, b in zip([0, *fates], [*fates, span], strict=True)]
                done = outcome in (Outcome.INGESTED, Outcome.FOLDED)
                entries.append(
                    entry(
                        at,
                        at + span,
                        partition=partition,
                        epoch=epoch,
                        outcome=outcome,
                        counts=Counts(*parts) if done else Counts(),
                    )
                )
                at += span
        checkpoints.append(Checkpoint(partition, at, 7, "uuid"))
    return draw(st.permutations(entries)), checkpoints


@given(good_chains())
def test_a_good_chain_has_no_flaw_in_whatever_order_it_is_read(chain):
    assert find_flaws(*chain) == []


@given(good_chains(), st.data())
def test_a_missing_entry_is_found(chain, data):
    entries, checkpoints = chain
    gone = data.draw(st.sampled_from(entries))
    rest = [item for item in entries if item is not gone]
    beside = [i for i in rest if (i.partition, i.epoch) == (gone.partition, gone.epoch)]
    # The oldest of a chain may be folded away or lie before what was read: its end is unknowable.
    assume(any(i.start_offset < gone.start_offset for i in beside))
    assume(gone.epoch == 7 or any(i.start_offset > gone.start_offset for i in beside))
    assert find_flaws(rest, checkpoints)


@given(good_chains(), st.data(), st.integers(1, 30))
def test_an_entry_that_reaches_too_far_or_not_far_enough_is_found(chain, data, by):
    entries, checkpoints = chain
    at = data.draw(st.integers(0, len(entries) - 1))
    changed = entries[at]
    assume(changed.epoch == 7)
    longer = replace(changed, end_offset=changed.end_offset + by)
    assert find_flaws([*entries[:at], longer, *entries[at + 1 :]], checkpoints)
    shorter = replace(changed, end_offset=changed.end_offset - min(by, changed.span))
    assert find_flaws([*entries[:at], shorter, *entries[at + 1 :]], checkpoints)


@given(good_chains(), st.data(), st.sampled_from([-1, 1]))
def test_a_sum_that_is_wrong_by_one_is_found(chain, data, by):
    entries, checkpoints = chain
    at = data.draw(st.integers(0, len(entries) - 1))
    item = entries[at]
    assume(item.outcome in (Outcome.INGESTED, Outcome.FOLDED))
    counts = replace(item.counts, holes=item.counts.holes + by)
    flaws = find_flaws(
        [*entries[:at], replace(item, counts=counts), *entries[at + 1 :]], checkpoints
    )
    assert [(flaw.partition, flaw.offset) for flaw in flaws] == [
        (item.partition, item.start_offset)
    ]


@given(good_chains(), st.integers(1, 5), st.sampled_from([-1, 1]))
def test_a_checkpoint_beside_the_end_of_its_chain_is_found(chain, by, sign):
    entries, checkpoints = chain
    moved = replace(checkpoints[0], next_offset=checkpoints[0].next_offset + sign * by)
    assert len(find_flaws(entries, [moved, *checkpoints[1:]])) == 1


def test_flaws_say_what_and_where():
    entries = [entry(0, 10), entry(12, 20), entry(18, 30)]
    assert [str(flaw) for flaw in find_flaws(entries, [checkpoint(31)])] == [
        "partition 3 at 10: a gap of 2 offsets",
        "partition 3 at 18: 2 offsets twice",
        "partition 3 at 30: the chain ends here, the checkpoint is 31",
    ]


def test_a_long_entry_over_several_others_is_found_for_each_of_them():
    entries = [entry(0, 100), entry(10, 20), entry(20, 30), entry(100, 120)]
    assert [str(flaw) for flaw in find_flaws(entries, [checkpoint(120)])] == [
        "partition 3 at 10: 10 offsets twice",
        "partition 3 at 20: 10 offsets twice",
    ]


def test_what_expired_tiles_the_log_without_being_counted():
    gone = entry(10, 20, outcome=Outcome.EXPIRED, counts=Counts())
    assert find_flaws([entry(0, 10), gone, entry(20, 30)], [checkpoint(30)]) == []


def test_a_partition_with_a_checkpoint_and_no_entry_yet_is_fine():
    assert find_flaws([], [checkpoint(0)]) == []


def test_entries_without_a_checkpoint_are_found_where_it_is_known_to_be_absent():
    entries = [entry(0, 10), entry(10, 20)]
    assert find_flaws(entries, []) == [], "the checkpoint was not looked at"
    assert find_flaws(entries, [], {4}) == []
    assert [str(flaw) for flaw in find_flaws(entries, [], {3})] == [
        "partition 3 at 0: 2 entries of epoch 7, but no checkpoint"
    ]


def test_entries_of_an_epoch_that_the_checkpoint_does_not_know_are_found():
    entries = [entry(0, 10), entry(0, 5, epoch=8)]
    assert [str(flaw) for flaw in find_flaws(entries, [checkpoint(10)])] == [
        "partition 3 at 0: entries of epoch 8, the checkpoint is of 7"
    ]


def test_ingested_offsets_reach_back_to_what_was_not_ingested_in_this_epoch():
    chain = [
        entry(300, 400),
        entry(300, 300, partition=4),
        entry(200, 300, outcome=Outcome.FOLDED),
        entry(150, 200, outcome=Outcome.EXPIRED),
        entry(100, 150),
        entry(0, 200, epoch=6),
    ]
    for start, known_from in ((400, 200), (320, 200), (300, 200), (200, 200), (150, 100), (50, 50)):
        assert ingested_from(chain, 7, OffsetRange(3, start, 500)) == known_from
    assert ingested_from([], 7, OffsetRange(3, 5, 9)) == 5


def test_a_log_that_was_cut_back_keeps_what_an_older_epoch_read_of_its_beginning() -> None:
    old = [entry(0, 50), entry(50, 90), entry(90, 120), entry(120, 120, outcome=Outcome.REBASED)]
    new = entry(70, 200, epoch=8)
    found = of_present_log([*old, new], {3: checkpoint(200, epoch=8)}, {3: 20})
    assert sorted((e.epoch, e.start_offset, e.end_offset) for e in found) == [
        (7, 0, 50), (7, 50, 70), (8, 70, 200),
    ]  # fmt: skip
    # Deleted by Kafka as far as there: only the current epoch is in the log.
    assert of_present_log([*old, new], {3: checkpoint(200, epoch=8)}, {3: 70}) == [new]
    # Twice, and before anything of the newest epoch was ingested.
    found = of_present_log([*old, new], {3: checkpoint(100, epoch=9)}, {3: 0})
    assert sorted((e.epoch, e.start_offset, e.end_offset) for e in found) == [
        (7, 0, 50), (7, 50, 70), (8, 70, 100),
    ]  # fmt: skip


def test_of_another_topic_nothing_older_is_left() -> None:
    old, new = entry(0, 120), entry(0, 200, epoch=8)
    assert of_present_log([old, new], {3: checkpoint(200, epoch=8)}, {3: 0}) == [new]
    # What it passed over is in the ledger, from the beginning of its log on.
    skipped = entry(30, 60, epoch=8, outcome=Outcome.SKIPPED)
    found = of_present_log([old, skipped], {3: checkpoint(60, epoch=8)}, {3: 30})
    assert found == [skipped]
