"""Do the rollups count every row?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.rollup_checks import COUNTS, judge_counts
from iot_pipeline.stages.checks.check import CASSANDRA, DAILY, HOURLY, Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look_at_hours(facts: Facts) -> CheckVerdict:
    """The hourly ones against the rows of their days."""
    return judge_counts(facts.compared.hourly)


def look_at_days(facts: Facts) -> CheckVerdict:
    """The daily ones."""
    return judge_counts(facts.compared.daily)


CHECKS = tuple(
    Check(
        COUNTS,
        "The sum of the rollups' counts equals the rows of the day. A run looks at as many devices "
        "as a tenth of its time allows; on its own the check has IOT_CHECK_SECONDS.",
        look,
        Severity.ERROR,
        Cost.BOUNDED,
        order=200 + number,
        asks=(CASSANDRA,),
        settings=("IOT_CHECK_SECONDS",),
        asset=asset,
    )
    for number, (asset, look) in enumerate(((HOURLY, look_at_hours), (DAILY, look_at_days)))
)
