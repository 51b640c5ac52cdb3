"""Look at the devices and have them judged; changes nothing, and is bounded in time.

Two sources: the readings of a run, folded as they passed (`core.device_tally`), and bounded
questions to Cassandra: which devices there are by day, the newest rows of each, readings counted
per device and hour. Never a scan. When the time does not suffice a sample is judged and said to
be one; devices that were suspect the last time are always in it.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.completeness import judge_complete
from iot_pipeline.core.data_quality import (
    judge_clocks,
    judge_on_time,
    judge_stuck,
    judge_values,
)
from iot_pipeline.core.device_tally import FleetTally, count_unchanged
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.quality_words import Coverage
from iot_pipeline.core.readings import MS_PER_DAY
from iot_pipeline.core.reporting import DeviceReport, judge_reporting, report_of
from iot_pipeline.stages.asking import ask_all
from iot_pipeline.stages.device_hours import DeviceHourCounts, KnownDevice, count_hours
from iot_pipeline.stages.ports import MAX_ROWS_PER_READ, PendingRows, RowReader

# What arrived within this is looked at; of devices that seldom report, their last two readings.
RECENT_MS = 900_000
# Rows read in one look, all devices together, and of one device at most.
_ROWS_ALONE = 200_000
_ROWS_IN_RUN = 20_000
_MOST_ROWS_OF_DEVICE = 900
_ROWS_OF_DEVICE_IN_RUN = 66
# Of a clock that is far ahead the days it says are looked at, the newest of them.
_MOST_DAYS_AHEAD = 30
# All that were suspect are looked at however little time there is, and so many others: a run on a
# busy machine would otherwise judge one of fifty, and call well what was not before.
_LEAST_OTHERS = 32
# Listing devices may take this share of the time; today and yesterday are listed in any case.
_LISTING_SHARE = 0.3

# (measured_ms, arrived_ms, temperature, humidity)
_Reading = tuple[int, int, float, float]


@dataclass(frozen=True, slots=True)
class QualityPorts:
    """Everything a look at the devices reads."""

    rows: RowReader
    hours: DeviceHourCounts


@dataclass(slots=True)
class _Look:
    """One device being looked at: the days it is listed on, newest first, and its newest rows."""

    device_id: str
    days: list[int]
    limit: int
    readings: dict[int, _Reading] = field(default_factory=dict)
    is_whole: bool = False

    def take(self, found: Sequence[tuple[int, tuple[object, ...]]]) -> None:
        for ms, (temperature, humidity, warm_us, damp_us) in found:
            # A cell that somebody deleted with plain CQL has neither value nor write time.
            if (
                isinstance(temperature, float)
                and isinstance(humidity, float)
                and isinstance(warm_us, int)
                and isinstance(damp_us, int)
            ):
                arrived_ms = max(warm_us, damp_us) // 1000
                self.readings[ms] = (ms, arrived_ms, temperature, humidity)

    def oldest_first(self) -> list[_Reading]:
        return [self.readings[ms] for ms in sorted(self.readings)]


def check_data_quality(
    ports: QualityPorts,
    limits: QualityLimits,
    now: datetime,
    *,
    lag_seconds: float,
    budget_seconds: float,
    observed: FleetTally | None = None,
    first: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> list[CheckVerdict]:
    """The six verdicts on the devices.

    Args:
        ports: the tables.
        limits: what is fine.
        now: the time, aware UTC.
        lag_seconds: how far ingestion is behind; silence since then is nobody's fault.
        budget_seconds: about how long the look may take.
        observed: what a run saw of its own readings; None: on its own, from the tables only.
        first: devices to look at in any case, such as those that were suspect the last time.
        clock: monotonic seconds.
    """
    began = clock()
    deadline = began + budget_seconds
    now_ms = int(now.timestamp() * 1000)
    as_of_ms = now_ms - int(lag_seconds * 1000)
    days = _list_devices(
        ports.hours, now_ms, limits, began + _LISTING_SHARE * budget_seconds, clock
    )
    seen = observed or FleetTally(limits)
    names = _in_order(days, seen, first, now_ms)
    rows_per_device = _rows_per_device(len(names), observed is not None, limits)
    suspects = set(first)
    looks = [
        _Look(name, days[name], _MOST_ROWS_OF_DEVICE if name in suspects else rows_per_device)
        for name in names
    ]
    sure = _LEAST_OTHERS + sum(name in suspects for name in names)
    # Half of the time is for the newest rows, the rest for counting hours.
    looked = _read_newest(ports.rows, looks, sure, as_of_ms, limits, (began + deadline) / 2, clock)
    table = FleetTally(limits)
    reports, known = [], []
    for look in looked:
        report = _fold(look, table, as_of_ms, limits)
        if report is not None:
            reports.append(report)
            if report.cadence_ms is not None:
                known.append(_known(look, report.cadence_ms, table, as_of_ms, limits))
    heard = _heard_in_run(seen, reports, as_of_ms, limits)
    everybody = len(days.keys() | seen.devices.keys())
    asked = {look.device_id for look in looked}
    looked_at = Coverage(everybody, len(asked | seen.devices.keys()), seen.rows, seen.rows_seen)
    fleets = [table] if observed is None else [table, observed]
    hours = count_hours(
        ports.hours,
        ports.rows,
        known,
        until_ms=as_of_ms - int(limits.late_seconds * 1000),
        limits=limits,
        is_whole_day=observed is None,
        sure=sure,
        began=clock(),
        deadline=deadline,
        clock=clock,
    )
    return [
        judge_values(fleets, limits, looked_at),
        judge_reporting(
            [*reports, *heard], as_of_ms, limits, Coverage(everybody, looked_at.looked_at)
        ),
        judge_on_time(fleets, limits, looked_at),
        judge_stuck(fleets, limits, looked_at),
        judge_clocks(fleets, limits, looked_at),
        judge_complete(
            hours.shares, limits, Coverage(len(known), hours.devices_counted), hours.silent
        ),
    ]


def _list_devices(
    hours: DeviceHourCounts,
    now_ms: int,
    limits: QualityLimits,
    deadline: float,
    clock: Callable[[], float],
) -> dict[str, list[int]]:
    """device_id -> days it has rows on, newest first: of the last days, and of days to come."""
    today = now_ms // MS_PER_DAY
    days = sorted(hours.days(), reverse=True)
    ahead = [day for day in days if day > today][:_MOST_DAYS_AHEAD]
    back = [day for day in days if today - limits.expected_days < day <= today]
    listed: dict[str, list[int]] = {}
    for day in [*ahead, *back]:
        if day < today - 1 and clock() > deadline:
            break
        for name in hours.devices_of(day):
            listed.setdefault(name, []).append(day)
    return listed


def _in_order(
    days: dict[str, list[int]], seen: FleetTally, first: Sequence[str], now_ms: int
) -> list[str]:
    """Suspects, then whom the run has not heard of, then the rest; at random, so samples differ."""
    rest = [name for name in days if name not in set(first)]
    random.Random(now_ms).shuffle(rest)
    rest.sort(key=lambda name: name in seen.devices)
    return [*(name for name in dict.fromkeys(first) if name in days), *rest]


def _rows_per_device(devices: int, is_in_run: bool, limits: QualityLimits) -> int:
    total = _ROWS_IN_RUN if is_in_run else _ROWS_ALONE
    most = _ROWS_OF_DEVICE_IN_RUN if is_in_run else _MOST_ROWS_OF_DEVICE
    least = min(limits.stuck_readings + 2, MAX_ROWS_PER_READ)
    return max(least, min(most, total // max(1, devices)))


def _read_newest(
    rows: RowReader,
    looks: Sequence[_Look],
    sure: int,
    as_of_ms: int,
    limits: QualityLimits,
    deadline: float,
    clock: Callable[[], float],
) -> list[_Look]:
    """The newest rows of each device, and where these are not what they seem, more of them.

    The first `sure` of them are looked at whatever the time.
    """

    def start(look: _Look, day: int, last_ms: int, limit: int) -> PendingRows:
        return rows.start_range(look.device_id, day, day * MS_PER_DAY, last_ms, limit)

    def end_of(day: int) -> int:
        return (day + 1) * MS_PER_DAY - 1

    looked = []
    for look, found in ask_all(
        looks,
        lambda look: start(look, look.days[0], end_of(look.days[0]), look.limit),
        rows.wait,
        deadline,
        clock,
        sure=sure,
    ):
        look.take(found.found)
        looked.append(look)
    again: list[tuple[_Look, int, int, int]] = []
    for look in looked:
        today = as_of_ms // MS_PER_DAY
        if look.readings and max(look.readings) > as_of_ms + limits.clock_ahead_seconds * 1000:
            # Its clock is or was ahead: what arrived since it was set right lies below.
            again += [(look, day, as_of_ms, look.limit) for day in look.days if day == today]
        elif len(look.readings) < look.limit and len(look.days) > 1:
            day = look.days[1]
            again.append((look, day, end_of(day), look.limit - len(look.readings)))
        elif _may_be_stuck(look, limits):
            again.append((look, look.days[0], end_of(look.days[0]), MAX_ROWS_PER_READ))
    # All of them: half a look would call a device silent, or not stuck, that is.
    for (look, *_), found in ask_all(
        again, lambda item: start(*item), rows.wait, float("inf"), clock
    ):
        look.take(found.found)
    return looked


def _may_be_stuck(look: _Look, limits: QualityLimits) -> bool:
    """Whether every row read is equal, and they are too close together to say for how long."""
    readings = look.oldest_first()
    return (
        len(readings) >= limits.stuck_readings
        and readings[-1][0] - readings[0][0] < limits.stuck_seconds * 1000
        and len({reading[2:] for reading in readings}) == 1
    )


def _fold(
    look: _Look, table: FleetTally, as_of_ms: int, limits: QualityLimits
) -> DeviceReport | None:
    """Fold what arrived lately into the table's tally; None when it never reported by itself."""
    readings = look.oldest_first()
    report = report_of(look.device_id, ((r[0], r[1]) for r in readings), limits)
    recent_ms = max(RECENT_MS, 2 * (report.cadence_ms or 0 if report else 0))
    recent = [reading for reading in readings if reading[1] >= as_of_ms - recent_ms]
    table.add_rows(look.device_id, recent)
    tally = table.devices.get(look.device_id)
    if tally is not None:
        # For how long a value stands still is told by all rows, however old.
        same = count_unchanged([r[2] for r in readings], [r[3] for r in readings])
        tally.unchanged, tally.unchanged_since_ms = same, readings[-same][0]
    return report


def _known(
    look: _Look, cadence_ms: float, table: FleetTally, as_of_ms: int, limits: QualityLimits
) -> KnownDevice:
    """What counting its hours takes; of a late device the newest hour is not all there yet."""
    tally = table.devices.get(look.device_id)
    delay_ms = max(limits.late_seconds * 1000, tally.late_most_ms if tally else 0)
    settled_ms = as_of_ms - int(delay_ms)
    return KnownDevice(look.device_id, cadence_ms, min(look.readings), settled_ms, look.days)


def _heard_in_run(
    seen: FleetTally, reports: Sequence[DeviceReport], as_of_ms: int, limits: QualityLimits
) -> list[DeviceReport]:
    """Devices of the run that were not looked up, and that have just reported."""
    looked_up = {report.device_id for report in reports}
    return [
        DeviceReport(name, tally.last_arrived_ms, 0.0)
        for name, tally in seen.devices.items()
        if name not in looked_up
        and as_of_ms - tally.last_arrived_ms <= limits.silent_seconds * 1000
    ]
