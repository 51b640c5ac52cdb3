"""The list of checks: whole, documented, and no check hides those after it."""

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.proof.settling import KeptSettlement
from iot_pipeline.core.reading.offsets import TopicInfo
from iot_pipeline.errors import (
    CassandraUnavailableError,
    KafkaUnavailableError,
    SchemaMismatchError,
)
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import row_count_matches_ledger as row_count
from iot_pipeline.stages.checks.machinery import registry
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, KAFKA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts, RunFacts
from iot_pipeline.stages.checks.machinery.registry import all_checks, checks_of, look_at
from iot_pipeline.stages.checks.machinery.row_counts import DayCount
from iot_pipeline.stages.ingest.progress import DrainProgress

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "iot_pipeline"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_every_check_has_a_name_an_order_and_a_file_of_its_own():
    checks = all_checks()
    assert len({(check.asset, check.name) for check in checks}) == len(checks) >= 20
    assert len({check.order for check in checks}) == len(checks)
    files = {path.stem for path in Path(registry.__file__).parents[1].glob("*.py")}
    assert {check.name for check in checks} <= files, "its file is called as the check"


def table_for_docs(checks: Sequence[Check]) -> str:
    """The checks as a markdown table: name, question, severity, what a look costs, its limits."""
    lines = [
        "| check | what is looked at | when red | a look | limits |",
        "|---|---|---|---|---|",
    ]
    for check in checks:
        severity = f"{check.severity.name}{', ends the run' if check.is_blocking else ''}"
        cost = (
            "comes with a run: no question of its own"
            if check.is_free
            else "a bounded question: within a tenth of a run's time"
        )
        limits = ", ".join(f"`{name}`" for name in check.settings)
        lines.append(f"| `{check.name}` | {check.question} | {severity} | {cost} | {limits} |")
    return "\n".join(lines)


def test_every_check_is_in_the_runbook_and_the_docs_have_its_table():
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    for check in all_checks():
        assert re.search(rf"^### .*\b{check.name}\b", runbook, re.MULTILINE), check.name
    table = table_for_docs(checks_of())
    assert table in (ROOT / "docs" / "checks.md").read_text(), f"docs/checks.md needs:\n{table}"


def test_the_limits_of_a_check_are_settings():
    known = {f"IOT_{name.upper()}" for name in type(Settings.from_env({})).model_fields}
    named = {name for check in all_checks() for name in check.settings}
    assert [name for name in named if not fnmatch.filter(known, name)] == []


def test_only_one_check_ends_a_run():
    assert [c.name for c in all_checks() if c.is_blocking] == ["every_offset_is_accounted_for"]


@dataclass(slots=True)
class Asked:
    """Checks that note when they look."""

    looked: list[str]

    def check(self, name: str, answer: Callable[[], CheckVerdict | None], *asks: str) -> Check:
        def look(_: Facts) -> CheckVerdict | None:
            self.looked.append(name)
            return answer()

        return Check(name, "?", look, 1, asks=asks)


def green() -> CheckVerdict:
    return CheckVerdict(True, "fine")


def fail(error: Exception) -> Callable[[], CheckVerdict]:
    def answer() -> CheckVerdict:
        raise error

    return answer


def test_a_check_that_cannot_look_says_why_and_hides_none_after_it():
    asked = Asked([])
    checks = [
        asked.check("first", fail(SchemaMismatchError("the table is\n not there.")), KAFKA),
        asked.check("second", green, KAFKA),
    ]
    first, second = look_at(checks, Facts(ports_of(), NOW))
    assert (first.passed, first.is_looked) == (False, False)
    assert first.sentence == "Could not look: the table is not there."
    assert second.passed


def test_a_server_that_did_not_answer_one_check_is_not_waited_for_again():
    asked = Asked([])
    checks = [
        asked.check("one", fail(CassandraUnavailableError("Cassandra is away")), CASSANDRA),
        asked.check("two", green, KAFKA, CASSANDRA),
        asked.check("three", green, KAFKA),
        asked.check("four", fail(KafkaUnavailableError("Kafka is away")), KAFKA),
        asked.check("five", green, KAFKA),
    ]
    verdicts = {verdict.name: verdict for verdict in look_at(checks, Facts(ports_of(), NOW))}
    assert asked.looked == ["one", "three", "four"]
    assert [name for name, v in verdicts.items() if v.passed] == ["three"]
    assert "Cassandra is away" in verdicts["two"].sentence
    away = {name: verdict.away for name, verdict in verdicts.items() if not verdict.passed}
    assert away == {"one": CASSANDRA, "two": CASSANDRA, "four": KAFKA, "five": KAFKA}
    assert "Kafka is away" in verdicts["five"].sentence


def test_a_check_without_time_has_no_verdict():
    checks = [Asked([]).check("one", lambda: None)]
    assert list(look_at(checks, Facts(ports_of(), NOW))) == []


def ports_of(**ports: Any) -> Any:
    return SimpleNamespace(settings=Settings(), **ports)


class CountedLog:
    """Answers `describe` once, or fails each time, and counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked, self._error = 0, error

    def describe(self, topic: str) -> TopicInfo:
        self.asked += 1
        if self._error is not None:
            raise self._error
        return TopicInfo(topic, "an id", 4, {})


def test_a_fact_is_looked_up_once_whether_it_is_an_answer_or_an_error():
    log = CountedLog()
    facts = Facts(ports_of(log=log), NOW)
    assert (facts.parts, facts.parts, log.asked) == (range(4), range(4), 1)
    log = CountedLog(KafkaUnavailableError("away"))
    facts = Facts(ports_of(log=log), NOW)
    for _ in range(3):
        with pytest.raises(KafkaUnavailableError):
            _ = facts.topic
    assert log.asked == 1


def test_checks_without_any_verdict_yet_get_more_time_than_a_short_run_has():
    run = RunFacts("r", DrainProgress(), (), (), (), NOW, TopicInfo("t", "i", 1, {}))
    assert Facts(ports_of(), NOW, run, is_first=True).seconds(0.1) >= 2
    assert Facts(ports_of(), NOW, run).seconds(0.1) < 0.1
    assert Facts(ports_of(), NOW).seconds(0.1) == Settings().check_seconds


@pytest.mark.parametrize("is_run", [True, False])
def test_a_day_of_which_a_part_was_counted_clears_no_suspect(
    is_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    today, before = date(2026, 1, 2), date(2026, 1, 1)
    counted = [DayCount(today, 9, 3, 3, 9, 9), DayCount(before, 6, 3, 1_000, 90, 90)]
    monkeypatch.setattr(row_count, "count_days", lambda *_, **__: counted)
    monkeypatch.setattr(row_count, "days_alone", lambda _: {today})
    monkeypatch.setattr(row_count, "keep_sums", lambda *_: None)
    monkeypatch.setattr(row_count, "keep_sums_in_passing", lambda *_: None)
    run = RunFacts("r", DrainProgress(), (), {today}, (), NOW, TopicInfo("t", "i", 1, {}))
    facts = SimpleNamespace(
        run=run if is_run else None,
        suspects={"row_count_matches_ledger": [str(before)]},
        ports=SimpleNamespace(
            ledger=None,
            ledger_sums=None,
            rows=None,
            days=None,
            receipts=SimpleNamespace(read_receipts=list),
            settlements=SimpleNamespace(
                read_settlement=lambda *_: KeptSettlement(), keep_settlement=lambda *_: None
            ),
        ),
        now=NOW,
        settings=Settings(),
        parts=range(1),
        recent=[],
        seconds=lambda _: 1.0,
    )
    verdict = row_count.look(facts)  # type: ignore[arg-type]
    if is_run:
        assert verdict is None, "the last verdict stands"
    else:
        assert verdict is not None
        assert not verdict.passed
    counted[1] = DayCount(before, 90, 1_000, 1_000, 90, 90)
    verdict = row_count.look(facts)  # type: ignore[arg-type]
    assert verdict is not None
    assert verdict.passed


def test_the_name_of_a_check_stands_in_its_file_alone():
    """Elsewhere it is asked of the check; a comment or a message may say it, unquoted."""
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    for name in {check.name for check in all_checks()}:
        holders = [
            path.stem for path, text in sources.items() for _ in range(text.count(f'"{name}"'))
        ]
        assert holders == [name], f"{name} is written in {holders}"
