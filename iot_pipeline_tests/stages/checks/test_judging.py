from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.checks.schema import Difference
from iot_pipeline.core.checks.verdicts import Severity
from iot_pipeline.core.ledger.chain import Counts, Flaw, LedgerEntry, Outcome
from iot_pipeline.core.proof.settling import Settlement
from iot_pipeline.core.reading.lag import PartitionLag
from iot_pipeline.core.reading.offsets import OffsetRange, PartitionState
from iot_pipeline.stages.checks.acknowledged_is_durable import judge as judge_durability
from iot_pipeline.stages.checks.every_offset_is_accounted_for import judge as judge_accounting
from iot_pipeline.stages.checks.lag_is_within_limit import judge as judge_lag
from iot_pipeline.stages.checks.ledger_has_no_gap import judge as judge_chain
from iot_pipeline.stages.checks.machinery.row_counts import DayCount
from iot_pipeline.stages.checks.row_count_matches_ledger import judge as judge_row_counts
from iot_pipeline.stages.checks.schema_matches import judge as judge_schema

DAY = date(2026, 3, 10)


def entry(start, end, counts, outcome=Outcome.INGESTED):
    return LedgerEntry("t", 0, 0, start, end, outcome, "run1", uuid4(), counts, datetime.now(UTC))


def lag(seconds, offsets=10, partition=0):
    return PartitionLag(PartitionState("t", partition, 0, offsets, 0), seconds)


@given(st.lists(st.integers(0, 10_000), min_size=5, max_size=5))
def test_a_sum_that_adds_up_is_green(fates):
    counts = Counts(*fates)
    verdict = judge_accounting([entry(5, 5 + counts.accounted, counts)])
    assert verdict.passed
    assert verdict.numbers["offsets"] == verdict.numbers["accounted_for"] == counts.accounted


@given(st.integers(-5, 5).filter(bool))
def test_one_offset_without_a_fate_is_an_error_that_says_where(off_by):
    verdict = judge_accounting([entry(100, 200, Counts(stored=100 + off_by))])
    assert not verdict.passed
    assert verdict.severity is Severity.ERROR
    assert "0:100-200" in verdict.sentence
    assert "run1" in verdict.sentence
    assert "iot audit" in verdict.sentence


def test_what_the_run_committed_must_be_in_the_ledger_with_just_that_end():
    kept = [entry(0, 10, Counts(stored=10))]
    assert judge_accounting(kept, [OffsetRange(0, 0, 10)]).passed
    lost = judge_accounting(kept, [OffsetRange(0, 0, 20)])
    assert not lost.passed
    assert "not in the ledger" in lost.sentence


def test_expired_ranges_have_no_sum():
    assert judge_accounting([entry(0, 10, Counts(), Outcome.EXPIRED)]).passed


def test_a_gap_is_an_error_with_the_place_and_the_way_out():
    verdict = judge_chain([Flaw(2, 500, "a gap of 7 offsets")], 10, "the whole ledger")
    assert not verdict.passed
    assert "partition 2 at 500: a gap of 7 offsets" in verdict.sentence
    assert "iot replay" in verdict.sentence
    assert judge_chain([], 10, "the whole ledger").passed


def test_periodic_is_a_warning_in_the_words_of_the_schema():
    verdict = judge_durability(False, "commitlog_sync is periodic")
    assert (verdict.passed, verdict.severity) == (False, Severity.WARN)
    assert verdict.sentence == "Commitlog_sync is periodic."


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 1e6))
def test_lag_is_red_above_the_limit_and_names_the_partition_furthest_behind(seconds, limit):
    verdict = judge_lag([lag(s, partition=n) for n, s in enumerate(seconds)], limit)
    assert verdict.passed == (max(seconds) <= limit)
    if not verdict.passed:
        assert f"in partition {seconds.index(max(seconds))};" in verdict.sentence
        assert "iot_data_lag" in verdict.sentence


def test_lag_of_a_topic_without_partitions_is_none():
    assert judge_lag([], 60).passed


def test_only_fatal_differences_are_red():
    note = Difference("topic t: partitions", "8", "4", "Kafka's number is used")
    fatal = Difference("table t", "missing", "present", "`iot setup` makes it", True)
    noted = judge_schema([note])
    assert noted.passed
    assert "topic t: partitions" in noted.sentence
    red = judge_schema([note, fatal])
    assert not red.passed
    assert "setup_schema" in red.sentence
    assert red.numbers == {"differences": 2, "fatal": 1}


def count(rows, before, after=None, devices=(3, 3), day=DAY):
    return DayCount(day, rows, devices[0], devices[1], before, before if after is None else after)


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_count_between_both_looks_at_the_ledger_is_green(before, part, rest):
    verdict = judge_row_counts([count(before + part, before, before + part + rest)])
    assert verdict.passed
    assert verdict.numbers["rows_missing"] == verdict.numbers["rows_too_many"] == 0


@pytest.mark.parametrize(
    ("after", "words"),
    [(100, "100 rows of 1 day are what the ledger stored."), (107, "counted: 95 to 107.")],
)
def test_a_count_beside_a_run_says_both_numbers_that_it_lies_between(after, words):
    before = 100 if after == 100 else 95
    assert judge_row_counts([count(100, before, after)]).sentence.endswith(words)


@pytest.mark.parametrize(
    ("rows", "number", "words"),
    [(99, "rows_missing", "1 row fewer"), (101, "rows_too_many", "1 row more")],
)
def test_one_row_too_few_or_too_many_warns_with_the_command(rows, number, words):
    verdict = judge_row_counts([count(rows, 100), count(50, 50, day=date(2026, 3, 9))])
    assert (verdict.passed, verdict.severity) == (False, Severity.WARN)
    assert verdict.numbers[number] == 1
    assert words in verdict.sentence
    assert "`iot audit --day 2026-03-10`" in verdict.sentence


def test_where_rows_age_out_that_is_one_of_the_reasons_for_fewer():
    fewer = [count(99, 100)]
    settled = [Settlement(DAY, 1, 1), Settlement(DAY, 1, 1, as_of=datetime.now(UTC))]
    settled.append(replace(settled[1], was_counted=True))
    for found in ([], *([item] for item in settled)):
        said = [judge_row_counts(fewer, found, may_age=may).sentence for may in (False, True)]
        assert said[0] != said[1]
        assert [("retention" in one or "aged out" in one) for one in said] == [False, True]


def test_days_do_not_make_up_for_each_other():
    verdict = judge_row_counts([count(99, 100), count(101, 100, day=date(2026, 3, 9))])
    assert verdict.numbers["rows_missing"] == verdict.numbers["rows_too_many"] == 1


def test_a_day_that_was_not_counted_whole_claims_nothing_and_says_so():
    verdict = judge_row_counts([count(10, 100, devices=(1, 5))])
    assert verdict.passed
    assert "1 of 5 devices" in verdict.sentence
    assert "Nothing was compared" in verdict.sentence
    assert verdict.numbers["days_not_whole"] == 1


def test_more_rows_than_the_ledger_is_known_before_all_are_counted():
    assert not judge_row_counts([count(101, 100, devices=(1, 5))]).passed


def test_a_ledger_that_was_not_read_in_time_is_said():
    verdict = judge_row_counts([DayCount(DAY, 10, 3, 3, None, None)])
    assert verdict.passed
    assert "ledger not read" in verdict.sentence


def test_every_verdict_of_a_name_has_the_same_numbers_so_that_they_plot():
    assert (
        judge_row_counts([]).numbers.keys()
        == judge_row_counts([count(1, 2)]).numbers.keys()
        == judge_row_counts([count(1, 2, devices=(0, 1))]).numbers.keys()
    )
    assert judge_lag([], 1).numbers.keys() == judge_lag([lag(9)], 1).numbers.keys()


def test_a_run_that_goes_on_may_be_further_in_the_ledger_but_never_behind() -> None:
    entries = [entry(0, 10, Counts(stored=10))]
    said = [OffsetRange(0, 0, 8)]
    assert judge_accounting(entries, said, is_growing=True).passed
    assert not judge_accounting(entries, said).passed
    assert not judge_accounting(entries, [OffsetRange(0, 0, 11)], is_growing=True).passed
    assert not judge_accounting(entries, [OffsetRange(0, 3, 8)], is_growing=True).passed
