"""Who has fallen silent?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.quality_words import REPORTING
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """From the fleet as it is."""
    return facts.devices[REPORTING]


CHECK = Check(
    REPORTING,
    "No device has been silent for longer than its own rhythm allows; those that are, since when. "
    "By the broker's clock, so a wrong clock is not silence.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=120,
    settings=(
        "IOT_SILENT_SECONDS",
        "IOT_SILENT_INTERVALS",
        "IOT_EXPECTED_DAYS",
    ),
)
