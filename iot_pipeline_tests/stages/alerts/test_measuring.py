"""What is measured from the ledger goes on where it was, whatever runs and folding do meanwhile."""

import logging
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from iot_pipeline.artifacts.prometheus import as_text
from iot_pipeline.core.alerts.metrics import CHECK_LEVEL, LETTERS, OFFSETS, UNREAD, Sample
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity, not_looked
from iot_pipeline.core.ledger.chain import ChainLink, Counts, Outcome
from iot_pipeline.stages.alerts.live import RunMetrics
from iot_pipeline.stages.alerts.measuring import LedgerTotals, of_checks
from iot_pipeline.stages.requests import RETRIED
from iot_pipeline_tests.stages.world import World

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def totals_of(samples: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for sample in samples:
        if sample.metric in (OFFSETS, UNREAD):
            found[sample.labels.get("fate") or sample.labels["outcome"]] += int(sample.value)
    return +found


class CountedLedger:
    """A ledger of links that notes from when on it was asked."""

    def __init__(self) -> None:
        self.links: dict[tuple[int, int], tuple[datetime, ChainLink]] = {}
        self.asked: list[datetime | None] = []

    def put(self, at: datetime, start: int, end: int, outcome: Outcome, stored: int) -> None:
        rest = end - start - stored if outcome.is_ingested else 0
        link = ChainLink(0, 0, start, end, outcome, "run", stored, 0, 0, 0, 0, 0, rest)
        self.links[0, start] = at, link

    def read_links(
        self, topic: str, partitions: Any, since: datetime | None = None
    ) -> list[ChainLink]:
        self.asked.append(since)
        return [link for at, link in self.links.values() if since is None or at >= since]


def test_an_entry_that_grew_and_one_that_took_the_place_of_many_are_counted_once() -> None:
    ledger = CountedLedger()
    totals = LedgerTotals(ledger, "t")  # type: ignore[arg-type]
    ledger.put(NOW, 0, 100, Outcome.INGESTED, 90)
    ledger.put(NOW, 100, 120, Outcome.EXPIRED, 0)
    totals.update(range(1), NOW)
    assert totals_of(totals.samples()) == {"stored": 90, "holes": 10, "expired": 20}
    later = NOW + timedelta(hours=1)
    ledger.put(later, 120, 200, Outcome.INGESTED, 80)
    totals.update(range(1), later)
    ledger.put(later + timedelta(minutes=1), 120, 300, Outcome.INGESTED, 180)
    totals.update(range(1), later + timedelta(minutes=1))
    assert totals_of(totals.samples()) == {"stored": 270, "holes": 10, "expired": 20}
    ledger.put(later + timedelta(minutes=1), 300, 350, Outcome.INGESTED, 50)
    totals.update(range(1), later + timedelta(minutes=1))
    del ledger.links[0, 300]
    ledger.put(later + timedelta(minutes=2), 120, 400, Outcome.FOLDED, 280)
    totals.update(range(1), later + timedelta(minutes=2))
    assert totals_of(totals.samples()) == {"stored": 370, "holes": 10, "expired": 20}
    # Only the first look reads the whole ledger.
    assert ledger.asked[0] is None
    assert None not in ledger.asked[1:]


def test_every_offset_of_a_ledger_is_in_the_counters() -> None:
    world = World(partitions=2)
    for number in range(20):
        world.write(number % 2, f"d{number}")
    world.write_bad()
    world.drain()
    totals = LedgerTotals(world.ledger, world.log.topic)
    totals.update(range(2), NOW)
    assert totals_of(totals.samples()) == {"stored": 20, "rejected": 1}


def test_checks_are_levels_and_what_they_count_is_told_once() -> None:
    numbers = {"devices": 9, "devices_silent": 2}
    verdicts = [
        ("sensor_data", CheckVerdict(False, "", numbers, name="devices_are_reporting")),
        ("sensor_data", CheckVerdict(True, "", {"devices": 9}, name="clocks_are_right")),
        ("sensor_data", CheckVerdict(False, "", severity=Severity.ERROR, name="gap")),
        ("hourly", replace(not_looked("no time"), name="rollup")),
        ("sensor_data", CheckVerdict(True, "", {"rejected": 3, "not_json": 2}, name="letters")),
    ]
    found = list(of_checks(verdicts, NOW))
    levels = [sample.value for sample in found if sample.metric is CHECK_LEVEL]
    assert levels == [1, 0, 2, -1, 0]
    letters = {s.labels["reason"]: s.value for s in found if s.metric is LETTERS}
    assert letters["not_json"] == 2
    text = as_text(found)
    assert text.count("\niot_devices 9.0") == 1
    assert "iot_devices_silent 2.0" in text
    assert 'iot_check_level{check="rollup",table="hourly"} -1.0' in text


def outcome_of(counts: Counts) -> Any:
    return SimpleNamespace(drained=SimpleNamespace(total=counts))


def test_a_run_tells_its_commits_its_latency_and_its_retries() -> None:
    clock = iter([10.0, 10.4, 12.4]).__next__
    log = logging.getLogger("iot_pipeline.stages.requests")
    with RunMetrics(clock) as live:
        live.committed(outcome_of(Counts(stored=50)))
        live.committed(outcome_of(Counts(stored=50)))
        live.committed(outcome_of(Counts(stored=140, rejected=10)))
        live.measured(0.03)
        live.in_flight = lambda: 3
        log.warning("away; trying again", extra={RETRIED: 1})
        log.warning("something else")
        text = as_text(live.samples())
    log.warning("away; trying again", extra={RETRIED: 1})
    assert as_text(live.samples()) == text
    assert 'iot_run_offsets_total{fate="stored"} 140.0' in text
    assert "iot_micro_batch_rows_sum 150.0" in text
    assert "iot_micro_batch_rows_count 2.0" in text
    assert 'iot_micro_batch_seconds_bucket{le="2"} 1.0' in text
    assert 'iot_topic_to_row_seconds_bucket{le="0.05"} 1.0' in text
    assert "iot_retries_total 1.0" in text
    assert "iot_requests_in_flight 3.0" in text
    assert isinstance(next(live.samples()), Sample)
