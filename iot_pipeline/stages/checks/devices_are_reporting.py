from iot_pipeline.core.checks.device_table import count_devices, instant
from iot_pipeline.core.fleet.problems import DeviceProblem, Fleet, Trouble
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.times import in_words
from iot_pipeline.stages.checks.machinery.families import DevicesSaid, named, on_devices


def say(fleet: Fleet, found: list[DeviceProblem]) -> DevicesSaid:
    """Since when each of the silent ones is so, and how often it usually reports."""
    known = sum(bool(state.interval_ms) for state in fleet.states.values())
    new, days = len(fleet.states) - known, fleet.limits.expected_days

    def cells(_: str, state: DeviceState) -> tuple[str, ...]:
        return (
            instant(state.arrived_ms),
            in_words((fleet.as_of_ms - state.arrived_ms) / 1000),
            in_words(state.arrival_interval_ms / 1000),
        )

    if not fleet.known:
        good = f"Not enough history yet: no device reported in the last {days} days."
    elif not known:
        good = "Not enough history yet: no device has sent five readings."
    else:
        good = f"{known:,} devices report as often as they use to."
        good += f" {new:,} are too new to know how often they report." if new else ""
    cause = (
        "All of them at once: look at what they share, the gateway, the sender, Kafka."
        if len(found) == known > 1
        else "Check power and network there; `iot readings DEVICE` shows its last readings."
    )
    return DevicesSaid(
        {
            "devices_silent": len(found),
            "devices_new": new,
            "longest_silence_seconds": max((p.badness for p in found), default=0.0) / 1000,
        },
        good,
        f"Silent, {len(found):,} of {count_devices(known)}: {named(found)}. {cause} "
        "`IOT_SILENT_SECONDS` and `IOT_SILENT_INTERVALS` are the limits; a device is no longer "
        f"expected after {days} days.",
        ("device", "silent since", "for", "usually every"),
        cells,
    )


CHECK = on_devices(
    "devices_are_reporting",
    "No device has been silent for longer than its own rhythm allows; those that are, since when. "
    "By the broker's clock, so a wrong clock is not silence.",
    Trouble.SILENT,
    say,
    order=120,
    settings=("IOT_SILENT_SECONDS", "IOT_SILENT_INTERVALS", "IOT_EXPECTED_DAYS"),
)
