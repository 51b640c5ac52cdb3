"""Verdicts on rollups: red only for what no ledger explains, with the command that helps."""

from datetime import date
from typing import Any

import pytest

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.stages.checks.rebuild_changes_nothing import judge as judge_unchanged
from iot_pipeline.stages.checks.rollup_counts_match_rows import judge as judge_counts
from iot_pipeline.stages.rollups.comparison import DayComparison

DAY = date(2026, 3, 9)
BOTH = pytest.mark.parametrize("judge", [judge_counts, judge_unchanged])


def compared(**values: Any) -> DayComparison:
    fields = {"devices": 4, "compared": 4, "rows": 100, "counted": 100, **values}
    return DayComparison(DAY, **fields)


@BOTH
def test_equal_is_green_and_says_how_much_was_compared(judge: Any) -> None:
    verdict: CheckVerdict = judge([compared()])
    assert verdict.passed
    assert "100 rows of 1 day" in verdict.sentence
    assert verdict.numbers["days"] == 1


def test_a_count_that_is_off_is_red_and_names_both_commands() -> None:
    verdict = judge_counts([compared(), compared(rows=101)])
    assert not verdict.passed
    assert verdict.severity is Severity.ERROR
    assert "the rollups count 100 readings, the table has 101" in verdict.sentence
    assert "`iot rollup --day 2026-03-09`" in verdict.sentence
    assert "`iot audit --day 2026-03-09`" in verdict.sentence
    assert verdict.numbers["days_wrong"] == 1


def test_a_value_that_is_off_is_red_though_counts_agree_and_names_the_devices() -> None:
    day = compared(wrong=["device_1", "device_2", "device_3", "device_4"])
    assert judge_counts([day]).passed
    verdict = judge_unchanged([day])
    assert not verdict.passed
    assert "device_1, device_2, device_3 and 1 more" in verdict.sentence
    assert verdict.numbers["devices_wrong"] == 4


@BOTH
def test_a_day_that_was_touched_since_is_no_defect(judge: Any) -> None:
    verdict = judge([compared(rows=150, wrong=["device_1"], is_touched=True)])
    assert verdict.passed
    assert "changed since their rebuild" in verdict.sentence
    assert verdict.numbers["days_touched"] == 1


@BOTH
def test_what_was_not_compared_is_said(judge: Any) -> None:
    verdict = judge([compared(compared=1)])
    assert verdict.passed
    assert "sufficed for 1 of 4 devices" in verdict.sentence
    assert "No rollups to compare yet" in judge([]).sentence


@BOTH
def test_every_verdict_of_a_name_carries_the_same_numbers(judge: Any) -> None:
    red = compared(rows=1, wrong=["device_1"])
    assert (
        judge([red]).numbers.keys()
        == judge([]).numbers.keys()
        == judge([compared()]).numbers.keys()
    )
