"""Which verdict of a check a person sees, and that there always is one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.checks.verdicts import not_looked as answer_of_none
from iot_pipeline.defs.verdicts import (
    Shown,
    Verdicts,
    choose_shown,
    is_first_look,
    is_news,
    suspects_of,
)
from iot_pipeline.stages.checks.machinery.registry import checks_of
from iot_pipeline_tests.defs.keys import SENSOR_DATA
from iot_pipeline_tests.defs.seen import NOT_EVALUATED, seen

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)
_NUMBERS = {"offsets": 3, "share": 0.5}
GAP, LAG, ROWS = "ledger_has_no_gap", "lag_is_within_limit", "row_count_matches_ledger"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def green(name: str) -> CheckVerdict:
    return CheckVerdict(True, "all is well", _NUMBERS, name=name)


def red(name: str, *suspects: str) -> CheckVerdict:
    return CheckVerdict(
        False, "it is not", _NUMBERS, suspects=suspects, severity=Severity.ERROR, name=name
    )


def not_looked(name: str, why: str) -> CheckVerdict:
    return replace(answer_of_none(why), name=name)


def shown_after(
    verdict: CheckVerdict | None,
    before: dict[str, Shown] | None = None,
    *,
    name: str = GAP,
    is_whole: bool = False,
    at: datetime = LATER,
) -> Shown:
    (one,) = choose_shown(
        [] if verdict is None else [verdict],
        before or {},
        at,
        is_whole=is_whole,
        checks=[check for check in checks_of() if check.name == name],
    )
    return one


@dg.asset(key=SENSOR_DATA)
def stored() -> None:
    """A run that materializes, and says nothing of the checks."""


def materialize(instance: dg.DagsterInstance) -> None:
    assert dg.materialize([stored], instance=instance).success


def test_a_verdict_keeps_its_sentence_its_numbers_and_whom_it_is_about():
    one = shown_after(red(GAP, "device_1"))
    assert (one.passed, one.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert one.description == "it is not"
    assert (one.metadata["offsets"].value, one.metadata["share"].value) == (3, 0.5)
    assert (one.suspects, one.looked_at) == (["device_1"], LATER)
    assert suspects_of({GAP: one}) == {GAP: ["device_1"]}


def test_only_the_check_that_ends_a_run_is_blocking_and_only_when_it_is_an_error():
    name = "every_offset_is_accounted_for"
    assert shown_after(red(name), name=name).is_blocking
    assert not shown_after(not_looked(name, "Kafka is away"), name=name).is_blocking
    assert not shown_after(red(GAP)).is_blocking


def test_where_a_run_had_no_time_the_last_verdict_stands_with_its_own_time():
    last = shown_after(green(GAP), at=NOON)
    one = shown_after(None, {GAP: last})
    assert one.passed
    assert one.description == "all is well (Looked at 2026-01-01 12:00:00 UTC.)"
    assert one.looked_at == NOON
    assert shown_after(None, {GAP: one}).description == one.description, "said once"


def test_what_was_never_looked_at_is_not_green():
    one = shown_after(None)
    assert not one.passed
    assert "Not looked at yet" in one.description
    again = shown_after(None, {GAP: one})
    assert not again.passed, "no verdict either"


def test_more_time_is_given_while_a_check_has_no_row():
    rows = {check.name: shown_after(None, name=check.name) for check in checks_of()}
    assert is_first_look({})
    assert is_first_look({GAP: rows[GAP]})
    assert not is_first_look(rows), "once"


def test_a_run_cannot_clear_what_only_a_whole_look_can_see():
    whole_red = shown_after(red(GAP), is_whole=True, at=NOON)
    assert not shown_after(green(GAP), {GAP: whole_red}).passed
    assert shown_after(green(GAP), {GAP: whole_red}, is_whole=True).passed
    # A check that sees all of it in a run clears it there.
    lag_red = shown_after(red(LAG), name=LAG, is_whole=True, at=NOON)
    assert shown_after(green(LAG), {LAG: lag_red}, name=LAG).passed
    # What a run found in its part the next run does not see in its own.
    assert not shown_after(green(GAP), {GAP: shown_after(red(GAP))}).passed


@pytest.mark.parametrize(
    "between",
    [not_looked(GAP, "Could not look: Kafka is away"), None],
    ids=["an outage", "a run without time"],
)
def test_no_look_between_makes_a_red_that_only_a_whole_look_clears_forgotten(between):
    before = {GAP: shown_after(red(GAP), is_whole=True, at=NOON)}
    before = {GAP: shown_after(between, before)}
    seen_then = shown_after(green(GAP), before)
    assert not seen_then.passed
    assert "job checks" in seen_then.description or "it is not" in seen_then.description
    assert shown_after(green(GAP), {GAP: seen_then}, is_whole=True).passed


def test_what_was_wrong_is_still_to_be_looked_at_after_a_look_that_could_not():
    last = shown_after(red(ROWS, "2026-01-01"), name=ROWS)
    away = not_looked(ROWS, "Could not look: Cassandra is away")
    assert shown_after(away, {ROWS: last}, name=ROWS).suspects == ["2026-01-01"]


def test_what_stood_only_because_nothing_could_be_asked_is_not_kept():
    away = shown_after(not_looked(ROWS, "Could not look: Cassandra is away"), name=ROWS)
    assert "Not looked at yet" in shown_after(None, {ROWS: away}, name=ROWS).description


def test_news_is_another_colour_or_other_devices_not_another_number():
    one = shown_after(green(GAP), at=NOON)
    assert not is_news(shown_after(green(GAP)), one)
    assert is_news(shown_after(red(GAP)), one)
    assert is_news(shown_after(red(GAP, "b")), shown_after(red(GAP, "a")))
    assert is_news(one, None)


def test_a_verdict_of_now_is_shown_and_stays_until_the_next_materialization(instance):
    materialize(instance)
    Verdicts(instance, SENSOR_DATA).show_now([shown_after(green(GAP))])
    assert seen(instance)[GAP] == "SUCCEEDED"
    materialize(instance)
    assert seen(instance)[GAP] == NOT_EVALUATED, "which is why each run writes all of them"
    Verdicts(instance, SENSOR_DATA).show_again_where_hidden("no run of these")
    assert seen(instance)[GAP] == "SUCCEEDED"


def test_a_verdict_is_shown_though_a_run_materializes_while_it_is_written(instance):
    materialize(instance)
    written = []

    def write_late(evaluation: dg.AssetCheckEvaluation) -> None:
        if not written:
            materialize(instance)
        written.append(evaluation)
        instance.report_runless_asset_event(evaluation)

    Verdicts(instance, SENSOR_DATA).show_now([shown_after(red(GAP))], write_late)
    assert len(written) == 2
    assert seen(instance)[GAP] == "FAILED"


def test_each_verdict_is_a_row_of_the_history(instance):
    materialize(instance)
    for verdict in (red(GAP), green(GAP), red(GAP)):
        Verdicts(instance, SENSOR_DATA).show_now([shown_after(verdict)])
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(SENSOR_DATA, GAP), limit=10
    )
    assert [record.evaluation.passed for record in history] == [False, True, False]
    assert not Verdicts(instance, SENSOR_DATA).read()[GAP].passed


def test_a_verdict_read_back_is_the_one_that_was_written(instance):
    materialize(instance)
    verdict = replace(red(GAP, "device_1"), sentence="Silent: a_b*, `iot readings 'x_*'`; IOT_X_*")
    one = shown_after(verdict, is_whole=True)
    Verdicts(instance, SENSOR_DATA).show_now([one])
    found = Verdicts(instance, SENSOR_DATA).read()[GAP]
    assert replace(found, written_at=0.0) == one
    assert (found.suspects, found.looked_at) == (["device_1"], LATER)
    assert found.needs_whole_look
