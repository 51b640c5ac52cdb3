"""How late do readings arrive?"""

from iot_pipeline.core.fleet.verdicts import ON_TIME
from iot_pipeline.stages.checks.families import on_devices

CHECK = on_devices(
    ON_TIME,
    "How long readings take from event to broker, and from broker to row: p50, p95, most; late "
    "devices by group.",
    order=130,
    settings=(
        "IOT_LATE_SECONDS",
        "IOT_LATE_SHARE",
        "IOT_BACKFILL_HOURS",
    ),
)
