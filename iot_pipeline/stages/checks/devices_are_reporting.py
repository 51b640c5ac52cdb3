"""Who has fallen silent?"""

from iot_pipeline.core.fleet.verdicts import REPORTING
from iot_pipeline.stages.checks.families import on_devices

CHECK = on_devices(
    REPORTING,
    "No device has been silent for longer than its own rhythm allows; those that are, since when. "
    "By the broker's clock, so a wrong clock is not silence.",
    order=120,
    settings=(
        "IOT_SILENT_SECONDS",
        "IOT_SILENT_INTERVALS",
        "IOT_EXPECTED_DAYS",
    ),
)
