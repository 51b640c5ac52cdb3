from collections import Counter

from iot_pipeline.core.checks.device_table import as_code, as_word, count_devices, some
from iot_pipeline.core.fleet.problems import (
    DeviceProblem,
    Fleet,
    Trouble,
    recent_halves,
)
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.times import in_words
from iot_pipeline.stages.checks.machinery.families import DevicesSaid, named, on_devices


def say(fleet: Fleet, found: list[DeviceProblem]) -> DevicesSaid:
    """How long all readings travel, and the late devices by group."""
    delays, backfilled = fleet.delays, fleet.backfilled
    counts = {
        problem.device_id: (sum(h.late for h in halves), sum(h.rows for h in halves))
        for problem in found
        for halves in [recent_halves(fleet.states[problem.device_id], fleet.as_of_ms)]
    }
    numbers = {
        "devices_late": len(found),
        "late_readings": sum(late for late, _ in counts.values()),
        "backfilled_readings": backfilled,
        **delays.numbers("event_to_broker"),
        **fleet.ingested.numbers("broker_to_row"),
    }

    def cells(name: str, state: DeviceState) -> tuple[str, ...]:
        late, of = counts[name]
        most = in_words(state.late_most_ms / 1000)
        return f"{late:,} of {of:,}", most, as_code(fleet.limits.group_of(name))

    good = "No reading arrived in the last hour."
    if delays.total:
        good = (
            f"From event to broker: half of the readings within {delays.in_words(0.5)}, 19 of 20 "
            f"within {delays.in_words(0.95)}."
        )
    if backfilled:
        good += (
            f" {backfilled:,} readings were measured more than {fleet.limits.backfill_hours:g} h "
            "before they arrived: backfilled, not late."
        )
    groups = Counter(fleet.limits.group_of(p.device_id) for p in found).most_common()
    by_group = some([f"{as_word(name)} ({count_devices(count)})" for name, count in groups], ", ")
    return DevicesSaid(
        numbers,
        good,
        f"Late, more than {fleet.limits.late_seconds:g} s after they were measured, are readings "
        f"from {named(found)}; by group: {by_group}. {good} Look at the network or gateway that "
        "the group shares; the rows are right whenever they come. `IOT_LATE_SECONDS` is the limit.",
        ("device", "late readings", "latest by", "group"),
        cells,
    )


CHECK = on_devices(
    "readings_are_on_time",
    "How long readings take from event to broker, and from broker to row: p50, p95, most; late "
    "devices by group.",
    Trouble.LATE,
    say,
    order=130,
    settings=("IOT_LATE_SECONDS", "IOT_LATE_SHARE", "IOT_BACKFILL_HOURS"),
)
