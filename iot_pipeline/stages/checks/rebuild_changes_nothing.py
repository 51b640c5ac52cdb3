from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.stages.checks.machinery.families import coverage, fine, on_rollups
from iot_pipeline.stages.rollups.comparison import DayComparison


def judge(days: Sequence[DayComparison]) -> CheckVerdict:
    """A rebuild changes nothing when no reading arrived since the last one."""
    stale = [day for day in days if day.is_stale]
    numbers = {
        "devices_compared": sum(day.compared for day in days),
        "devices_wrong": sum(len(day.wrong) for day in days),
        **coverage(days),
    }
    if not stale:
        return CheckVerdict(True, fine(days, "give these rollups"), numbers)
    told = some([f"{day.day}: {some(day.wrong, ', ')}" for day in stale])
    said = (
        f"A rebuild would write other values of {told}, though the ledgers "
        "know of no change since the last one. Another program wrote readings or rollups here, or "
        f"deleted them with plain CQL. `iot rollup --day {stale[0].day}` makes the rollups what "
        f"the rows say; `iot audit --day {stale[0].day}` tells whether the rows are right."
    )
    return CheckVerdict(False, said, numbers, severity=Severity.ERROR)


CHECKS = on_rollups(
    "rebuild_changes_nothing",
    "Rollups computed again from the rows are those that are stored, in every number, unless "
    "the ledgers know of readings that came or went since.",
    judge,
    order=210,
)
