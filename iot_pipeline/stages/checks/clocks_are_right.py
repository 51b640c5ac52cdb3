"""Whose clock is wrong?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.quality_words import CLOCKS
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """From the fleet as it is."""
    return facts.devices[CLOCKS]


CHECK = Check(
    CLOCKS,
    "No reading was measured after it arrived, and no device is behind by always the same time.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=150,
    settings=("IOT_CLOCK_AHEAD_SECONDS",),
)
