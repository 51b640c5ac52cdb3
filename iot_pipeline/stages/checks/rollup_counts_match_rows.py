"""Do the rollups count every row?"""

from iot_pipeline.core.rollups.comparison import COUNTS, judge_counts
from iot_pipeline.stages.checks.families import on_rollups

CHECKS = on_rollups(
    COUNTS,
    "The sum of the rollups' counts equals the rows of the day. A run looks at as many devices "
    "as a tenth of its time allows; on its own the check has IOT_CHECK_SECONDS.",
    judge_counts,
    order=200,
)
