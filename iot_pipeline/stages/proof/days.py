"""The days of readings that an audit covers: what the ledgers said before, what was found after."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime

from iot_pipeline.core.proof.audit_result import AuditResult, Fate
from iot_pipeline.core.proof.audited_days import AuditedDay, DaysBefore, LedgerDays, inside
from iot_pipeline.core.reading.offsets import Checkpoint, subtract_ranges
from iot_pipeline.core.rollups.days import DayFacts, IngestedPart, gather_facts
from iot_pipeline.stages.ledger.chain import FIRST_EPOCH, read_present
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.proof import DeletionLog


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
    of_partition: defaultdict[int, LedgerDays] = defaultdict(LedgerDays)

    def parts() -> Iterator[IngestedPart]:
        for part in ledger.ingested_parts(topic):
            ingested.update(part.stored_by_day)
            of_partition[part.offsets.partition].add(part.offsets, part.stored_by_day)
            yield part

    facts = _gather(ledger, deletions, topic, datetime.now(UTC), parts())
    return DaysBefore(
        {day: found.touched for day, found in facts.items()},
        {day: found.stored for day, found in facts.items()},
        ingested,
        of_partition,
    )


def covered_days(
    before: DaysBefore,
    ledger: LedgerStore,
    topic: str,
    checkpoints: Mapping[int, Checkpoint],
    lows: Mapping[int, int],
    result: AuditResult,
    audit_id: str,
    started_at: datetime,
) -> Mapping[date, AuditedDay]:
    """What the audit found of each day whose ranges it has audited whole.

    Args:
        checkpoints, lows: as of when the audit began, after `before`.
    """
    present = LedgerDays()
    for partition, checkpoint in checkpoints.items():
        present.add_all(_present_of(before, ledger, topic, checkpoint, lows.get(partition, 0)))
    is_everything = result.is_stray_judged and not subtract_ranges(present.whole, result.ranges)
    are_all_seen = _no_readings(result) <= _known_no_readings(
        ledger, topic, checkpoints, lows, result
    )
    found = {}
    for day, ledger_day in before.covered(present, result.ranges):
        lost, torn = result.defects_by_day[day, Fate.LOST], result.defects_by_day[day, Fate.TORN]
        rows, unread = result.stored_by_day[day], inside(ledger_day.ranges, result.uncompared)
        # Each stored reading is explained by a row, or by what the audit saw of its record. Records
        # without a row may be those that a micro-batch never stored, so where a stored record is a
        # hole now, or is ignored, they explain nothing.
        without_row = result.superseded_by_day[day] + result.gone_by_day[day]
        seen = rows + lost + torn + unread + (without_row if are_all_seen else 0)
        elsewhere = before.elsewhere(day, ledger_day.stored, is_everything=is_everything)
        found[day] = AuditedDay(
            day,
            started_at,
            audit_id,
            before.seen[day],
            before.stored[day],
            rows,
            inside(ledger_day.ranges, result.ranges),
            unread,
            max(elsewhere, before.stored[day] - seen),
            lost=lost,
            torn=torn,
            stray=result.defects_by_day[day, Fate.STRAY],
            is_stray_judged=result.is_stray_judged,
        )
    return found


def _no_readings(result: AuditResult) -> int:
    return sum(result.fates[fate] for fate in (Fate.HOLES, Fate.IGNORED, Fate.REJECTED))


def _known_no_readings(
    ledger: LedgerStore,
    topic: str,
    checkpoints: Mapping[int, Checkpoint],
    lows: Mapping[int, int],
    result: AuditResult,
) -> int:
    """Offsets of the audited entries that were no reading when they were ingested."""
    if not _no_readings(result) or not (result.superseded_by_day or result.gone_by_day):
        return _no_readings(result)  # it changes nothing, and a long ledger is not read again
    audited = defaultdict(list)
    for item in result.ranges:
        audited[item.partition].append(item)
    return sum(
        entry.counts.holes + entry.counts.ignored + entry.counts.rejected
        for entry in read_present(ledger, topic, checkpoints, lows)
        if any(
            item.start <= entry.start_offset and entry.end_offset <= item.end
            for item in audited[entry.partition]
        )
    )


def _present_of(
    before: DaysBefore, ledger: LedgerStore, topic: str, checkpoint: Checkpoint, low: int
) -> LedgerDays:
    """The days of one Kafka partition's present log."""
    partition = checkpoint.partition
    if checkpoint.epoch == FIRST_EPOCH:
        return before.of_partition.get(partition, LedgerDays())
    found = LedgerDays()
    for entry in read_present(ledger, topic, {partition: checkpoint}, {partition: low}):
        found.add(entry.offsets, entry.counts.stored_by_day)
    return found
