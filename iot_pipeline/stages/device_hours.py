"""Count what devices sent per hour, and find when the whole fleet was silent.

The last full hour and the current one of every device; the rest of the last day while there is
time. The server counts: a row per device and hour travels.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from iot_pipeline.core.completeness import (
    HOUR_MS,
    DeviceHours,
    HourShare,
    expected_shares,
    find_silence,
    hour_of,
    hours_lacking,
    piece_for,
)
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.readings import MS_PER_DAY
from iot_pipeline.stages.asking import Answer, ask_all
from iot_pipeline.stages.ports import RowReader

_DAY_HOURS = 24
# Silence of all is looked for among so many devices, in so many hours.
_WITNESSES = 20
_MOST_HOURS_IN_PIECES = 6
# A first reading later than this many intervals may be a device's first ever, or a loss before it.
_LATE_BEGIN_INTERVALS = 3
# Slower devices have too few readings in an hour for one more or less to mean anything.
SLOWEST_MS = HOUR_MS / 10


class PendingCounts(Answer, Protocol):
    """Counts on their way."""

    @property
    def found(self) -> list[tuple[int, int, int]]:
        """(when the piece begins, readings in it, the first of them); only pieces with any."""


class DeviceHourCounts(Protocol):
    """Which devices there are, and how many readings they have in each piece of a day."""

    def days(self) -> list[int]: ...
    def devices_of(self, day_number: int) -> Sequence[str]: ...
    def start_counts(
        self, device_id: str, day_number: int, first_ms: int, end_ms: int, piece_ms: int
    ) -> PendingCounts: ...
    def wait(self, timeout_seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device whose cadence is known.

    `oldest_ms` is the oldest of its readings that was read; what it measured after `settled_ms` may
    still be on its way.
    """

    device_id: str
    cadence_ms: float
    oldest_ms: int
    settled_ms: int
    days: Sequence[int]


@dataclass(slots=True)
class CountedHours:
    """What was counted, of how many devices, and when nobody sent anything."""

    shares: list[HourShare] = field(default_factory=list)
    silent: list[tuple[int, int]] = field(default_factory=list)
    devices_counted: int = 0


@dataclass(frozen=True, slots=True)
class _Span:
    """A piece of one day of one device to count."""

    device: DeviceHours
    day: int
    first_ms: int
    end_ms: int


def count_hours(
    hours: DeviceHourCounts,
    rows: RowReader,
    known: Sequence[KnownDevice],
    *,
    until_ms: int,
    limits: QualityLimits,
    is_whole_day: bool,
    sure: int,
    began: float,
    deadline: float,
    clock: Callable[[], float],
) -> CountedHours:
    """Shares of the hours before `until_ms`, of these devices as far as the time suffices.

    Args:
        hours: counts.
        rows: tells whether a device reported before what was counted.
        known: devices, those to count first in front.
        until_ms: later readings may still be on their way.
        limits: what is fine.
        is_whole_day: also the hours before the last full one, in half of the time that is left.
        sure: so many, in front, whatever the time.
        began: when counting began, on `clock`.
        deadline: when it is to end.
        clock: monotonic seconds.
    """
    first_ms = hour_of(until_ms) - HOUR_MS
    fast = [device for device in known if device.cadence_ms <= SLOWEST_MS]
    counted: dict[str, DeviceHours] = {}
    firsts: dict[str, int] = {}
    by_name = {device.device_id: device for device in fast}

    def count(
        first: int, end: int, names: Sequence[str], give_up_at: float, sure: int = 0
    ) -> list[str]:
        done = []
        for span, answer in ask_all(
            (
                _Span(counted.setdefault(name, _new(by_name[name], first_ms)), day, start, stop)
                for name in names
                for day, start, stop in _by_day(first, end)
            ),
            lambda span: hours.start_counts(
                span.device.device_id, span.day, span.first_ms, span.end_ms, HOUR_MS
            ),
            hours.wait,
            give_up_at,
            clock,
            sure=sure * len(_by_day(first, end)),
        ):
            device = span.device
            for hour in range(hour_of(span.first_ms), span.end_ms, HOUR_MS):
                device.counts.setdefault(hour, 0)
            for hour, readings, earliest in answer.found:
                device.counts[hour] += readings
                firsts[device.device_id] = min(firsts.get(device.device_id, earliest), earliest)
            if span.end_ms == end:
                done.append(device.device_id)
        return done

    done = count(first_ms, until_ms, list(by_name), deadline, sure)
    _find_begins(rows, [by_name[name] for name in done], counted, firsts, first_ms, until_ms, clock)
    day_ms = first_ms - (_DAY_HOURS - 2) * HOUR_MS
    if is_whole_day and day_ms < first_ms:
        half = clock() + (deadline - clock()) / 2
        older = count(day_ms, first_ms, done, half)
        for name in older:
            # Before its first reading nothing is expected, unless an older day lists it.
            is_older = min(by_name[name].days) * MS_PER_DAY + MS_PER_DAY <= day_ms
            begin = day_ms if is_older else firsts.get(name, counted[name].begin_ms)
            counted[name].begin_ms = min(counted[name].begin_ms, begin)
    devices = [counted[name] for name in done]
    shares = expected_shares(devices)
    silent = _find_silence(hours, devices, shares, until_ms, limits, clock)
    if silent:
        shares = expected_shares(devices, silent)
    return CountedHours(shares, silent, len(devices))


def _new(device: KnownDevice, first_ms: int) -> DeviceHours:
    return DeviceHours(device.device_id, device.cadence_ms, first_ms, device.settled_ms)


def _by_day(first_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
    """(day, from, to) of a span; a Cassandra partition holds one day."""
    days = range(first_ms // MS_PER_DAY, (end_ms - 1) // MS_PER_DAY + 1)
    return [
        (day, max(first_ms, day * MS_PER_DAY), min(end_ms, (day + 1) * MS_PER_DAY)) for day in days
    ]


def _find_begins(
    rows: RowReader,
    devices: Sequence[KnownDevice],
    counted: dict[str, DeviceHours],
    firsts: dict[str, int],
    first_ms: int,
    until_ms: int,
    clock: Callable[[], float],
) -> None:
    """From when on readings can be expected: from the start, of who had reported before it."""
    first_day = first_ms // MS_PER_DAY
    unknown = []
    for device in devices:
        first = firsts.get(device.device_id, until_ms)
        is_late = first - first_ms > _LATE_BEGIN_INTERVALS * device.cadence_ms
        is_older = device.oldest_ms < first_ms or min(device.days) < first_day
        if is_late and not is_older:
            unknown.append(device)
    for device, found in ask_all(
        unknown,
        lambda device: rows.start_range(
            device.device_id, first_day, first_day * MS_PER_DAY, first_ms - 1, 1
        ),
        rows.wait,
        float("inf"),
        clock,
    ):
        if not found.found:
            counted[device.device_id].begin_ms = firsts.get(device.device_id, until_ms)


def _find_silence(
    hours: DeviceHourCounts,
    devices: Sequence[DeviceHours],
    shares: Sequence[HourShare],
    until_ms: int,
    limits: QualityLimits,
    clock: Callable[[], float],
) -> list[tuple[int, int]]:
    """When nobody sent anything: a fleet switched off is not a fleet that lost readings."""
    lacking = hours_lacking(shares, limits)
    received: defaultdict[int, int] = defaultdict(int)
    for share in shares:
        received[share.hour_ms] += share.received
    silent = [(hour, hour + HOUR_MS) for hour in lacking if not received[hour]]
    partly = [hour for hour in lacking if received[hour]][-_MOST_HOURS_IN_PIECES:]
    for hour in partly:
        witnesses = sorted(
            (d for d in devices if hour in d.counts and d.begin_ms <= hour),
            key=lambda device: device.cadence_ms,
        )[:_WITNESSES]
        piece_ms = piece_for([device.cadence_ms for device in witnesses])
        if piece_ms is None:
            continue
        end = min(hour + HOUR_MS, until_ms)
        pieces: defaultdict[int, int] = defaultdict(int)
        for _, answer in ask_all(
            witnesses,
            lambda d, hour=hour, end=end, piece_ms=piece_ms: hours.start_counts(  # type: ignore[misc]
                d.device_id, hour // MS_PER_DAY, hour, end, piece_ms
            ),
            hours.wait,
            float("inf"),
            clock,
        ):
            for begin, readings, _ in answer.found:
                pieces[begin] += readings
        per_piece = sum(piece_ms / device.cadence_ms for device in witnesses)
        silent += find_silence(pieces, hour, end, piece_ms, per_piece, limits.complete_share)
    return sorted(silent)
