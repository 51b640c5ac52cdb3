"""What people see as checks: facts in, verdicts out, with what to do when one is red.

Belongs here: which facts are fine, and the sentence that helps when they are not. Does not belong
here: gathering facts (`stages.checks`), showing verdicts (`defs.checks`).
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from iot_pipeline.core.checks.device_table import DeviceTable
from iot_pipeline.core.checks.schema import Difference
from iot_pipeline.core.ledger.chain import ChainLink, Flaw, LedgerEntry, Outcome
from iot_pipeline.core.reading.lag import PartitionLag, total_lag
from iot_pipeline.core.reading.offsets import OffsetRange

EVERY_OFFSET = "every_offset_is_accounted_for"
ROW_COUNT = "row_count_matches_ledger"
NO_GAP = "ledger_has_no_gap"
DURABLE = "acknowledged_is_durable"
LAG = "lag_is_within_limit"
SCHEMA = "schema_matches"

_SHOWN = 3


class Severity(enum.StrEnum):
    """WARN: look when you can. ERROR: readings are missing, wrong, or not accounted for."""

    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """One check's answer; `severity` matters when it has not passed.

    `numbers` plot over time, so every verdict of a name carries the same ones. `sentence` says
    what was found and, when it has not passed, what to do next.

    A verdict is passed, failed, or, with `is_looked` False, neither: the check could not look, and
    that is never green.
    """

    name: str
    passed: bool
    severity: Severity
    sentence: str
    numbers: Mapping[str, int | float] = field(default_factory=dict)
    worst: DeviceTable = field(default_factory=DeviceTable)
    suspects: Sequence[str] = ()
    is_looked: bool = True


# How the sentence of a check begins that could not look; the reason follows.
COULD_NOT_LOOK = "Could not look: "


def not_looked(
    name: str, why: str, numbers: Mapping[str, int | float] | None = None
) -> CheckVerdict:
    """The answer of a check that could not look; `why` is a sentence."""
    return CheckVerdict(name, False, Severity.WARN, why, numbers or {}, is_looked=False)


@dataclass(frozen=True, slots=True)
class DayCount:
    """One UTC day: rows counted in Cassandra, and what both ledgers say of it.

    `ledger_before` and `ledger_after` were read before and after counting, so a run that commits
    meanwhile is between them; None when the time did not suffice to read the ledgers.
    `devices_counted` of the `devices` that have rows that day were counted.
    """

    day: date
    rows: int
    devices_counted: int
    devices: int
    ledger_before: int | None
    ledger_after: int | None

    @property
    def is_whole(self) -> bool:
        return self.devices_counted == self.devices and self.ledger_before is not None

    @property
    def surplus(self) -> int:
        """Rows more than any ledger state says, even when not all were counted; at least 0."""
        return 0 if self.ledger_after is None else max(0, self.rows - self.ledger_after)

    @property
    def deficit(self) -> int:
        """Rows fewer than the ledger said before counting; 0 when not all were counted."""
        if not self.is_whole or self.ledger_before is None:
            return 0
        return max(0, self.ledger_before - self.rows)


def judge_accounting(
    entries: Sequence[LedgerEntry] | Sequence[ChainLink],
    achieved: Sequence[OffsetRange] | None = None,
    *,
    is_growing: bool = False,
) -> CheckVerdict:
    """`span = stored + superseded + rejected + aged_out + holes`, in what the ledger kept.

    Args:
        entries: as read back from the ledger.
        achieved: what the run says it committed; each must be in the ledger with just that end.
            None when no run is asked about.
        is_growing: the run goes on, so the ledger may have the same range with a later end.
    """
    ingested = [entry for entry in entries if entry.outcome in (Outcome.INGESTED, Outcome.FOLDED)]
    span = sum(entry.span for entry in ingested)
    accounted = sum(entry.accounted for entry in ingested)
    wrong = [
        f"{entry.partition}:{entry.start_offset}-{entry.end_offset} ({entry.span} offsets, "
        f"{entry.accounted} accounted for, run {entry.run_id})"
        for entry in ingested
        if entry.accounted != entry.span
    ]
    ends = {(entry.partition, entry.start_offset): entry.end_offset for entry in ingested}
    for item in achieved or ():
        end = ends.get((item.partition, item.start), 0)
        if end < item.end or (end > item.end and not is_growing):
            wrong.append(f"{item} (committed by this run, not in the ledger)")
    numbers = {"offsets": span, "accounted_for": accounted, "ranges_wrong": len(wrong)}
    if wrong:
        return CheckVerdict(
            EVERY_OFFSET,
            False,
            Severity.ERROR,
            f"Not every offset has a fate: {_first(wrong)}. This is a defect of ours, not of the "
            "data: keep the topic, run `iot audit` over these offsets to see what is missing, and "
            "drain them again.",
            numbers,
        )
    return CheckVerdict(
        EVERY_OFFSET,
        True,
        Severity.ERROR,
        f"Each of {span:,} offsets is stored, superseded, rejected, aged out or a hole.",
        numbers,
    )


def judge_chain(flaws: Sequence[Flaw], entries: int, is_whole: bool) -> CheckVerdict:
    """The ledger's ranges tile the log; `is_whole` unless only its recent part was walked."""
    part = "the whole ledger" if is_whole else "the last hour of the ledger"
    numbers = {"entries": entries, "flaws": len(flaws)}
    if flaws:
        return CheckVerdict(
            NO_GAP,
            False,
            Severity.ERROR,
            f"In {part}: {_first([str(flaw) for flaw in flaws])}. Offsets there were skipped or "
            "counted twice. Stop the sensor, look at `iot ledger`, and drain the missing offsets "
            "with `iot replay --offsets P:START-END` while Kafka has them.",
            numbers,
        )
    return CheckVerdict(
        NO_GAP,
        True,
        Severity.ERROR,
        f"{entries:,} ranges in {part} follow each other without gap or overlap.",
        numbers,
    )


def judge_durability(is_durable: bool, sentence: str) -> CheckVerdict:
    """What `core.checks.schema.describe_durability` says, as a verdict."""
    return CheckVerdict(
        DURABLE,
        is_durable,
        Severity.WARN,
        f"{sentence[:1].upper()}{sentence[1:]}.",
        {"is_durable": int(is_durable)},
    )


def judge_lag(lags: Sequence[PartitionLag], limit_seconds: float) -> CheckVerdict:
    """The oldest record that was not ingested yet, against the limit."""
    total = total_lag(lags)
    numbers = {
        "lag_seconds": round(total.lag_seconds, 3),
        "lag_offsets": total.lag_offsets,
        "limit_seconds": limit_seconds,
    }
    if total.lag_seconds <= limit_seconds:
        return CheckVerdict(
            LAG,
            True,
            Severity.WARN,
            f"{total.lag_offsets:,} offsets are waiting, the oldest since "
            f"{total.lag_seconds:.1f} s; the limit is {limit_seconds:g} s.",
            numbers,
        )
    worst = max(lags, key=lambda lag: lag.lag_seconds)
    return CheckVerdict(
        LAG,
        False,
        Severity.WARN,
        f"{total.lag_offsets:,} offsets are waiting, the oldest since {total.lag_seconds:,.0f} s "
        f"in partition {worst.partition}; the limit is {limit_seconds:g} s. Is the sensor "
        "iot_data_lag on, do its last ticks say why they skip, and do its runs end well? If they "
        "do, more arrives than one run at a time can write; IOT_LAG_LIMIT_SECONDS is the limit.",
        numbers,
    )


def judge_schema(differences: Sequence[Difference]) -> CheckVerdict:
    """Tables and topics against what this version expects."""
    fatal = [str(difference) for difference in differences if difference.is_fatal]
    notes = [str(difference) for difference in differences if not difference.is_fatal]
    numbers = {"differences": len(differences), "fatal": len(fatal)}
    if fatal:
        return CheckVerdict(
            SCHEMA,
            False,
            Severity.ERROR,
            f"{_first(fatal)}. Launch the job setup_schema (or `iot setup`): it makes what is "
            "missing and says what it may not change.",
            numbers,
        )
    remark = f" Different on purpose? {_first(notes)}." if notes else ""
    return CheckVerdict(
        SCHEMA, True, Severity.ERROR, f"Tables and topics are as expected.{remark}", numbers
    )


def judge_row_counts(days: Sequence[DayCount]) -> CheckVerdict:
    """Rows per day in Cassandra against the ledgers; days that were not counted whole are said.

    Only surplus and deficit are facts worth a warning: both have harmless causes, so the
    verdict names the command that tells them apart.
    """
    more = [day for day in days if day.surplus]
    fewer = [day for day in days if day.deficit]
    part = [day for day in days if not day.is_whole]
    numbers = {
        "rows": sum(day.rows for day in days),
        "rows_in_ledger": sum(day.ledger_after or 0 for day in days),
        "rows_missing": sum(day.deficit for day in fewer),
        "rows_too_many": sum(day.surplus for day in more),
        "days": len(days),
        "days_not_whole": len(part),
    }
    said = []
    if fewer:
        said.append(
            f"{_days(fewer)}: {numbers['rows_missing']:,} rows fewer than the ledger stored. "
            "Either readings were sent again later (same device and millisecond), or rows are "
            f"missing; `iot audit --day {fewer[0].day}` tells which."
        )
    if more:
        said.append(
            f"{_days(more)}: {numbers['rows_too_many']:,} rows more than the ledger stored. Either "
            "a run died ahead of the checkpoint, which the next run settles, or somebody else "
            f"writes here; `iot audit --day {more[0].day}` tells which."
        )
    whole = len(days) - len(part)
    if not said and whole:
        rows = sum(day.rows for day in days if day.is_whole)
        of_days = "1 day" if whole == 1 else f"{whole} days"
        said.append(f"{rows:,} rows of {of_days} are what the ledger stored.")
    elif not said:
        said.append("Nothing was compared." if days else "No rows to count yet.")
    if part:
        said.append(_say_part(part))
    return CheckVerdict(
        ROW_COUNT,
        not (more or fewer),
        Severity.WARN,
        " ".join(said),
        numbers,
        # Counted again the next time, whatever days that look is about: red until they agree.
        suspects=[str(day.day) for day in days if day.surplus or day.deficit],
    )


def _say_part(part: Sequence[DayCount]) -> str:
    counted = ", ".join(
        f"{day.day} ({day.devices_counted} of {day.devices} devices"
        f"{'' if day.ledger_before is not None else ', ledger not read'})"
        for day in part[:_SHOWN]
    )
    more = f" and {len(part) - _SHOWN} more days" if len(part) > _SHOWN else ""
    return (
        f"The time of this check did not suffice to count whole: {counted}{more}. The schedule "
        "checks_every_5_minutes has more of it (IOT_CHECK_SECONDS)."
    )


def _days(days: Sequence[DayCount]) -> str:
    return _first([str(day.day) for day in days])


def _first(items: Sequence[str]) -> str:
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(items[:_SHOWN]) + rest
