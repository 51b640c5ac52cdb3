"""Would a rebuild change any rollup?"""

from iot_pipeline.core.rollups.comparison import UNCHANGED, judge_unchanged
from iot_pipeline.stages.checks.families import on_rollups

CHECKS = on_rollups(
    UNCHANGED,
    "Rollups computed again from the rows are those that are stored, in every number, unless "
    "the ledgers know of readings that came or went since.",
    judge_unchanged,
    order=210,
)
