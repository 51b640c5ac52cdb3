"""Are the devices well? Tallies of their readings in, verdicts with the worst devices out.

Belongs here: when values, delays, clocks and silence are a problem, and the sentence that helps.
Does not belong here: counting (`core.device_tally`), silence (`core.reporting`), hours with
too few readings (`core.completeness`), where rows come from (`stages.data_quality`).
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median

from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.device_table import MOST_ROWS, DeviceTable, as_code, as_word
from iot_pipeline.core.device_tally import DeviceTally, FleetTally, group_of
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.quality_words import (
    CLOCKS,
    NOT_STUCK,
    ON_TIME,
    PLAUSIBLE,
    SHOWN,
    Coverage,
    green,
    instant,
    name_some,
    red,
    span,
    unique,
)

# Ten late readings tell a wrong clock from a slow network.
_LEAST_LATE_FOR_CLOCK = 10
# A wrong clock is wrong by the same amount: its delays spread over little of the time they span.
_STEADY_SHARE = 0.2
_STEADY_SPAN_MS = 3_000
# Neighbours are compared when there are so many, measured within so long of each other.
_LEAST_NEIGHBOURS = 5
_SAME_TIME_MS = 600_000
# 1.4826 times the median distance to the median estimates the standard deviation.
_DEVIATIONS = 5 * 1.4826


def judge_values(
    fleets: Sequence[FleetTally], limits: QualityLimits, coverage: Coverage
) -> CheckVerdict:
    """Limits per quantity, rate of change, and whether a device agrees with its neighbours."""
    strangers = {name: words for fleet in fleets for name, words in _strangers(fleet, limits)}
    found = _worst(fleets, lambda tally: tally.outside + tally.jumps)
    names = unique([*(tally.device_id for tally in found), *strangers])
    tallies = {tally.device_id: tally for tally in found}
    rows = []
    for name in names[:MOST_ROWS]:
        tally = tallies.get(name)
        rows.append(
            (
                name,
                f"{tally.outside:,}" if tally else "0",
                f"{tally.jumps:,}" if tally else "0",
                _implausible(tally, strangers.get(name)),
            )
        )
    numbers: dict[str, int | float] = {
        **coverage.numbers(),
        "devices_implausible": len(names),
        "outside_limits": sum(tally.outside for tally in found),
        "jumps": sum(tally.jumps for tally in found),
        "devices_apart": len(strangers),
    }
    if not names:
        return green(
            PLAUSIBLE,
            "Temperatures and humidities are within their limits, change no faster than they can, "
            "and agree with those of neighbours.",
            numbers,
            coverage,
        )
    example = _implausible(tallies.get(names[0]), strangers.get(names[0]))
    return red(
        PLAUSIBLE,
        f"Implausible values from {name_some(names)}: {as_word(names[0])} {example}. Look at "
        "`iot readings DEVICE --last 1h`: a single jump is a bad contact or interference, a slow "
        "departure a sensor to recalibrate or replace; IOT_PLAUSIBLE_* and IOT_JUMP_* are the "
        "limits.",
        numbers,
        coverage,
        DeviceTable(("device", "outside limits", "jumps", "worst"), rows, len(names) - len(rows)),
        names,
    )


def judge_on_time(
    fleets: Sequence[FleetTally], limits: QualityLimits, coverage: Coverage
) -> CheckVerdict:
    """From event to broker to row. Backfilled readings, and wrong clocks, are not late."""
    # The fleet with the most readings says how the usual reading travels.
    main = max(fleets, key=lambda fleet: fleet.rows_seen)
    ingested = max(fleets, key=lambda fleet: len(fleet.ingested.values)).ingested
    late = [
        tally
        for tally in _worst(fleets, lambda tally: tally.late)
        if not _is_behind(tally)
        and tally.late > limits.late_share * (tally.rows - tally.backfilled)
    ]
    backfilled = max(sum(t.backfilled for t in fleet.devices.values()) for fleet in fleets)
    groups: defaultdict[str, list[DeviceTally]] = defaultdict(list)
    for tally in late:
        groups[group_of(tally.device_id)].append(tally)
    numbers: dict[str, int | float] = {
        **coverage.numbers(),
        "devices_late": len(late),
        "late_readings": sum(tally.late for tally in late),
        "backfilled_readings": backfilled,
        "event_to_broker_p50_seconds": main.delays.percentile(0.5) / 1000,
        "event_to_broker_p95_seconds": main.delays.percentile(0.95) / 1000,
        "event_to_broker_max_seconds": (main.delays.largest or 0) / 1000,
        "broker_to_row_p50_seconds": ingested.percentile(0.5) / 1000,
        "broker_to_row_p95_seconds": ingested.percentile(0.95) / 1000,
        "broker_to_row_max_seconds": (ingested.largest or 0) / 1000,
    }
    remark = (
        f" {backfilled:,} readings were measured more than {limits.backfill_hours:g} h before they "
        "arrived: backfilled, not late."
        if backfilled
        else ""
    )
    travel = (
        f"From event to broker p50 {span(main.delays.percentile(0.5))}, p95 "
        f"{span(main.delays.percentile(0.95))}, at most {span(main.delays.largest or 0)}"
    )
    if not late:
        return green(ON_TIME, f"{travel}.{remark}", numbers, coverage)
    by_group = sorted(groups.items(), key=lambda item: -len(item[1]))
    said = []
    for group, members in by_group[:SHOWN]:
        spread = next(
            (f.delays_by_group[group] for f in fleets if group in f.delays_by_group), None
        )
        p95 = f", p95 {span(spread.percentile(0.95))}" if spread else ""
        said.append(
            f"{as_word(group)} ({len(members):,} devices{p95}, at most "
            f"{span(max(tally.late_most_ms for tally in members))})"
        )
    rows = [
        (
            tally.device_id,
            f"{tally.late:,} of {tally.rows - tally.backfilled:,}",
            span(tally.late_most_ms),
            as_code(group_of(tally.device_id)),
        )
        for tally in late[:MOST_ROWS]
    ]
    names = [tally.device_id for tally in late]
    return red(
        ON_TIME,
        f"Readings arrive more than {limits.late_seconds:g} s after they were measured from "
        f"{name_some(names)}, by group: {'; '.join(said)}. {travel}.{remark} Look at the network "
        "or gateway that the group shares; the rows are right whenever they come. IOT_LATE_SECONDS "
        "is the limit.",
        numbers,
        coverage,
        DeviceTable(("device", "late readings", "latest by", "group"), rows, len(late) - len(rows)),
        names,
    )


def judge_stuck(
    fleets: Sequence[FleetTally], limits: QualityLimits, coverage: Coverage
) -> CheckVerdict:
    """Sensors that repeat both values to the last digit."""
    stuck = [
        tally
        for tally in _worst(fleets, lambda tally: tally.unchanged)
        if tally.unchanged >= limits.stuck_readings
        and tally.last_ms - tally.unchanged_since_ms >= limits.stuck_seconds * 1000
    ]
    numbers: dict[str, int | float] = {
        **coverage.numbers(),
        "devices_stuck": len(stuck),
        "longest_unchanged": max(
            (t.unchanged for f in fleets for t in f.devices.values()), default=0
        ),
    }
    if not stuck:
        return green(
            NOT_STUCK,
            f"No device repeated both of its values for {limits.stuck_readings} readings and "
            f"{limits.stuck_seconds:g} s.",
            numbers,
            coverage,
        )
    rows = [
        (
            tally.device_id,
            f"{tally.unchanged:,}",
            f"{tally.temperature:g} °C, {tally.humidity:g} %",
            instant(tally.unchanged_since_ms),
        )
        for tally in stuck[:MOST_ROWS]
    ]
    names = [tally.device_id for tally in stuck]
    return red(
        NOT_STUCK,
        f"Always the same values from {name_some(names)}: {as_word(names[0])} says "
        f"{stuck[0].temperature:g} °C and {stuck[0].humidity:g} % since at least "
        f"{instant(stuck[0].unchanged_since_ms)}. Restart or replace the sensor: what it sends "
        "since then measures nothing; IOT_STUCK_READINGS and IOT_STUCK_SECONDS are the limits.",
        numbers,
        coverage,
        DeviceTable(
            ("device", "equal readings", "values", "since at least"), rows, len(stuck) - len(rows)
        ),
        names,
    )


def judge_clocks(
    fleets: Sequence[FleetTally], limits: QualityLimits, coverage: Coverage
) -> CheckVerdict:
    """Event times after the broker's, and those that are behind by always the same."""
    ahead = _worst(fleets, lambda tally: tally.ahead)
    behind = [t for t in _worst(fleets, lambda t: t.late) if _is_behind(t) and t not in ahead]
    numbers: dict[str, int | float] = {
        **coverage.numbers(),
        "clocks_ahead": len(ahead),
        "clocks_behind": len(behind),
        "ahead_most_seconds": max((tally.ahead_most_ms for tally in ahead), default=0) / 1000,
    }
    wrong = [*ahead, *behind]
    if not wrong:
        return green(
            CLOCKS,
            f"No reading was measured more than {limits.clock_ahead_seconds:g} s after it "
            "arrived, and none always the same time before.",
            numbers,
            coverage,
        )
    names = unique([tally.device_id for tally in wrong])
    rows = [(t.device_id, f"{t.ahead or t.late:,}", _off(t)) for t in wrong[:MOST_ROWS]]
    return red(
        CLOCKS,
        f"Wrong clock of {name_some(names)}: {as_word(names[0])} is {_off(wrong[0])}. Set the "
        "clock (NTP) there: its readings are stored under times at which they were not measured; "
        "IOT_CLOCK_AHEAD_SECONDS is the limit.",
        numbers,
        coverage,
        DeviceTable(("device", "readings", "clock"), rows, len(names) - len(rows)),
        names,
    )


def _strangers(fleet: FleetTally, limits: QualityLimits) -> list[tuple[str, str]]:
    """Devices that say something else than their group does at the same time, and what."""
    groups: defaultdict[str, list[DeviceTally]] = defaultdict(list)
    for tally in fleet.devices.values():
        if not tally.backfilled:
            groups[group_of(tally.device_id)].append(tally)
    found = []
    for members in groups.values():
        newest = max(tally.last_ms for tally in members)
        together = [tally for tally in members if newest - tally.last_ms <= _SAME_TIME_MS]
        if len(together) < _LEAST_NEIGHBOURS:
            continue
        for quantity, floor, unit in (
            ("temperature", limits.deviation_celsius, "°C"),
            ("humidity", limits.deviation_humidity, "%"),
        ):
            values: list[float] = [getattr(tally, quantity) for tally in together]
            middle = median(values)
            usual = median(abs(value - middle) for value in values)
            limit = max(floor, _DEVIATIONS * usual)
            found += [
                (tally.device_id, f"says {value:g} {unit} where its group says {middle:g}")
                for tally, value in zip(together, values, strict=True)
                if abs(value - middle) > limit
            ]
    return found


def _is_behind(tally: DeviceTally) -> bool:
    """Late by always the same amount while time goes on: a clock, not a network."""
    span = tally.late_last_ms - tally.late_first_ms
    return (
        tally.late >= _LEAST_LATE_FOR_CLOCK
        and span >= _STEADY_SPAN_MS
        and tally.late_most_ms - tally.late_least_ms <= _STEADY_SHARE * span
    )


def _worst(
    fleets: Sequence[FleetTally], badness: Callable[[DeviceTally], int]
) -> list[DeviceTally]:
    """Every device with any badness, once, the worst first."""
    worst: dict[str, DeviceTally] = {}
    for fleet in fleets:
        for name, tally in fleet.devices.items():
            bad = badness(tally)
            if bad and (name not in worst or bad > badness(worst[name])):
                worst[name] = tally
    return sorted(worst.values(), key=lambda tally: (-badness(tally), tally.device_id))


def _implausible(tally: DeviceTally | None, stranger: str | None) -> str:
    if tally is not None and tally.furthest is not None:
        quantity, value = tally.furthest
        return f"said {value:g} {_UNITS[quantity]}"
    if tally is not None and tally.worst_jump is not None:
        jump = tally.worst_jump
        return (
            f"jumped from {jump.before:g} to {jump.after:g} {_UNITS[jump.quantity]} at "
            f"{instant(jump.measured_ms)}"
        )
    return stranger or ""


_UNITS = {"temperature": "°C", "humidity": "%"}


def _off(tally: DeviceTally) -> str:
    if tally.ahead:
        return f"{span(tally.ahead_most_ms)} ahead"
    return f"{span(tally.late_least_ms)} behind"
