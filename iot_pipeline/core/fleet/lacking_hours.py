"""Received against expected, per device and hour: which hours lack readings.

Belongs here: how many readings an hour should have, and when a device or the whole fleet was
simply not there. Does not belong here: counting (`core.fleet.state`), the verdict
(`core.fleet.verdicts`).

Once an hour was found to lack readings it stays so until they arrive: the rhythm by which it was
found is kept, because another estimate of it a minute later would say something else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.state import HOUR_MS, DeviceState

DAY_HOURS = 24
# Fewer missing than this is where an hour begins and ends, not a loss.
_LEAST_MISSING = 3
# With fewer readings than this expected, one more or less decides.
LEAST_EXPECTED = 10
# Slower devices have too few readings in an hour for one more or less to mean anything.
_SLOWEST_MS = HOUR_MS / LEAST_EXPECTED
# How much of the fleet was there is told by so many devices, and by the best tenth of them: what
# even those lack was not sent at all.
_WITNESSES = 1_000
_BEST_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class HourShare:
    """What one device sent of one hour, so far, and what a whole hour of it has."""

    hour: int
    received: int
    expected: float
    whole: float

    @property
    def missing(self) -> float:
        return max(0.0, self.expected - self.received)

    @property
    def share(self) -> float:
        """Of what is expected so far, 1.0 at most."""
        return min(1.0, self.received / self.expected) if self.expected else 1.0

    def is_incomplete(self, limits: QualityLimits) -> bool:
        """Whether more is missing than the limit allows in a whole hour, and than edges explain.

        Of an hour that is not over the same is asked: what is missing by then stays missing, so a
        check that turns red in the middle of an hour is red at its end.
        """
        return (
            self.expected >= LEAST_EXPECTED
            and self.missing >= _LEAST_MISSING
            and self.missing > (1 - limits.complete_share) * self.whole
        )


def share_of(
    state: DeviceState,
    hour: int,
    as_of_ms: float,
    limits: QualityLimits,
    interval_ms: float,
    pace: float = 1.0,
) -> HourShare | None:
    """What the device sent of an hour since 1970; None where nothing is expected of it.

    `pace` is the share that the fleet itself sent. Of a late device the newest readings are not
    there yet, of one with a wrong clock they are counted elsewhere.
    """
    if not interval_ms or hour in state.unsure_hours:
        return None
    delay_ms = max(state.half.delay_most_ms, state.before.delay_most_ms)
    begin = max(hour * HOUR_MS, state.begin_ms)
    end = min((hour + 1) * HOUR_MS, as_of_ms - limits.late_ms - delay_ms)
    if end <= begin:
        return None
    expected = (end - begin) / interval_ms * pace
    # Of a whole hour, also where the device or the fleet was not there for all of it: where little
    # is expected, chance makes great differences.
    whole = HOUR_MS / interval_ms
    return HourShare(hour, state.hours.get(hour, 0), expected, whole)


def known_interval_ms(state: DeviceState) -> float:
    """The interval to expect readings by; 0 of a device that has no rhythm, or sleeps."""
    if not state.is_regular or state.usual_pause_ms or state.interval_ms > _SLOWEST_MS:
        return 0.0
    return state.interval_ms


def pace_of(
    hours: Iterable[int], states: Iterable[DeviceState], as_of_ms: float, limits: QualityLimits
) -> dict[int, float]:
    """Per hour the share of their readings that even the best devices sent, 1.0 at most.

    A fleet that is switched off for half an hour is not a fleet that lost readings.
    """
    witnesses = [s for s in states if known_interval_ms(s)]
    witnesses = witnesses[:: 1 + len(witnesses) // _WITNESSES]
    paces = {}
    for hour in hours:
        shares = sorted(
            found.share
            for state in witnesses
            if (found := share_of(state, hour, as_of_ms, limits, state.interval_ms))
            and found.expected >= LEAST_EXPECTED
        )
        paces[hour] = shares[int(_BEST_SHARE * len(shares))] if shares else 1.0
    return paces


def note_lacking(
    states: Mapping[str, DeviceState], as_of_ms: int, limits: QualityLimits, changed: set[str]
) -> list[tuple[str, int]]:
    """Look at the hours that were not looked at since they ended, and at the current one.

    Args:
        states: of devices that are expected to report.
        as_of_ms: until then.
        limits: what is fine.
        changed: gets the devices whose state remembers something new.

    Returns:
        (device, hour) of those that are found to lack readings for the first time; the states
        remember them.
    """
    current = as_of_ms // HOUR_MS
    oldest = current - DAY_HOURS
    firsts = [max(oldest, s.next_hour) for s in states.values()]
    paces = pace_of(
        range(min(firsts, default=current), current + 1), states.values(), as_of_ms, limits
    )
    found = []
    for name, state in states.items():
        if state.lacking and min(state.lacking) < oldest:
            state.lacking = {hour: ms for hour, ms in state.lacking.items() if hour >= oldest}
        interval = known_interval_ms(state)
        first = max(oldest, state.next_hour, state.begin_ms // HOUR_MS)
        for hour in range(first, current + 1) if interval else ():
            if hour not in state.lacking:
                share = share_of(state, hour, as_of_ms, limits, interval, paces[hour])
                if share is not None and share.is_incomplete(limits):
                    state.lacking[hour] = interval
                    found.append((name, hour))
        # What was measured in the last hour may still be on its way.
        if state.next_hour < current - 1:
            state.next_hour = current - 1
            changed.add(name)
    changed.update(name for name, _ in found)
    return found


def lacking_shares(
    state: DeviceState, as_of_ms: int, limits: QualityLimits, paces: Mapping[int, float]
) -> list[HourShare]:
    """The hours of the last day that still lack readings, as far as they were looked at."""
    shares = (
        share_of(state, hour, as_of_ms, limits, interval, paces.get(hour, 1.0))
        for hour, interval in state.lacking.items()
        if hour >= as_of_ms // HOUR_MS - DAY_HOURS
    )
    return [share for share in shares if share is not None and share.is_incomplete(limits)]
