"""Who lacks readings, and in which hour?"""

from iot_pipeline.core.fleet.verdicts import COMPLETE
from iot_pipeline.stages.checks.families import on_devices

CHECK = on_devices(
    COMPLETE,
    "Readings received against those expected, per device and hour of the last day.",
    order=160,
    settings=("IOT_COMPLETE_SHARE",),
)
