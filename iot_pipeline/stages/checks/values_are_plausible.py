"""Are values possible, and do neighbours agree?"""

from iot_pipeline.core.fleet.verdicts import PLAUSIBLE
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.stages.checks.families import on_devices

CHECK = on_devices(
    PLAUSIBLE,
    "Temperature and humidity are within plausible limits, change no faster than a sensor can, and "
    "agree with devices of the same group.",
    order=110,
    settings=tuple(
        f"IOT_{quantity.setting_of(limit).upper()}"
        for quantity in QUANTITIES
        for limit in ("plausible_least", "plausible_greatest", "jump", "apart")
    ),
)
