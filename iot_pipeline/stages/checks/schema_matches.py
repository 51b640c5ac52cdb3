"""Are tables and topics what this version expects?"""

from iot_pipeline.core.checks.verdicts import SCHEMA, CheckVerdict, Severity, judge_schema
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Ask both servers how they are set up."""
    return judge_schema(facts.schema.differences)


CHECK = Check(
    SCHEMA,
    "Tables and topics are what this version of the pipeline expects.",
    look,
    Severity.ERROR,
    Cost.BOUNDED,
    order=60,
)
