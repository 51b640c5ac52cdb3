"""Are values possible, and do neighbours agree?"""

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.quality_words import PLAUSIBLE
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """From the fleet as it is."""
    return facts.devices[PLAUSIBLE]


CHECK = Check(
    PLAUSIBLE,
    "Temperature and humidity are within plausible limits, change no faster than a sensor can, and "
    "agree with devices of the same group.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=110,
    settings=(
        "IOT_PLAUSIBLE_TEMPERATURE_MIN",
        "IOT_PLAUSIBLE_TEMPERATURE_MAX",
        "IOT_PLAUSIBLE_HUMIDITY_MIN",
        "IOT_PLAUSIBLE_HUMIDITY_MAX",
        "IOT_JUMP_CELSIUS",
        "IOT_JUMP_HUMIDITY",
        "IOT_DEVIATION_CELSIUS",
        "IOT_DEVIATION_HUMIDITY",
    ),
)
