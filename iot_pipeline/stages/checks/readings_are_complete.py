from iot_pipeline.core.checks.device_table import instant
from iot_pipeline.core.fleet.lacking_hours import LEAST_EXPECTED, HourShare, known_interval_ms
from iot_pipeline.core.fleet.problems import DeviceProblem, Fleet, Trouble
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.times import MS_PER_HOUR
from iot_pipeline.stages.checks.machinery.families import DevicesSaid, named, on_devices

# Completeness is measured by these hours: the last full one and the current.
_MEASURED_HOURS = 2


def say(fleet: Fleet, found: list[DeviceProblem]) -> DevicesSaid:
    """How complete the fleet is, and the worst hour of each device that is not."""
    lacking = {
        p.device_id: fleet.hours.lacking(p.device_id, fleet.states[p.device_id]) for p in found
    }
    measured = _measure(fleet)
    expected = sum(share.expected for share in measured)
    received = sum(min(share.received, share.expected) for share in measured)
    completeness = received / expected if expected else 1.0

    def cells(name: str, _: DeviceState) -> tuple[str, ...]:
        worst = max(lacking[name], key=lambda share: share.missing)
        return (
            instant(worst.hour * MS_PER_HOUR)[:16],
            f"{worst.received:,}",
            f"{worst.expected:,.0f}",
            f"{worst.share:.0%}",
        )

    good = (
        "Not enough history yet: no device with a regular rhythm has an hour with "
        f"{LEAST_EXPECTED} expected readings."
    )
    if measured:
        good = (
            f"{completeness:.1%} of the readings expected since the last full hour began are "
            f"there; no device lacks more than {1 - fleet.limits.complete_share:.0%} of an hour."
        )
    return DevicesSaid(
        {
            "devices_incomplete": len(found),
            "device_hours": len(measured),
            "device_hours_incomplete": sum(map(len, lacking.values())),
            "completeness": round(completeness, 4),
            "readings_missing": round(sum(problem.badness for problem in found)),
        },
        good,
        f"Readings are missing from {named(found)}. Was it without power or network then, or are "
        "its messages in the dead letters (`iot dead-letters list`)? What was sent is here "
        "(`iot audit` proves it); only the device can send what it kept. `IOT_COMPLETE_SHARE` is "
        "the limit.",
        ("device", "hour (UTC)", "received", "expected", "share"),
        cells,
    )


def _measure(fleet: Fleet) -> list[HourShare]:
    current = fleet.as_of_ms // MS_PER_HOUR
    hours = range(current - _MEASURED_HOURS + 1, current + 1)
    shares = (
        fleet.hours.share(name, state, hour, known_interval_ms(state))
        for name, state in fleet.states.items()
        for hour in hours
    )
    return [share for share in shares if share is not None and share.expected >= LEAST_EXPECTED]


CHECK = on_devices(
    "readings_are_complete",
    "Readings received against those expected, per device and hour of the last day.",
    Trouble.INCOMPLETE,
    say,
    order=160,
    settings=("IOT_COMPLETE_SHARE",),
)
