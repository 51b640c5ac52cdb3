"""Is what Cassandra acknowledges on its disk?"""

from iot_pipeline.core.checks.verdicts import DURABLE, CheckVerdict, Severity, judge_durability
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Ask every node for its own settings."""
    return judge_durability(facts.schema.is_durable, facts.schema.durability)


CHECK = Check(
    DURABLE,
    "Cassandra syncs a write to disk before it acknowledges it, on every node. Everything else "
    "stands on this.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=40,
)
