"""Where ingestion goes on, and what it leaves unread by that: decided without a server."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Outcome
from iot_pipeline.core.ledger.rebase import decide_move, find_start, parse_target
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, Watermarks
from iot_pipeline.errors import ConfigurationError, PlanError

MARKS = Watermarks(0, 100, 300)
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def decide(start, *, at=200, topic_id="uuid", is_skip=False, doubted_from=None, marks=MARKS):
    before = None if at is None else Checkpoint(0, at, 4, topic_id)
    return decide_move(
        "t",
        marks,
        before,
        start,
        topic_id="uuid",
        new_partition_epoch=4,
        is_skip=is_skip,
        doubted_from=doubted_from,
    )


def test_a_target_is_said_for_all_partitions_and_for_single_ones():
    target = parse_target(["latest", "2:17", "3:2026-01-31T12:00:00Z", "4:earliest"])
    assert [target.of(p) for p in (0, 2, 3, 4)] == ["latest", 17, MOMENT, "earliest"]
    assert target.times == {MOMENT}
    assert target.said == "--at latest --at 2:17 --at 3:2026-01-31T12:00:00Z --at 4:earliest"
    assert parse_target(["1:5"]).of(0) is None
    assert parse_target(["2026-01-31T12:00:00+00:00"]).of(0) == MOMENT


@pytest.mark.parametrize(
    "texts", [["never"], ["1:never"], ["-5"], ["latest", "7"], ["1:5", "1:6"], ["1:2:3"]]
)
def test_what_is_no_target_or_is_said_twice_is_refused(texts):
    with pytest.raises(ConfigurationError, match=f"--at {texts[-1]}"):
        parse_target(texts)


def test_a_start_lies_between_the_ends_of_the_log():
    assert find_start("t", MARKS, "earliest", None) == 100
    assert find_start("t", MARKS, "latest", None) == 300
    assert find_start("t", MARKS, 250, None) == 250
    assert find_start("t", MARKS, MOMENT, 270) == 270
    assert find_start("t", MARKS, MOMENT, 90) == 100
    for where in (99, 301):
        with pytest.raises(PlanError, match="offsets 100 to 300 there"):
            find_start("t", MARKS, where, None)


def test_where_id_checkpoint_and_log_fit_nothing_moves():
    for start in (100, 200, 300):
        assert decide(start) is None
    assert decide(200, is_skip=True) is None


def test_unread_records_of_an_intact_log_are_passed_over_only_on_purpose_and_in_its_epoch():
    move = decide(300, is_skip=True)
    assert (move.after, move.is_new_epoch) == (Checkpoint(0, 300, 4, "uuid"), False)
    assert move.passed == ((OffsetRange(0, 200, 300), Outcome.SKIPPED),)


def test_what_expired_before_is_not_called_skipped():
    move = decide(150, at=60, is_skip=True)
    assert move.passed == (
        (OffsetRange(0, 60, 100), Outcome.EXPIRED),
        (OffsetRange(0, 100, 150), Outcome.SKIPPED),
    )


def test_an_intact_log_never_goes_backwards():
    with pytest.raises(PlanError, match=r"`iot replay --offsets 0:150-200`"):
        decide(150, is_skip=True)


def test_another_log_begins_an_epoch_and_what_lies_below_the_start_is_skipped():
    for changes in ({"topic_id": "old"}, {"at": 9000}):
        move = decide(250, **changes)
        assert move.after == Checkpoint(0, 250, 5, "uuid")
        assert move.is_new_epoch
        assert move.skipped == OffsetRange(0, 100, 250)
        assert decide(100, **changes).passed == ()


def test_of_a_log_that_was_cut_only_what_is_in_doubt_can_be_skipped():
    assert decide(150, doubted_from=150).passed == ()
    assert decide(180, doubted_from=150).skipped == OffsetRange(0, 150, 180)
    assert decide(120, doubted_from=150).passed == ()


def test_a_partition_without_a_checkpoint_leaves_unread_what_lies_below():
    move = decide(250, at=None)
    assert (move.before, move.after.epoch, move.is_new_epoch) == (None, 4, False)
    assert move.skipped == OffsetRange(0, 100, 250)


@given(
    st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_every_offset_that_is_passed_over_is_told_once(low, length, at, ahead, is_other, is_skip):
    marks = Watermarks(0, low, low + length)
    start = min(low + ahead, marks.last_stable)
    topic_id = "old" if is_other else "uuid"
    try:
        move = decide(start, at=at, topic_id=topic_id, is_skip=is_skip, marks=marks)
    except PlanError:
        assert (start < at, is_other, is_skip) == (True, False, True)
        return
    if move is None:
        return
    reached = low if move.is_new_epoch else at
    for item, _ in move.passed:
        assert item.start == reached
        reached = item.end
    assert reached == move.after.next_offset
