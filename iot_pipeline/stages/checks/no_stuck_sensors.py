from iot_pipeline.core.checks.device_table import instant
from iot_pipeline.core.fleet.problems import DeviceProblem, Fleet, Trouble, with_units
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.stages.checks.machinery.families import DevicesSaid, named, on_devices


def say(fleet: Fleet, found: list[DeviceProblem]) -> DevicesSaid:
    """What each repeats, how often, and since when."""
    limits = fleet.limits

    def cells(_: str, state: DeviceState) -> tuple[str, ...]:
        values = ", ".join(with_units(state.values, fleet.limits.quantities))
        return f"{state.unchanged:,}", values, instant(state.unchanged_since_ms)

    return DevicesSaid(
        {
            "devices_stuck": len(found),
            "longest_unchanged": max((s.unchanged for s in fleet.states.values()), default=0),
        },
        f"No device repeated all of its values for {limits.stuck_readings} readings and "
        f"{limits.stuck_seconds:g} s.",
        f"Always the same values from {named(found)}. Restart or replace the sensor: what it sends "
        "since then measures nothing; `IOT_STUCK_READINGS` and `IOT_STUCK_SECONDS` are the limits.",
        ("device", "equal readings", "values", "since at least"),
        cells,
    )


CHECK = on_devices(
    "no_stuck_sensors",
    "No device repeats all of its values, to the last digit, for as many readings and as long as "
    "the limits say.",
    Trouble.STUCK,
    say,
    order=140,
    settings=("IOT_STUCK_READINGS", "IOT_STUCK_SECONDS"),
)
