"""Who lacks readings, and in which hour?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.quality_words import COMPLETE
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """From the fleet as it is."""
    return facts.devices[COMPLETE]


CHECK = Check(
    COMPLETE,
    "Readings received against those expected, per device and hour of the last day.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=160,
    settings=("IOT_COMPLETE_SHARE",),
)
