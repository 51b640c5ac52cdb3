"""What was left unread: found, acknowledged, and turned into what was ingested."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import LOSSES, Counts, LedgerEntry, Outcome, find_flaws
from iot_pipeline.core.ledger.losses import (
    Acknowledgement,
    find_losses,
    recover,
    say_losses,
    sum_losses,
)
from iot_pipeline.core.reading.offsets import OffsetRange

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SEEN = Acknowledgement(NOW, "seen", "me")


def entry(start, end, outcome=Outcome.SKIPPED, epoch=1):
    return LedgerEntry("t", 2, epoch, start, end, outcome, "r", uuid4(), Counts(), NOW, "why")


def test_every_loss_is_found_and_nothing_else():
    entries = [entry(n, n + 1, outcome) for n, outcome in enumerate(Outcome)]
    assert {loss.entry.outcome for loss in find_losses(entries, {})} == set(LOSSES)
    assert find_losses([entry(3, 9)], {})[0].loss_id == "1:2:3-9"


@pytest.mark.parametrize(
    ("acknowledged", "is_seen"),
    [("1:2:3-9", True), ("1:2:0-20", True), ("1:2:4-9", False), ("1:2:3-8", False),
     ("0:2:3-9", False), ("1:1:3-9", False)],
)  # fmt: skip
def test_an_acknowledgement_holds_for_what_is_left_of_its_loss_and_no_more(acknowledged, is_seen):
    (loss,) = find_losses([entry(3, 9)], {acknowledged: SEEN})
    assert loss.acknowledgement is (SEEN if is_seen else None)


def test_losses_are_summed_and_said_by_their_kind():
    losses = find_losses([entry(0, 5), entry(5, 7, Outcome.EXPIRED), entry(9, 10)], {})
    assert sum_losses(losses) == {Outcome.SKIPPED: 6, Outcome.EXPIRED: 2}
    said = say_losses(sum_losses(losses))
    assert said == (
        "up to 2 deleted by Kafka before they were read, up to 6 passed over by `iot rebase`"
    )


@given(st.integers(0, 9), st.integers(1, 9), st.integers(0, 9))
def test_a_part_that_is_ingested_leaves_a_chain_without_gap_and_the_rest_a_loss(before, own, after):
    loss = entry(100, 100 + before + own + after)
    part = OffsetRange(2, 100 + before, 100 + before + own)
    recovery = recover(loss, part, Counts(stored=own), "me", uuid4(), NOW)
    assert find_flaws(recovery.entries, []) == []
    assert (recovery.entries[0].start_offset, recovery.entries[-1].end_offset) == (
        loss.start_offset, loss.end_offset,
    )  # fmt: skip
    assert recovery.ingested.offsets == part
    assert (recovery.ingested.outcome, recovery.ingested.cause) == (Outcome.INGESTED, "")
    rest = [item for item in recovery.entries if item is not recovery.ingested]
    assert sum(item.span for item in rest) == before + after
    assert all(item.outcome is Outcome.SKIPPED and item.cause == "why" for item in rest)
