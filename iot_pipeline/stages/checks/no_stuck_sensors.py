"""Which sensors repeat themselves?"""

from iot_pipeline.core.fleet.verdicts import NOT_STUCK
from iot_pipeline.stages.checks.families import on_devices

CHECK = on_devices(
    NOT_STUCK,
    "No device repeats both of its values, to the last digit, for as many readings and as long as "
    "the limits say.",
    order=140,
    settings=(
        "IOT_STUCK_READINGS",
        "IOT_STUCK_SECONDS",
    ),
)
