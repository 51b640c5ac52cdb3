from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict, not_looked
from iot_pipeline.core.proof.forgetting import forgotten_rows
from iot_pipeline.core.proof.settling import Settlement
from iot_pipeline.core.reading.quantities import are_in_parts
from iot_pipeline.core.times import in_utc
from iot_pipeline.core.words import counted
from iot_pipeline.errors import MissingRightError, PipelineError
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.row_counts import CountSoFar, DayCount, count_days
from iot_pipeline.stages.ledger.sums import KeptSums, keep_sums, keep_sums_in_passing
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.proof.settling import settle_day

_NAME = "row_count_matches_ledger"
# The day before is counted once more, whole, by a look soon after midnight UTC.
_DAY_IS_FRESHLY_CLOSED = timedelta(minutes=15)
# A micro-batch that was written when the rows were counted commits within this.
_PATIENCE_SECONDS = 5.0
# A run believes for so long that a day that was settled is; the schedule looks every 5 minutes.
_IS_SETTLED_FOR = timedelta(minutes=15)
_PATIENCE_WHILE_ONE_RUN_WRITES_SECONDS = 0.5


def look(facts: Facts) -> CheckVerdict | None:
    """Count as many devices of as many days as there is time for."""
    run, whole, sums = facts.run, facts.ports.ledger, facts.ports.ledger_sums
    ledger: LedgerStore | KeptSums = KeptSums(whole, sums)
    patience = _PATIENCE_SECONDS
    if run is None:
        # The whole ledger, not the sums that were kept of it: so each proves the other.
        ledger, days = whole, days_alone(facts)
    else:
        days = set(run.days)
        if not run.is_growing:
            patience = _PATIENCE_WHILE_ONE_RUN_WRITES_SECONDS
    last = facts.suspects.get(_NAME, ())
    # Kept with the verdict, as suspects are: what a person reads and where it goes on are one row.
    parsed = {text: CountSoFar.parse(text) for text in last}
    begun = {part.day: part for part in parsed.values() if part is not None}
    suspects = {text for text, part in parsed.items() if part is None}
    days |= {date.fromisoformat(day) for day in suspects}
    # Only a look on its own has the time to go on; a run counts its own days from the beginning.
    mine = {} if run is not None else begun
    days |= mine.keys()
    of_cells = are_in_parts(facts.settings.quantities)
    compared = count_days(
        ledger,
        facts.ports.rows,
        facts.ports.days,
        facts.settings.topic,
        facts.parts,
        sorted(days, reverse=True),
        budget_seconds=facts.seconds(0.25),
        patience_seconds=patience,
        begun=mine,
        of_cells=of_cells,
        forgotten=lambda: forgotten_rows(facts.ports.receipts.read_receipts(), of_cells=of_cells),
    )
    # What is kept is derived: who may not write looks all the same.
    with suppress(MissingRightError):
        if run is None:
            keep_sums(whole, sums, facts.settings.topic, facts.parts)
        else:
            keep_sums_in_passing(whole, sums, facts.settings.topic, facts.parts, facts.recent)
    unit, may_age = "cell" if of_cells else "row", facts.settings.retention.may_end
    settlements = _settle(facts, compared)
    if run is None:
        with suppress(MissingRightError):
            _keep_sums_then(facts, compared, settlements)
    verdict = judge(compared, settlements, unit, may_age=may_age)
    part = {str(day.day) for day in compared if not day.is_whole}
    if run is None:
        left = [day.so_far for day in compared if day.so_far and not day.surplus]
    else:
        whole_now = {day.day for day in compared if day.is_whole}
        left = [so_far for day, so_far in begun.items() if day not in whole_now]
    # A part of a day that has no row too many says nothing of it: it clears no suspect.
    uncleared = part & suspects
    kept = [*dict.fromkeys([*verdict.suspects, *sorted(uncleared)]), *map(str, left)]
    if not verdict.passed or not compared or (len(part) < len(compared) and not uncleared):
        return replace(verdict, suspects=kept)
    if run is not None:
        return None
    return replace(not_looked(verdict.sentence, verdict.numbers), suspects=kept)


def _settle(facts: Facts, compared: Sequence[DayCount]) -> list[Settlement]:
    """Why days have fewer rows: found out by a look on its own, and remembered for a run."""
    settlements = []
    for day in compared:
        if not day.deficit:
            continue
        if facts.run is None:
            try:
                settled = settle_day(
                    facts.ports.audit_ports,
                    facts.ports.settlements,
                    facts.parts,
                    day.day,
                    day.deficit,
                    budget_seconds=facts.seconds(0.2),
                )
            except PipelineError as exc:
                # The rows were counted all the same, and that is told.
                settled = Settlement(day.day, day.deficit, problem=str(exc))
            settlements.append(settled)
            continue
        kept = facts.ports.settlements.read_settlement(facts.settings.topic, day.day)
        if kept.settled_at is not None and facts.now - kept.settled_at < _IS_SETTLED_FOR:
            # What came since is compared by the next look on its own.
            explained = kept.explains(day.ledger_after or 0)
            if day.deficit > explained:
                continue
            settlements.append(
                Settlement(
                    day.day,
                    day.deficit,
                    explained,
                    as_of=kept.settled_at,
                    was_counted=kept.explained == 0,
                )
            )
    return settlements


def _keep_sums_then(
    facts: Facts, compared: Sequence[DayCount], settlements: Sequence[Settlement]
) -> None:
    """Remember, for the runs until the next look, which days are as they are to be, and at what."""
    ports, topic = facts.ports.settlements, facts.settings.topic
    settled = {item.day for item in settlements if item.is_settled}
    for day in compared:
        is_equal = day.is_whole and not day.deficit and not day.surplus
        if not is_equal and day.day not in settled:
            continue
        kept = ports.read_settlement(topic, day.day)
        if is_equal:
            kept = replace(kept, explained=0, settled_at=facts.now)
        ports.keep_settlement(topic, day.day, kept.at_sum(day.ledger_before or 0))


def days_alone(facts: Facts) -> set[date]:
    """Those of the last hour's runs; soon after midnight UTC also the day that has just closed.

    Where nothing was ingested lately, the days of each partition's newest entry.
    """
    days = {day for entry in facts.recent_entries for day in entry.counts.stored_by_day}
    if not days:
        newest = facts.ports.ledger.read_entries(facts.settings.topic, facts.parts, limit=1)
        days = {day for entry in newest for day in entry.counts.stored_by_day}
    if facts.now.date() != (facts.now - _DAY_IS_FRESHLY_CLOSED).date():
        days.add((facts.now - timedelta(days=1)).date())
    return days


def judge(
    days: Sequence[DayCount],
    settlements: Sequence[Settlement] = (),
    unit: str = "row",
    *,
    may_age: bool = False,
) -> CheckVerdict:
    """Rows per day in Cassandra against the ledgers; days that were not counted whole are said.

    Only surplus and deficit are facts worth a warning: both have harmless causes, so the
    verdict names the command that tells them apart.

    Args:
        days: rows, or cells where readings may be told in parts.
        settlements: why there are fewer, as far as that was found out.
        unit: what was counted.
        may_age: whether rows of some devices outlive their retention, which no count can tell from
            records that were sent again.
    """
    more = [day for day in days if day.surplus]
    known = {item.day: item for item in settlements}
    settled = {day for day, item in known.items() if item.is_settled}
    fewer = [day for day in days if day.deficit and day.day not in settled]
    part = [day for day in days if not day.is_whole]
    missing, too_many = sum(day.deficit for day in fewer), sum(day.surplus for day in more)
    numbers = {
        f"{unit}s": sum(day.rows for day in days),
        f"{unit}s_in_ledger": sum(day.ledger_after or 0 for day in days),
        f"{unit}s_missing": missing,
        f"{unit}s_sent_again": sum(item.missing for item in settlements if item.is_settled),
        f"{unit}s_too_many": too_many,
        f"{unit}s_forgotten": sum(day.gone for day in days),
        "days": len(days),
        "days_not_whole": len(part),
    }
    said = []
    if fewer:
        said.append(
            f"{some([day.day for day in fewer])}: {counted(missing, unit)} fewer "
            "than the ledger stored. Either readings were sent again later (same device and "
            f"millisecond){_or_aged(may_age)}, or {unit}s are missing; `iot audit --day "
            f"{fewer[0].day}` tells which."
            + "".join(_say_so_far(known[day.day]) for day in fewer if day.day in known)
        )
    for item in settlements:
        if item.is_settled:
            said.append(_say_settled(item, unit, may_age))
    if more:
        said.append(
            f"{some([day.day for day in more])}: {counted(too_many, unit)} more "
            "than the ledger stored. Either a run died ahead of the checkpoint, which the next run "
            f"settles, or another program writes here; `iot audit --day {more[0].day}` tells which."
        )
    whole = len(days) - len(part)
    if not said and whole:
        said.append(_say_equal([day for day in days if day.is_whole], unit))
    elif not said:
        said.append("Nothing was compared." if days else "No rows to count yet.")
    if part:
        said.append(_say_part(part))
    # Counted again the next time, whatever days that look is about: red until they agree.
    suspects = [str(day.day) for day in days if day.surplus or day in fewer]
    return CheckVerdict(not suspects, " ".join(said), numbers, suspects=suspects)


_FORMER = (
    " Of those that the ledger stored, {:,} are of another log, before a rebase: what this one has "
    "of them was ingested again and is counted twice; rows of which it has no record were not "
    "compared."
)


def _say_equal(days: Sequence[DayCount], unit: str) -> str:
    rows = sum(day.rows for day in days)
    before = sum(day.ledger_before or 0 for day in days)
    after = sum(day.ledger_after or 0 for day in days)
    # A run wrote meanwhile: a person who compares two numbers must not find them unequal.
    meanwhile = "" if before == after else f" while they were counted: {before:,} to {after:,}"
    what = f"{counted(rows, unit)} of {counted(len(days), 'day')}"
    gone = sum(day.gone for day in days)
    forgotten = f", but for {gone:,} that `iot forget` removed" if gone else ""
    return f"{what} are what the ledger stored{meanwhile}{forgotten}."


def _every(may_age: bool) -> str:
    return "every record that has to have one" if may_age else "every record"


def _or_aged(may_age: bool) -> str:
    return " or outlived their retention" if may_age else ""


def _say_settled(item: Settlement, unit: str, may_age: bool) -> str:
    fewer = f"{item.day}: {counted(item.missing, unit)} fewer than the ledger stored"
    if item.was_counted and item.as_of is not None:
        return (
            f"{fewer}. At {in_utc(item.as_of)} no row was missing; what came since (a reading sent "
            f"again makes no second row{', rows may have aged out' * may_age}) is compared by "
            "checks_every_5_minutes."
        )
    if item.as_of is not None:
        return (
            f"{fewer}. At {in_utc(item.as_of)} an audit had found the row of {_every(may_age)}, "
            f"so they were sent again later{_or_aged(may_age)}; what came since is compared by "
            "checks_every_5_minutes."
        )
    found = f"{fewer}, and none is missing: an audit found the row of {_every(may_age)}"
    again = max(0, item.explained - item.former)
    said = f"{found}; {again:,} were sent again later (same device and millisecond)"
    said += f"{_or_aged(may_age)}."
    if not item.former:
        return said
    return (said if again else f"{found}.") + _FORMER.format(item.former)


def _say_so_far(item: Settlement) -> str:
    if item.problem:
        return f" Why could not be found out now: {item.problem}."
    if item.defects:
        return (
            f" This look found {counted(item.defects, 'record')} of {item.day} without their row."
        )
    if item.unverifiable:
        return (
            f" {item.unverifiable:,} offsets of {item.day} could not be compared: Kafka does not "
            "have them any more, or they were left unread."
        )
    if item.compared < item.offsets:
        return (
            f" {item.compared:,} of {item.offsets:,} offsets of {item.day} were compared so far, "
            "and all have their row; the next look goes on."
        )
    return (
        f" Its {item.offsets:,} offsets were compared: {item.explained:,} records were sent again, "
        "which does not explain all."
    )


def _say_part(part: Sequence[DayCount]) -> str:
    counted = some(
        [
            f"{day.day} ({day.devices_counted} of {day.devices} devices"
            f"{'' if day.ledger_before is not None else ', ledger not read'})"
            for day in part
        ],
        ", ",
    )
    return (
        f"The time of this check did not suffice to count whole: {counted}. The schedule "
        "checks_every_5_minutes goes on where it was each time (IOT_CHECK_SECONDS)."
    )


CHECK = Check(
    _NAME,
    "Rows counted in Cassandra (their cells, where a quantity is optional), day by day, against "
    "what the ledger says was stored. On its own "
    "the check finds out why there are fewer: records sent again are no warning, missing rows are.",
    look,
    order=20,
    asks=(CASSANDRA,),
    settings=("IOT_CHECK_SECONDS",),
)
