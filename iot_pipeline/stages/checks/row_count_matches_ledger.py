"""Are as many rows in the table as the ledgers stored, day by day?"""

from datetime import date, timedelta

from iot_pipeline.core.checks.verdicts import (
    ROW_COUNT,
    CheckVerdict,
    Severity,
    judge_row_counts,
    not_looked,
)
from iot_pipeline.stages.checks.check import CASSANDRA, Check, Cost
from iot_pipeline.stages.checks.facts import Facts
from iot_pipeline.stages.checks.row_counts import StoredByDay, count_days
from iot_pipeline.stages.ledger.sums import KeptSums, keep_sums, keep_sums_in_passing

# The day before is counted once more, whole, by a look soon after midnight UTC.
_DAY_IS_FRESHLY_CLOSED = timedelta(minutes=15)
# A micro-batch that was written when the rows were counted commits within this.
_PATIENCE_SECONDS = 5.0
_PATIENCE_WHILE_ONE_RUN_WRITES_SECONDS = 0.5


def look(facts: Facts) -> CheckVerdict | None:
    """Count as many devices of as many days as there is time for."""
    run, sums = facts.run, facts.ports.ledger_sums
    ledger: StoredByDay = KeptSums(sums)
    patience = _PATIENCE_SECONDS
    if run is None:
        # Of the whole ledger, not of what was kept of it: so each proves the other.
        ledger, days = sums, days_alone(facts)
    else:
        days = set(run.days)
        if not run.is_growing:
            patience = _PATIENCE_WHILE_ONE_RUN_WRITES_SECONDS
    days |= {date.fromisoformat(day) for day in facts.suspects.get(ROW_COUNT, ())}
    compared = count_days(
        ledger,
        facts.ports.device_days,
        facts.settings.topic,
        facts.parts,
        sorted(days, reverse=True),
        budget_seconds=facts.seconds(ROW_COUNT, 0.25),
        patience_seconds=patience,
    )
    if run is None:
        keep_sums(sums, facts.settings.topic, facts.parts)
    else:
        keep_sums_in_passing(sums, facts.settings.topic, facts.parts, facts.recent)
    verdict = judge_row_counts(compared)
    # A part of a day that has no row too many says nothing of it: it clears no suspect.
    part = {str(day.day) for day in compared if not day.is_whole}
    is_cleared = not part & set(facts.suspects.get(ROW_COUNT, ()))
    if not verdict.passed or not compared or (len(part) < len(compared) and is_cleared):
        return verdict
    return None if run is not None else not_looked(ROW_COUNT, verdict.sentence, verdict.numbers)


def days_alone(facts: Facts) -> set[date]:
    """Those of the last hour's runs; soon after midnight UTC also the day that has just closed.

    Where nothing was ingested lately, the days of each partition's newest entry.
    """
    days = {day for entry in facts.recent_entries for day in entry.counts.stored_by_day}
    if not days:
        newest = facts.ports.ledger.read_newest(facts.settings.topic, facts.parts)
        days = {day for entry in newest for day in entry.counts.stored_by_day}
    if facts.now.date() != (facts.now - _DAY_IS_FRESHLY_CLOSED).date():
        days.add((facts.now - timedelta(days=1)).date())
    return days


CHECK = Check(
    ROW_COUNT,
    "Rows counted in Cassandra, day by day, against what the ledger says was stored. Fewer or more "
    "is a warning, with the command that tells why.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=20,
    asks=(CASSANDRA,),
    settings=("IOT_CHECK_SECONDS",),
)
