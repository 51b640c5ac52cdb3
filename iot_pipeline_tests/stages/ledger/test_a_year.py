"""A year of runs every five seconds: what a look at the ledger reads stays bounded.

Not timed: counted, so that a slow machine is no failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome, find_flaws, sum_counts
from iot_pipeline.core.reading.offsets import Checkpoint
from iot_pipeline.stages.checks.machinery.facts import RECENT
from iot_pipeline.stages.ingest.planning import make_plan
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline.stages.ledger.folding import fold_ledger
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.fakes import FakeLog

NOW = datetime(2026, 1, 1, 3, 30, tzinfo=UTC)  # when purge_daily runs
EVERY = timedelta(seconds=5)
RUNS_A_DAY = 86_400 // 5
SPAN = 50
PARTITIONS = range(2)


@dataclass(slots=True)
class CountingLedger(FakeLedger):
    """Counts the entries it gives out, and how often it is asked for checkpoints."""

    entries_read: int = 0
    asked: int = 0

    def read_entries(self, *asked: Any, **options: Any) -> list[LedgerEntry]:
        found = FakeLedger.read_entries(self, *asked, **options)
        self.entries_read += len(found)
        return found

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        self.asked += 1
        return FakeLedger.read_checkpoints(self, topic, partitions)

    def write_fold(self, folded: LedgerEntry) -> None:
        chain = (folded.topic, folded.partition, folded.epoch)
        for offset in range(folded.start_offset, folded.end_offset, SPAN):
            self.entries.pop((*chain, offset), None)
        self.entries[*chain, folded.start_offset] = folded


def write_runs(ledger: CountingLedger, log: FakeLog, first: datetime, every: timedelta) -> None:
    """One run after another until NOW, each with a range in every partition."""
    for partition in PARTITIONS:
        found = ledger.checkpoints.get((log.topic, partition))
        at, start = first, found.next_offset if found else 0
        while at < NOW:
            counts = Counts(stored=SPAN, stored_by_day={at.date(): SPAN})
            place = (log.topic, partition, 0, start)
            ledger.entries[place] = LedgerEntry(
                *place, start + SPAN, Outcome.INGESTED, f"run at {at}", None, counts, at
            )
            at, start = at + every, start + SPAN
        ledger.checkpoints[log.topic, partition] = Checkpoint(partition, start, 0, log.uuid)


@pytest.fixture(scope="module")
def year() -> tuple[CountingLedger, FakeLog]:
    """The ledger as a year of daily purges leaves it; its last days are at the full rate."""
    ledger, log = CountingLedger(), FakeLog(partitions=len(PARTITIONS))
    detailed = datetime(2025, 12, 31, tzinfo=UTC)
    write_runs(ledger, log, NOW - timedelta(days=365), timedelta(hours=6))
    for place in [place for place, e in ledger.entries.items() if e.updated_at >= detailed]:
        entry = ledger.entries.pop(place)
        ledger.checkpoints[place[:2]] = Checkpoint(
            place[1],
            min(entry.start_offset, ledger.checkpoints[place[:2]].next_offset),
            0,
            log.uuid,
        )
    write_runs(ledger, log, detailed, EVERY)
    before = sum_counts(entry.counts for entry in ledger.entries.values())
    fold_ledger(ledger, log.topic, PARTITIONS, NOW)
    assert sum_counts(entry.counts for entry in ledger.entries.values()) == before
    return ledger, log


@pytest.fixture(autouse=True)
def start_counting(year: tuple[CountingLedger, FakeLog]) -> None:
    year[0].entries_read = year[0].asked = 0


def test_a_plan_and_a_runs_own_checks_do_not_read_the_year(
    year: tuple[CountingLedger, FakeLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, log = year
    ends = {p: ledger.checkpoints[log.topic, p].next_offset for p in PARTITIONS}
    monkeypatch.setattr(FakeLog, "end", lambda _, partition: ends[partition] + 10)
    plan = make_plan(log, ledger, log.topic)
    assert [item.span for item in plan.ingest] == [10, 10]
    assert (ledger.entries_read, ledger.asked) == (0, 1)
    recent = ledger.read_links(log.topic, PARTITIONS, NOW - RECENT)
    assert find_flaws(recent, []) == []
    hour = int(timedelta(hours=1) / EVERY)
    assert 0 < ledger.entries_read <= len(PARTITIONS) * (hour + 1)


def test_the_whole_chain_is_a_row_a_day_and_the_runs_of_two_days(
    year: tuple[CountingLedger, FakeLog],
) -> None:
    ledger, log = year
    chain = read_chain(ledger, log.topic, PARTITIONS)
    assert chain.flaws == []
    folded = [entry for entry in chain.entries if entry.outcome is Outcome.FOLDED]
    assert len(folded) == len(PARTITIONS) * 364
    assert len(chain.entries) <= len(PARTITIONS) * (366 + 2 * RUNS_A_DAY)
    assert ledger.entries_read == len(chain.entries), "each entry is read once"
    assert ledger.asked == 2
    assert all(entry.accounted == entry.span for entry in chain.entries)
