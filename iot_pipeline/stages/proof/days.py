"""The days of readings that an audit covers: what the ledgers said before, what was found after."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.proof.audit_result import AuditResult, Fate
from iot_pipeline.core.proof.audited_days import AuditedDay, DaysBefore, by_day, inside
from iot_pipeline.core.reading.offsets import subtract_ranges
from iot_pipeline.core.rollups.days import DayFacts, IngestedPart, gather_facts
from iot_pipeline.stages.ports import DeletionLog, LedgerStore


def read_facts(
    ledger: LedgerStore, deletions: DeletionLog, topic: str, now: datetime
) -> dict[date, DayFacts]:
    """What the ledgers say of every day, read page by page; small whatever their size."""
    return _gather(ledger, deletions, topic, now, ledger.ingested_parts(topic))


def _gather(
    ledger: LedgerStore,
    deletions: DeletionLog,
    topic: str,
    now: datetime,
    parts: Iterable[IngestedPart],
) -> dict[date, DayFacts]:
    replays, deleted = ledger.replayed_parts(topic), deletions.deleted_parts()
    return gather_facts(parts, replays, deleted, now)


def look_before(ledger: LedgerStore, deletions: DeletionLog, topic: str) -> DaysBefore:
    """What the ledgers say before an audit reads anything: what comes later is another text."""
    ingested: Counter[date] = Counter()

    def parts() -> Iterator[IngestedPart]:
        for part in ledger.ingested_parts(topic):
            ingested.update(part.stored_by_day)
            yield part

    facts = _gather(ledger, deletions, topic, datetime.now(UTC), parts())
    return DaysBefore(
        {day: found.seen for day, found in facts.items()},
        {day: found.stored for day, found in facts.items()},
        ingested,
    )


def covered_days(
    before: DaysBefore,
    present: Sequence[LedgerEntry],
    result: AuditResult,
    audit_id: str,
    started_at: datetime,
) -> Mapping[date, AuditedDay]:
    """What the audit found of each day whose ranges it has audited whole.

    Args:
        present: every entry about the present log, read after `before`.
    """
    whole = [entry.offsets for entry in present if entry.outcome.is_ingested]
    is_everything = not subtract_ranges(whole, result.ranges)
    found = {}
    for day, ledger_day in before.covered(by_day(present), result.ranges).items():
        found[day] = AuditedDay(
            day,
            started_at,
            audit_id,
            before.seen[day],
            before.stored[day],
            result.stored_by_day[day],
            inside(ledger_day.ranges, result.ranges),
            inside(ledger_day.ranges, result.uncompared),
            before.elsewhere(day, ledger_day.stored, is_everything=is_everything),
            lost=result.defects_by_day[day, Fate.LOST],
            torn=result.defects_by_day[day, Fate.TORN],
            stray=result.defects_by_day[day, Fate.STRAY],
            is_stray_judged=result.is_stray_judged,
        )
    return found
