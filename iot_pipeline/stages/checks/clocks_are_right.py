"""Whose clock is wrong?"""

from iot_pipeline.core.fleet.verdicts import CLOCKS
from iot_pipeline.stages.checks.families import on_devices

CHECK = on_devices(
    CLOCKS,
    "No reading was measured after it arrived, and no device is behind by always the same time.",
    order=150,
    settings=("IOT_CLOCK_AHEAD_SECONDS",),
)
