from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.checks.verdicts import Severity
from iot_pipeline.core.ledger.chain import LOSSES, ChainLink, Counts, LedgerEntry, Outcome
from iot_pipeline.core.ledger.losses import LOST_HOW, Acknowledgement, Loss
from iot_pipeline.core.proof.dead_letters import SourceCoordinates, StoredLetter
from iot_pipeline.core.proof.read_back import ReadBack
from iot_pipeline.core.reading.lag import PartitionLag
from iot_pipeline.core.reading.offsets import PartitionState
from iot_pipeline.stages.checks.dead_letters_are_few import judge as judge_dead_letters
from iot_pipeline.stages.checks.nothing_left_unread import judge as judge_losses
from iot_pipeline.stages.checks.retention_is_far import (
    FOR_EVER_SECONDS,
    measure_headroom,
)
from iot_pipeline.stages.checks.retention_is_far import judge as judge_retention
from iot_pipeline.stages.checks.rows_read_back_equal import judge as judge_read_back
from iot_pipeline.stages.checks.superseded_are_few import judge as judge_superseded

PLACE = ("device_2", 20_000)
MS = 20_000 * 86_400_000
ROW = (5_000_007, 7, 1, 20.5, 40.0)
EQUAL = (20.5, 40.0, 5_000_007, 5_000_007)
NEWER = (1.0, 2.0, 5_000_008, 5_000_008)
OLDER = (1.0, 2.0, 5_000_006, 5_000_006)
TORN = (20.5, 2.0, 5_000_007, 5_000_008)


def read_back(*stored):
    found = ReadBack()
    for row in stored:
        found.take(PLACE, MS, ROW, row)
    return found


def test_rows_that_are_their_records_or_a_later_ones_are_green():
    verdict = judge_read_back(read_back(EQUAL, EQUAL, NEWER), 3)
    assert verdict.passed
    assert verdict.numbers["rows_read_back"] == 3
    assert verdict.numbers["newer"] == 1
    assert "a later record won over 1" in verdict.sentence


def test_one_torn_row_is_an_error_that_names_it_and_the_command():
    verdict = judge_read_back(read_back(EQUAL, None, TORN), 3)
    assert not verdict.passed
    assert verdict.severity is Severity.ERROR
    assert "`iot mend device_2 1728000000.000`" in verdict.sentence
    assert verdict.numbers["torn"] == 1


def test_a_row_that_is_not_there_warns_with_the_audit_that_tells_why():
    for stored in (None, OLDER):
        verdict = judge_read_back(read_back(EQUAL, stored), 2)
        assert not verdict.passed
        assert verdict.severity is Severity.WARN
        assert "`iot audit --offsets 1:7-8`" in verdict.sentence


def test_every_verdict_of_a_check_carries_the_same_numbers():
    assert len({tuple(judge_read_back(read_back(*rows), 1).numbers) for rows in STORED}) == 1
    assert set(judge_losses([]).numbers) == set(judge_losses([loss()]).numbers)
    near = headroom(lag_seconds=90.0)
    assert set(judge_retention([]).numbers) == set(judge_retention([near]).numbers)
    clean, bad = (
        judge_dead_letters(0, 0, [], 0.01),
        judge_dead_letters(9, 99, letters(no_value=9), 0.0),
    )
    assert set(clean.numbers) == set(bad.numbers)


def test_a_read_back_that_compared_nothing_says_so():
    assert "No row of 9 offsets to compare" in judge_read_back(read_back(), 9).sentence
    assert judge_read_back(read_back(), 0).sentence == "No rows to read back."


def test_a_read_back_that_compared_none_of_the_rows_that_were_stored_is_not_green():
    verdict = judge_read_back(read_back(), 9, stored=7)
    assert (verdict.passed, verdict.severity) == (False, Severity.WARN)
    assert "None of 7 stored rows was compared" in verdict.sentence
    assert judge_read_back(ReadBack(gone=7), 9, stored=7).passed, "deleted since, on purpose"
    assert judge_read_back(read_back(EQUAL), 9, stored=7).passed


def test_a_read_back_that_ran_out_of_time_says_how_many_rows_are_left():
    found = read_back(EQUAL)
    found.left = 1234
    assert "did not suffice for 1,234 more" in judge_read_back(found, 9, stored=7).sentence


STORED = [(), (EQUAL,), (None,), (TORN,)]


def loss(seen=None, start=100, end=150, outcome=Outcome.EXPIRED):
    entry = LedgerEntry("t", 0, 0, start, end, outcome, "run1", uuid4(), Counts())
    return Loss(f"0:0:{start}-{end}", entry, seen)


def test_a_loss_is_an_error_until_somebody_has_seen_it():
    seen = Acknowledgement(datetime.now(UTC), "the disk was full", "me")
    verdict = judge_losses([loss(), loss(seen, 10, 20)])
    assert not verdict.passed
    assert verdict.severity is Severity.ERROR
    assert "`iot losses --acknowledge 0:0:100-150 --reason TEXT`" in verdict.sentence
    assert "up to 50 deleted by Kafka before they were read (0:0:100-150)" in verdict.sentence
    numbers = {"losses": 2, "unacknowledged": 1, "records_at_most": 60}
    assert verdict.numbers.items() >= numbers.items()
    assert judge_losses([loss(seen)]).passed
    assert judge_losses([]).passed


@pytest.mark.parametrize("outcome", LOSSES)
def test_every_kind_of_loss_is_red_by_its_own_name_and_with_what_helps(outcome):
    verdict = judge_losses([loss(outcome=outcome)])
    assert (verdict.passed, verdict.severity) == (False, Severity.ERROR)
    assert LOST_HOW[outcome] in verdict.sentence
    assert verdict.numbers[f"{outcome}_at_most"] == 50
    others = [how for why, how in LOST_HOW.items() if why is not outcome]
    assert not any(how in verdict.sentence for how in others)
    if outcome is Outcome.SKIPPED:
        assert "`iot replay --offsets 0:100-150`" in verdict.sentence


def link(stored=0, superseded=0, repeated=0):
    return ChainLink(0, 0, 0, 1, Outcome.INGESTED, "r", stored, superseded, repeated, 0, 0, 0, 0)


def test_differing_readings_of_one_millisecond_are_yellow_above_their_share_and_repeats_never():
    assert judge_superseded([link(500, repeated=500), link(0, 5)], 0.01).passed
    verdict = judge_superseded([link(90), link(0, 10)], 0.01)
    assert (verdict.passed, verdict.severity) == (False, Severity.WARN)
    assert "10 of 100 readings of the last hour (10.00%) are not in the table" in verdict.sentence
    assert "Two devices use one id, or a device takes more than one" in verdict.sentence
    assert judge_superseded([], 0.01).numbers.keys() == verdict.numbers.keys()
    assert judge_superseded([], 0.0).sentence == "No reading was ingested in the last hour."


def headroom(
    low=0, checkpoint=50, end=100, lag_seconds=10.0, log_seconds=None, retention_seconds=100.0
):
    lag = PartitionLag(PartitionState("t", 0, low, end, checkpoint), lag_seconds)
    retention_ms = None if retention_seconds is None else retention_seconds * 1000
    return measure_headroom(lag, retention_ms, log_seconds)


def test_retention_by_time_is_near_when_the_first_unread_record_is_old():
    assert headroom(lag_seconds=75.0).is_far
    near = headroom(lag_seconds=76.0)
    assert not near.is_far
    verdict = judge_retention([headroom(), near])
    assert not verdict.passed
    assert verdict.severity is Severity.WARN
    assert verdict.numbers == {
        "headroom_offsets": 50,
        "headroom_seconds": 24.0,
        "partitions_near": 1,
    }
    assert "Partition 0" in verdict.sentence
    assert "retention.ms" in verdict.sentence


def test_retention_by_size_is_near_when_the_checkpoint_is_close_to_the_low_watermark():
    size = {"retention_seconds": None, "log_seconds": 100.0, "low": 1_000, "end": 2_000}
    assert headroom(checkpoint=2_000, **size).left_seconds == 100.0
    assert headroom(checkpoint=1_250, **size).is_far
    near = headroom(checkpoint=1_249, **size)
    assert not near.is_far
    assert (near.offsets, round(near.left_seconds, 1)) == (249, 24.9)


def test_a_log_that_has_deleted_nothing_yet_is_not_full():
    size = {"retention_seconds": None, "log_seconds": 100.0, "end": 2_000}
    assert headroom(low=0, checkpoint=0, **size).left_seconds == FOR_EVER_SECONDS


def test_a_checkpoint_below_the_low_watermark_has_no_headroom_left():
    overtaken = headroom(low=60, checkpoint=50, lag_seconds=0.0)
    assert (overtaken.offsets, overtaken.left_seconds, overtaken.is_far) == (0, 0.0, False)


def test_a_topic_that_deletes_nothing_is_green_with_numbers_that_plot():
    verdict = judge_retention([headroom(retention_seconds=None, lag_seconds=1e9)])
    assert verdict.passed
    assert verdict.numbers["headroom_seconds"] == FOR_EVER_SECONDS


@given(st.floats(0, 1e6), st.integers(0, 100), st.floats(1, 1e6))
def test_headroom_is_never_negative_nor_more_than_what_kafka_keeps(lag_seconds, checkpoint, keeps):
    found = headroom(lag_seconds=lag_seconds, checkpoint=checkpoint, retention_seconds=keeps)
    assert 0 <= found.left_seconds <= found.keeps_seconds


def letters(key=b"device_7", value=b"{", **by_reason):
    """Dead letters of one device, as many as asked for by reason."""
    return [
        StoredLetter(
            SourceCoordinates("t", "id", 1, offset),
            reason,
            "",
            key,
            value,
            (),
            0,
            offset,
            0,
            offset,
        )
        for reason, count in by_reason.items()
        for offset in range(count)
    ]


def test_the_devices_behind_dead_letters_are_named_by_key_or_by_what_is_inside():
    inside = b'{"device_id": "kitchen_1", "temperature": "warm"}'
    found = [
        *letters(not_json=3),
        *letters(key=None, value=inside, wrong_type=2),
        *letters(key=b"\xff", value=b"\x00", not_json=1),
    ]
    verdict = judge_dead_letters(6, 100, found, 0.01)
    assert "They come from device_7, kitchen_1, '(unknown)'" in verdict.sentence
    assert [row[:3] for row in verdict.worst.rows] == [
        ("device_7", "3", "not_json (3)"),
        ("kitchen_1", "2", "wrong_type (2)"),
        ("(unknown)", "1", "not_json (1)"),
    ]
    assert verdict.worst.rows[0][3] == "`1:2`", "where `iot dead-letters show` finds the latest"


def test_harmless_rows_do_not_hide_those_that_are_not_there():
    verdict = judge_read_back(read_back(*[NEWER] * 30, *[None] * 30), 60)
    assert not verdict.passed
    assert len(verdict.worst.rows) == 20
    assert {row[2] for row in verdict.worst.rows} == {"missing"}


def test_a_row_that_was_not_whole_is_looked_at_again_and_named_in_a_table():
    verdict = judge_read_back(read_back(EQUAL, None), 2)
    assert list(verdict.suspects) == ["1:7-8"]
    assert verdict.worst.rows == [("device_2", "2024-10-04 00:00:00 UTC", "missing", "`1:7-8`")]


def test_more_bad_records_than_the_limit_warn_with_the_main_reason_and_both_commands():
    verdict = judge_dead_letters(20, 1_000, letters(no_value=5, not_json=15), 0.01)
    assert not verdict.passed
    assert verdict.severity is Severity.WARN
    assert "`iot dead-letters list --reason not_json`" in verdict.sentence
    assert "replay_dead_letters" in verdict.sentence
    assert (verdict.numbers["share"], verdict.numbers["not_json"]) == (0.02, 15)
    assert judge_dead_letters(10, 1_000, letters(not_json=10), 0.01).passed


def test_one_bad_record_among_few_is_no_flood_and_nothing_is_green():
    assert judge_dead_letters(1, 2, letters(not_json=1), 0.01).passed
    assert not judge_dead_letters(2, 2, letters(not_json=2), 0.01).passed
    assert judge_dead_letters(0, 0, [], 0.0).passed


def test_a_topic_that_compacts_is_never_said_to_lose_nothing():
    unread = judge_losses([], 9_891)
    assert "up to 9,891 offsets were compacted unread" in unread.sentence
    assert "no offset was left unread" not in unread.sentence
