from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.words import counted
from iot_pipeline.stages.checks.machinery.families import coverage, fine, on_rollups
from iot_pipeline.stages.rollups.comparison import DayComparison


def judge(days: Sequence[DayComparison]) -> CheckVerdict:
    """The sum of counts equals the rows of the day."""
    off = [day for day in days if day.is_off]
    numbers = {
        "rows": sum(day.rows for day in days),
        "rows_in_rollups": sum(day.counted for day in days),
        "days_wrong": len(off),
        **coverage(days),
    }
    if not off:
        return CheckVerdict(True, fine(days, "are all counted"), numbers)
    told = [
        f"{day.day}: the rollups count {counted(day.counted, 'reading')}, "
        f"the table has {day.rows:,}"
        for day in off
    ]
    said = (
        f"{some(told)}, and the ledgers know of no change since the rebuild. Rows were written or "
        "deleted past them (plain CQL, another program), or a run died ahead of the checkpoint. "
        f"`iot rollup --day {off[0].day}` makes the rollups right; `iot audit --day {off[0].day}` "
        "tells what happened to the rows."
    )
    return CheckVerdict(False, said, numbers, severity=Severity.ERROR)


CHECKS = on_rollups(
    "rollup_counts_match_rows",
    "The sum of the rollups' counts equals the rows of the day. A run looks at as many devices "
    "as a tenth of its time allows; on its own the check has IOT_CHECK_SECONDS.",
    judge,
    order=200,
)
