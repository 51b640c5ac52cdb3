from iot_pipeline.core.checks.device_table import instant
from iot_pipeline.core.fleet.problems import DeviceProblem, Fleet, Trouble, off_in_words
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.stages.checks.machinery.families import DevicesSaid, named, on_devices


def say(fleet: Fleet, found: list[DeviceProblem]) -> DevicesSaid:
    """By how much each clock is wrong, and when that was seen last."""
    offs = [fleet.states[problem.device_id].clock_off_ms for problem in found]

    def cells(_: str, state: DeviceState) -> tuple[str, ...]:
        return off_in_words(state), instant(state.clock_at_ms)

    return DevicesSaid(
        {
            "clocks_ahead": sum(off > 0 for off in offs),
            "clocks_behind": sum(off < 0 for off in offs),
            "ahead_most_seconds": max([0, *offs]) / 1000,
        },
        f"No reading was measured more than {fleet.limits.clock_ahead_seconds:g} s after it "
        "arrived, and none always the same time before.",
        f"Wrong clock of {named(found)}. Set the clock (NTP) there: its readings are stored under "
        "times at which they were not measured; `IOT_CLOCK_AHEAD_SECONDS` is the limit.",
        ("device", "clock", "last"),
        cells,
    )


CHECK = on_devices(
    "clocks_are_right",
    "No reading was measured after it arrived, and no device is behind by always the same time.",
    Trouble.CLOCK,
    say,
    order=150,
    settings=("IOT_CLOCK_AHEAD_SECONDS",),
)
