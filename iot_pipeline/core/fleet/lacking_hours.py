"""Received against expected, per device and hour: which hours lack readings.

Once an hour was found to lack readings it stays so until they arrive: the rhythm by which it was
found is kept, because another estimate of it a minute later would say something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.times import HOURS_PER_DAY, MS_PER_HOUR

# Fewer missing than this is where an hour begins and ends, not a loss.
_LEAST_MISSING = 3
# With fewer readings than this expected, one more or less decides.
LEAST_EXPECTED = 10
# Slower devices have too few readings in an hour for one more or less to mean anything.
_SLOWEST_MS = MS_PER_HOUR / LEAST_EXPECTED
# How much of an hour the fleet was there is told by the best tenth of at most 1,000 devices: what
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


def known_interval_ms(state: DeviceState) -> float:
    """The interval to expect readings by; 0 of a device that has no rhythm, or sleeps."""
    is_away = state.usual_pause_ms or state.sleeps_at_night
    if not state.is_regular or is_away or state.interval_ms > _SLOWEST_MS:
        return 0.0
    return state.interval_ms


class FleetHours:
    """What the devices of a fleet have sent of each hour until a moment, against what was due.

    A fleet that is switched off for half an hour has not lost readings: of each hour its best tenth
    tells how much of it the fleet was there, and no device is expected to have sent more.
    """

    def __init__(
        self, states: Mapping[str, DeviceState], as_of_ms: float, limits: QualityLimits
    ) -> None:
        self._as_of_ms, self._limits = as_of_ms, limits
        witnesses = [(name, state) for name, state in states.items() if known_interval_ms(state)]
        self._witnesses = witnesses[:: 1 + len(witnesses) // _WITNESSES]
        self._paces: dict[int, float] = {}

    def share(
        self, name: str, state: DeviceState, hour: int, interval_ms: float
    ) -> HourShare | None:
        """What one sends every `interval_ms`, of an hour since 1970; None: nothing was due."""
        if not interval_ms:
            return None
        return self._share(name, state, hour, interval_ms, self._pace(hour))

    def lacking(self, name: str, state: DeviceState) -> list[HourShare]:
        """The hours of the last day that still lack readings, of those that once did."""
        oldest = self._as_of_ms // MS_PER_HOUR - HOURS_PER_DAY
        shares = (
            self.share(name, state, hour, interval_ms)
            for hour, interval_ms in state.lacking.items()
            if hour >= oldest
        )
        limits = self._limits.of(name)
        return [share for share in shares if share and share.is_incomplete(limits)]

    def _pace(self, hour: int) -> float:
        """The share of their readings of the hour that even the best devices sent, 1.0 at most."""
        if hour not in self._paces:
            shares = sorted(
                found.share
                for name, state in self._witnesses
                if (found := self._share(name, state, hour, state.interval_ms, 1.0))
                and found.expected >= LEAST_EXPECTED
            )
            self._paces[hour] = shares[int(_BEST_SHARE * len(shares))] if shares else 1.0
        return self._paces[hour]

    def _share(
        self, name: str, state: DeviceState, hour: int, interval_ms: float, pace: float
    ) -> HourShare | None:
        # Of one with a wrong clock readings are counted under other hours.
        if hour in state.unsure_hours:
            return None
        # Of a late one the newest readings are not there yet.
        delay_ms = max(state.half.delay_most_ms, state.before.delay_most_ms)
        begin = max(hour * MS_PER_HOUR, state.begin_ms)
        late_ms = self._limits.of(name).late_ms
        end = min((hour + 1) * MS_PER_HOUR, self._as_of_ms - late_ms - delay_ms)
        if end <= begin:
            return None
        expected = (end - begin) / interval_ms * pace
        # Of a whole hour, also where the device or the fleet was not there for all of it: where
        # little is expected, chance makes great differences.
        return HourShare(hour, state.hours.get(hour, 0), expected, MS_PER_HOUR / interval_ms)


def note_lacking(
    states: Mapping[str, DeviceState], as_of_ms: int, limits: QualityLimits, changed: set[str]
) -> list[tuple[str, int]]:
    """Look at the hours that were not looked at since they ended, and at the current one.

    Returns:
        (device, hour) of those that are found to lack readings for the first time. The states
        remember them; `changed` gets the devices whose state remembers something new.
    """
    current = as_of_ms // MS_PER_HOUR
    oldest = current - HOURS_PER_DAY
    hours = FleetHours(states, as_of_ms, limits)
    found = []
    for name, state in states.items():
        if state.lacking and min(state.lacking) < oldest:
            state.lacking = {hour: ms for hour, ms in state.lacking.items() if hour >= oldest}
        interval = known_interval_ms(state)
        first = max(oldest, state.next_hour, state.begin_ms // MS_PER_HOUR)
        for hour in range(first, current + 1) if interval else ():
            if hour not in state.lacking:
                share = hours.share(name, state, hour, interval)
                if share is not None and share.is_incomplete(limits.of(name)):
                    state.lacking[hour] = interval
                    found.append((name, hour))
        # Readings measured in the last hour may still be on their way.
        if state.next_hour < current - 1:
            state.next_hour = current - 1
            changed.add(name)
    changed.update(name for name, _ in found)
    return found
