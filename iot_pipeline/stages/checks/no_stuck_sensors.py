"""Which sensors repeat themselves?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.quality_words import NOT_STUCK
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """From the fleet as it is."""
    return facts.devices[NOT_STUCK]


CHECK = Check(
    NOT_STUCK,
    "No device repeats both of its values, to the last digit, for as many readings and as long as "
    "the limits say.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=140,
    settings=(
        "IOT_STUCK_READINGS",
        "IOT_STUCK_SECONDS",
    ),
)
