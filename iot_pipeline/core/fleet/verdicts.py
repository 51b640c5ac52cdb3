"""Are the devices well? The fleet's problems in, six verdicts with the worst devices out.

Belongs here: the words and numbers of the checks on devices. Does not belong here: what is a
problem (`core.fleet.problems`): a check with problems is never green, and one without always is.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from iot_pipeline.core.checks.device_table import (
    MOST_ROWS,
    DeviceTable,
    as_code,
    as_word,
    count_devices,
    instant,
    name_some,
)
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity, not_looked
from iot_pipeline.core.fleet.lacking_hours import (
    LEAST_EXPECTED,
    HourShare,
    known_interval_ms,
    lacking_shares,
    pace_of,
    share_of,
)
from iot_pipeline.core.fleet.problems import (
    DeviceProblem,
    Fleet,
    Trouble,
    group_of,
    odd_in_words,
    off_in_words,
    recent_halves,
)
from iot_pipeline.core.fleet.state import HOUR_MS, DeviceState
from iot_pipeline.core.times import in_words

PLAUSIBLE = "values_are_plausible"
REPORTING = "devices_are_reporting"
ON_TIME = "readings_are_on_time"
NOT_STUCK = "no_stuck_sensors"
CLOCKS = "clocks_are_right"
COMPLETE = "readings_are_complete"

_SHOWN = 3
_MOST_SUSPECTS = 200
# Hours that a check measures completeness by: the last full one and the current.
_MEASURED_HOURS = 2

Numbers = dict[str, int | float]


def judge_fleet(fleet: Fleet) -> list[CheckVerdict]:
    """The six verdicts, in the order of the list of checks."""
    judges = (
        (PLAUSIBLE, _values),
        (REPORTING, _reporting),
        (ON_TIME, _on_time),
        (NOT_STUCK, _stuck),
        (CLOCKS, _clocks),
        (COMPLETE, _complete),
    )
    if fleet.unlooked and not fleet.states:
        why = (
            f"None of {fleet.unlooked:,} devices was looked at: there was no time for it. "
            "The next check begins with them."
        )
        return [not_looked(name, why, judge(fleet).numbers) for name, judge in judges]
    return [judge(fleet) for _, judge in judges]


def _values(fleet: Fleet) -> CheckVerdict:
    found = fleet.problems[Trouble.IMPLAUSIBLE]
    counts = {
        problem.device_id: (sum(h.outside for h in halves), sum(h.jumps for h in halves))
        for problem in found
        for halves in [recent_halves(fleet.states[problem.device_id], fleet.as_of_ms)]
    }
    numbers: Numbers = {
        "devices_implausible": len(found),
        "outside_limits": sum(outside for outside, _ in counts.values()),
        "jumps": sum(jumps for _, jumps in counts.values()),
    }

    def cells(problem: DeviceProblem, state: DeviceState) -> Sequence[str]:
        outside, jumps = counts[problem.device_id]
        return f"{outside:,}", f"{jumps:,}", odd_in_words(state, fleet.as_of_ms)

    good = (
        "Temperatures and humidities are within their limits, change no faster than they can, and "
        "agree with those of neighbours."
    )
    bad = (
        f"Implausible values from {_names(found)}: {_first(found)}. Look at "
        "`iot readings DEVICE --last 1h`: a single jump is a bad contact or interference, a slow "
        "departure a sensor to recalibrate or replace; `IOT_PLAUSIBLE_*` and `IOT_JUMP_*` are the "
        "limits."
    )
    columns = ("device", "outside limits", "jumps", "worst")
    return _verdict(PLAUSIBLE, fleet, found, numbers, good, bad, columns, cells)


def _reporting(fleet: Fleet) -> CheckVerdict:
    found = fleet.problems[Trouble.SILENT]
    known = sum(bool(state.interval_ms) for state in fleet.states.values())
    new = len(fleet.states) - known
    numbers: Numbers = {
        "devices_silent": len(found),
        "devices_new": new,
        "longest_silence_seconds": max((p.badness for p in found), default=0.0) / 1000,
    }

    def cells(problem: DeviceProblem, state: DeviceState) -> Sequence[str]:
        usual = in_words(state.arrival_interval_ms / 1000)
        return instant(state.arrived_ms), in_words(problem.badness / 1000), usual

    if not fleet.known:
        days = fleet.limits.expected_days
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
    bad = (
        f"Silent, {len(found):,} of {count_devices(known)}: {_names(found)}; {_first(found)}. "
        f"{cause} "
        "`IOT_SILENT_SECONDS` and `IOT_SILENT_INTERVALS` are the limits; a device is no longer "
        f"expected after {fleet.limits.expected_days} days."
    )
    columns = ("device", "silent since", "for", "usually every")
    return _verdict(REPORTING, fleet, found, numbers, good, bad, columns, cells)


def _on_time(fleet: Fleet) -> CheckVerdict:
    found = fleet.problems[Trouble.LATE]
    delays, ingested = fleet.delays, fleet.ingested
    counts = {
        problem.device_id: (sum(h.late for h in halves), sum(h.rows for h in halves))
        for problem in found
        for halves in [recent_halves(fleet.states[problem.device_id], fleet.as_of_ms)]
    }
    backfilled = fleet.backfilled
    numbers: Numbers = {
        "devices_late": len(found),
        "late_readings": sum(late for late, _ in counts.values()),
        "backfilled_readings": backfilled,
        "event_to_broker_p50_seconds": round(delays.percentile(0.5), 3),
        "event_to_broker_p95_seconds": round(delays.percentile(0.95), 3),
        "event_to_broker_max_seconds": delays.largest_ms / 1000,
        "broker_to_row_p50_seconds": round(ingested.percentile(0.5), 3),
        "broker_to_row_p95_seconds": round(ingested.percentile(0.95), 3),
        "broker_to_row_max_seconds": ingested.largest_ms / 1000,
    }

    def cells(problem: DeviceProblem, state: DeviceState) -> Sequence[str]:
        late, of = counts[problem.device_id]
        return f"{late:,} of {of:,}", in_words(state.late_most_ms / 1000), _group(problem)

    travel = (
        f"From event to broker: half of the readings within {_travel(delays.percentile(0.5))}, 19 "
        f"of 20 within {_travel(delays.percentile(0.95))}."
    )
    good = travel if delays.total else "No reading arrived in the last hour."
    if backfilled:
        good += (
            f" {backfilled:,} readings were measured more than {fleet.limits.backfill_hours:g} h "
            "before they arrived: backfilled, not late."
        )
    groups = Counter(group_of(problem.device_id) for problem in found)
    by_group = ", ".join(
        f"{as_word(group)} ({count_devices(count)})" for group, count in groups.most_common(_SHOWN)
    )
    bad = (
        f"Readings arrive more than {fleet.limits.late_seconds:g} s after they were measured from "
        f"{_names(found)}, by group: {by_group}. {good} Look at the network or gateway that the "
        "group shares; the rows are right whenever they come. `IOT_LATE_SECONDS` is the limit."
    )
    columns = ("device", "late readings", "latest by", "group")
    return _verdict(ON_TIME, fleet, found, numbers, good, bad, columns, cells)


def _stuck(fleet: Fleet) -> CheckVerdict:
    found, limits = fleet.problems[Trouble.STUCK], fleet.limits
    numbers: Numbers = {
        "devices_stuck": len(found),
        "longest_unchanged": max((s.unchanged for s in fleet.states.values()), default=0),
    }

    def cells(problem: DeviceProblem, state: DeviceState) -> Sequence[str]:
        values = f"{state.temperature:g} °C, {state.humidity:g} %"
        return f"{state.unchanged:,}", values, instant(state.unchanged_since_ms)

    good = (
        f"No device repeated both of its values for {limits.stuck_readings} readings and "
        f"{limits.stuck_seconds:g} s."
    )
    bad = (
        f"Always the same values from {_names(found)}: {_first(found)}. Restart or replace the "
        "sensor: what it sends since then measures nothing; `IOT_STUCK_READINGS` and "
        "`IOT_STUCK_SECONDS` are the limits."
    )
    columns = ("device", "equal readings", "values", "since at least")
    return _verdict(NOT_STUCK, fleet, found, numbers, good, bad, columns, cells)


def _clocks(fleet: Fleet) -> CheckVerdict:
    found = fleet.problems[Trouble.CLOCK]
    offs = [fleet.states[problem.device_id].clock_off_ms for problem in found]
    numbers: Numbers = {
        "clocks_ahead": sum(off > 0 for off in offs),
        "clocks_behind": sum(off < 0 for off in offs),
        "ahead_most_seconds": max([0, *offs]) / 1000,
    }

    def cells(problem: DeviceProblem, state: DeviceState) -> Sequence[str]:
        return off_in_words(state), instant(state.clock_at_ms)

    good = (
        f"No reading was measured more than {fleet.limits.clock_ahead_seconds:g} s after it "
        "arrived, and none always the same time before."
    )
    bad = (
        f"Wrong clock of {_names(found)}: {_first(found)}. Set the clock (NTP) there: its readings "
        "are stored under times at which they were not measured; `IOT_CLOCK_AHEAD_SECONDS` is the "
        "limit."
    )
    return _verdict(CLOCKS, fleet, found, numbers, good, bad, ("device", "clock", "last"), cells)


def _complete(fleet: Fleet) -> CheckVerdict:
    found, limits = fleet.problems[Trouble.INCOMPLETE], fleet.limits
    lacking = {
        problem.device_id: lacking_shares(
            fleet.states[problem.device_id], fleet.as_of_ms, limits, fleet.paces
        )
        for problem in found
    }
    measured = list(_measure(fleet))
    expected = sum(share.expected for share in measured)
    received = sum(min(share.received, share.expected) for share in measured)
    completeness = received / expected if expected else 1.0
    numbers: Numbers = {
        "devices_incomplete": len(found),
        "device_hours": len(measured),
        "device_hours_incomplete": sum(map(len, lacking.values())),
        "completeness": round(completeness, 4),
        "readings_missing": round(sum(problem.badness for problem in found)),
    }

    def cells(problem: DeviceProblem, state: DeviceState) -> Sequence[str]:
        worst = max(lacking[problem.device_id], key=lambda share: share.missing)
        return (
            instant(worst.hour * HOUR_MS)[:16],
            f"{worst.received:,}",
            f"{worst.expected:,.0f}",
            f"{worst.share:.0%}",
        )

    if measured:
        good = (
            f"{completeness:.1%} of the readings expected since the last full hour began are "
            f"there; no device lacks more than {1 - limits.complete_share:.0%} of an hour."
        )
    else:
        good = (
            "Not enough history yet: no device with a regular rhythm has an hour with "
            f"{LEAST_EXPECTED} expected readings."
        )
    bad = (
        f"Readings are missing from {_names(found)}: {_first(found)}. Was it without power or "
        "network then, or are its messages in the dead letters (`iot dead-letters list`)? What was "
        "sent is here (`iot audit` proves it); only the device can send what it kept. "
        "`IOT_COMPLETE_SHARE` is the limit."
    )
    columns = ("device", "hour (UTC)", "received", "expected", "share")
    return _verdict(COMPLETE, fleet, found, numbers, good, bad, columns, cells)


def _measure(fleet: Fleet) -> list[HourShare]:
    current = fleet.as_of_ms // HOUR_MS
    hours = range(current - _MEASURED_HOURS + 1, current + 1)
    paces = pace_of(hours, fleet.states.values(), fleet.as_of_ms, fleet.limits)
    shares = (
        share_of(state, hour, fleet.as_of_ms, fleet.limits, interval, paces[hour])
        for state in fleet.states.values()
        if (interval := known_interval_ms(state))
        for hour in hours
    )
    return [share for share in shares if share is not None and share.expected >= LEAST_EXPECTED]


def _verdict(
    name: str,
    fleet: Fleet,
    found: Sequence[DeviceProblem],
    numbers: Numbers,
    good: str,
    bad: str,
    columns: Sequence[str],
    cells: Callable[[DeviceProblem, DeviceState], Sequence[str]],
) -> CheckVerdict:
    numbers = {"devices": fleet.known, "devices_looked_at": len(fleet.states), **numbers}
    shown = found[:MOST_ROWS]
    rows = [(p.device_id, *cells(p, fleet.states[p.device_id])) for p in shown]
    return CheckVerdict(
        name,
        not found,
        Severity.WARN,
        (bad if found else good) + _left_out(fleet),
        numbers,
        DeviceTable(columns, rows, len(found) - len(rows)) if found else DeviceTable(),
        [problem.device_id for problem in found[:_MOST_SUSPECTS]],
    )


def _left_out(fleet: Fleet) -> str:
    """What was not looked at; empty when everything was."""
    parts = []
    if fleet.unlooked:
        parts.append(f"{fleet.unlooked:,} of {fleet.known:,} devices")
    if fleet.rows_seen < fleet.rows:
        parts.append(f"{fleet.rows - fleet.rows_seen:,} of {fleet.rows:,} readings")
    return f" Not looked at this time: {' and '.join(parts)}." if parts else ""


def _names(found: Sequence[DeviceProblem]) -> str:
    return name_some([problem.device_id for problem in found])


def _first(found: Sequence[DeviceProblem]) -> str:
    """The worst device and what is wrong with it; empty when nothing is."""
    return f"{as_word(found[0].device_id)}: {found[0].sentence}" if found else ""


def _group(problem: DeviceProblem) -> str:
    return as_code(group_of(problem.device_id))


def _travel(seconds: float) -> str:
    return in_words(max(0.1, seconds))
