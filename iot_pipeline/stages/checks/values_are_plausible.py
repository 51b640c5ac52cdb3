"""Are values possible, and do neighbours agree?"""

from iot_pipeline.core.fleet.verdicts import PLAUSIBLE
from iot_pipeline.stages.checks.families import on_devices

CHECK = on_devices(
    PLAUSIBLE,
    "Temperature and humidity are within plausible limits, change no faster than a sensor can, and "
    "agree with devices of the same group.",
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
