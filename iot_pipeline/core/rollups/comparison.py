"""Verdicts on rollups: do they count every row, and would a rebuild change any of them?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity

COUNTS = "rollup_counts_match_rows"
UNCHANGED = "rebuild_changes_nothing"

_SHOWN = 3


@dataclass(slots=True)
class DayComparison:
    """One day's rollups of one asset, compared with the rows they were made of.

    `rows` were read now, of `compared` of the day's `devices`; `counted` is the sum of the
    rollups' counts. `wrong` names devices with other values, or other counts, than a rebuild
    would write. `is_touched`: the ledgers say that rows changed since the rebuild, so a
    difference is what the next one is for.
    """

    day: date
    devices: int
    compared: int = 0
    rows: int = 0
    counted: int = 0
    wrong: list[str] = field(default_factory=list)
    is_touched: bool = False

    @property
    def is_off(self) -> bool:
        return self.counted != self.rows and not self.is_touched

    @property
    def is_stale(self) -> bool:
        return bool(self.wrong) and not self.is_touched


def judge_counts(days: Sequence[DayComparison]) -> CheckVerdict:
    """The sum of counts equals the rows of the day."""
    off = [day for day in days if day.is_off]
    numbers = {
        "rows": sum(day.rows for day in days),
        "rows_in_rollups": sum(day.counted for day in days),
        "days_wrong": len(off),
        **_coverage(days),
    }
    if off:
        told = "; ".join(
            f"{day.day}: the rollups count {day.counted:,} readings, the table has {day.rows:,}"
            for day in off[:_SHOWN]
        )
        return CheckVerdict(
            COUNTS,
            False,
            Severity.ERROR,
            f"{told}, and the ledgers know of no change since the rebuild. Rows were written or "
            f"deleted past them (plain CQL, another program), or a run died ahead of the "
            f"checkpoint. `iot rollup --day {off[0].day}` makes the rollups right; "
            f"`iot audit --day {off[0].day}` tells what happened to the rows.",
            numbers,
        )
    return CheckVerdict(COUNTS, True, Severity.ERROR, _fine(days, "are all counted"), numbers)


def judge_unchanged(days: Sequence[DayComparison]) -> CheckVerdict:
    """A rebuild changes nothing when no reading arrived since the last one."""
    stale = [day for day in days if day.is_stale]
    numbers = {
        "devices_compared": sum(day.compared for day in days),
        "devices_wrong": sum(len(day.wrong) for day in days),
        **_coverage(days),
    }
    if stale:
        told = "; ".join(
            f"{day.day}: {', '.join(day.wrong[:_SHOWN])}"
            f"{f' and {len(day.wrong) - _SHOWN} more' if len(day.wrong) > _SHOWN else ''}"
            for day in stale[:_SHOWN]
        )
        return CheckVerdict(
            UNCHANGED,
            False,
            Severity.ERROR,
            f"A rebuild would write other values of {told}, though the ledgers know of no change "
            "since the last one. Somebody else wrote readings or rollups here, or deleted them "
            f"with plain CQL. `iot rollup --day {stale[0].day}` makes the rollups what the rows "
            f"say; `iot audit --day {stale[0].day}` tells whether the rows are right.",
            numbers,
        )
    return CheckVerdict(UNCHANGED, True, Severity.ERROR, _fine(days, "give these rollups"), numbers)


def _coverage(days: Sequence[DayComparison]) -> dict[str, int]:
    return {
        "days": len(days),
        "days_touched": sum(day.is_touched for day in days),
        "days_not_whole": sum(day.compared < day.devices for day in days),
    }


def _fine(days: Sequence[DayComparison], what: str) -> str:
    if not days:
        return "No rollups to compare yet."
    settled = [day for day in days if not day.is_touched]
    if not settled:
        touched = ", ".join(str(day.day) for day in days[:_SHOWN])
        return (
            f"Nothing to compare: rows of {touched} changed since their rebuild; the sensor "
            "rollups_of_touched_days asks for the next one."
        )
    of_days = "1 day" if len(settled) == 1 else f"{len(settled)} days"
    said = f"{sum(day.rows for day in settled):,} rows of {of_days} {what}."
    changed = [day for day in days if day.is_touched]
    if changed:
        said += (
            f" Rows of {', '.join(str(day.day) for day in changed[:_SHOWN])} changed since their "
            "rebuild; the sensor rollups_of_touched_days asks for the next one."
        )
    part = [day for day in days if day.compared < day.devices]
    if part:
        said += (
            f" The time of this check sufficed for {sum(day.compared for day in part):,} of "
            f"{sum(day.devices for day in part):,} devices."
        )
    return said
