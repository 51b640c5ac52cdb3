"""Would a rebuild change any rollup?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.rollup_checks import UNCHANGED, judge_unchanged
from iot_pipeline.stages.checks.check import CASSANDRA, DAILY, HOURLY, Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look_at_hours(facts: Facts) -> CheckVerdict:
    """The hourly ones against the rows of their days."""
    return judge_unchanged(facts.compared.hourly)


def look_at_days(facts: Facts) -> CheckVerdict:
    """The daily ones."""
    return judge_unchanged(facts.compared.daily)


CHECKS = tuple(
    Check(
        UNCHANGED,
        "Rollups computed again from the rows are those that are stored, in every number, unless "
        "the ledgers know of readings that came or went since.",
        look,
        Severity.ERROR,
        Cost.BOUNDED,
        order=210 + number,
        asks=(CASSANDRA,),
        settings=("IOT_CHECK_SECONDS",),
        asset=asset,
    )
    for number, (asset, look) in enumerate(((HOURLY, look_at_hours), (DAILY, look_at_days)))
)
