from iot_pipeline.core.fleet.problems import (
    DeviceProblem,
    Fleet,
    Trouble,
    odd_in_words,
    recent_halves,
)
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.stages.checks.machinery.families import DevicesSaid, named, on_devices


def say(fleet: Fleet, found: list[DeviceProblem]) -> DevicesSaid:
    """Counts of values outside their limits and of jumps, and the worst value."""
    counts = {
        problem.device_id: (sum(h.outside for h in halves), sum(h.jumps for h in halves))
        for problem in found
        for halves in [recent_halves(fleet.states[problem.device_id], fleet.as_of_ms)]
    }

    def cells(name: str, state: DeviceState) -> tuple[str, ...]:
        outside, jumps = counts[name]
        return (
            f"{outside:,}",
            f"{jumps:,}",
            odd_in_words(state, fleet.as_of_ms, fleet.limits.quantities),
        )

    return DevicesSaid(
        {
            "devices_implausible": len(found),
            "outside_limits": sum(outside for outside, _ in counts.values()),
            "jumps": sum(jumps for _, jumps in counts.values()),
        },
        "Values are within their limits, change no faster than they can, and agree with those of "
        "neighbours.",
        f"Implausible values from {named(found)}. Look at "
        "`iot readings DEVICE --last 1h`: a single jump is a bad contact or interference, a slow "
        "departure a sensor to recalibrate or replace; `IOT_PLAUSIBLE_*` and `IOT_JUMP_*` are the "
        "limits.",
        ("device", "outside limits", "jumps", "worst"),
        cells,
    )


CHECK = on_devices(
    "values_are_plausible",
    "Values are within plausible limits, change no faster than a sensor can, and agree with "
    "devices of the same group.",
    Trouble.IMPLAUSIBLE,
    say,
    order=110,
    # Of each quantity.
    settings=("IOT_PLAUSIBLE_*", "IOT_JUMP_*", "IOT_DEVIATION_*"),
)
