"""How late do readings arrive?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.quality_words import ON_TIME
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """From the fleet as it is."""
    return facts.devices[ON_TIME]


CHECK = Check(
    ON_TIME,
    "How long readings take from event to broker, and from broker to row: p50, p95, most; late "
    "devices by group.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=130,
    settings=(
        "IOT_LATE_SECONDS",
        "IOT_LATE_SHARE",
        "IOT_BACKFILL_HOURS",
    ),
)
