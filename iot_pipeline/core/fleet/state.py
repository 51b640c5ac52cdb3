"""What is known of one device, folded from its readings as they pass.

Readings are taken in the order in which they arrived. Times are milliseconds since 1970: measured
by the device's clock, arrived by the broker's. Taking them in any parts gives the same state, but
for `late_at_ms` (decided at the end of a part) and for what is learned of pauses.
"""

from collections import Counter
from collections.abc import Sequence
from copy import copy
from typing import Any

import msgspec

from iot_pipeline.core.fleet.cadence import LEAST_READINGS, is_regular, learn_cadence
from iot_pipeline.core.fleet.clocks import (
    RESET,
    STEADY_MS,
    STEADY_READINGS,
    STEADY_SPAN_MS,
    went_back,
    why_off,
)
from iot_pipeline.core.fleet.evidence import HALF_MS, KEPT_HOURS, WINDOW_MS, Apart, Half, Odd
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR

# Event times that are kept: they tell a rhythm to a percent, and one dropout does not move it.
TAIL = 24
# Awake for at most a quarter of its pauses, three times: it sleeps, or sends bundles.
_AWAKE_PARTS = 4
_LEAST_PAUSES = 3
# A long pause that begins within two hours of the time of day of the one before is a night.
_NIGHT_TOLERANCE_MS = 2 * MS_PER_HOUR
_LEAST_NIGHTS = 2
# A few readings of an irregular device look regular by chance.
_LEAST_VOTES = 2
_MOST_VOTES = 4
_LEARN_AT = (LEAST_READINGS, TAIL // 2, TAIL, 2 * TAIL)
# A rhythm that changed by less is the same one.
_SAME_RHYTHM = 0.2
_NEWEST_SHARE = 0.3
# Which states can be read back: those of this form. Raise the number when a field comes, goes or
# changes its meaning.
_FORM = 4

# float, int, bool or str, each by its quantity's type; None where a reading has none.
Values = tuple[Any, ...]
# The newest arrival of some readings of one device, the number of the half window in which all
# arrived and the hour in which all were measured (-1: several), how many at the end have equal
# values, the last values, and the longest delay.
Calm = tuple[int, int, int, int, Values, int]


def with_known(values: Values, before: Values) -> Values:
    """The values of a reading, and of what it does not tell what was told last."""
    if not before:
        return values
    return tuple(
        known if value is None else value for value, known in zip(values, before, strict=True)
    )


def _is_same_time_of_day(one_ms: int, other_ms: int) -> bool:
    apart = abs(one_ms - other_ms) % MS_PER_DAY
    return min(apart, MS_PER_DAY - apart) <= _NIGHT_TOLERANCE_MS


class DeviceState(msgspec.Struct, array_like=True, tag=_FORM):
    """One device; about 300 bytes when kept.

    `rows` readings are its own: backfilled ones are not. `hours` counts them by the hour of their
    event time, from `begin_ms` on, but none with a wrong clock, which leave `unsure_hours`. `tail`
    are the newest event times. `unchanged` readings at the end have the last `values`, of each
    quantity the last that was told. `half` and
    `before` are the two newest half windows that had readings.

    Each kind of trouble has the time of its latest evidence (`late_at_ms`, `clock_at_ms`,
    `odd_at_ms`, `apart_at_ms`, by the broker's clock). `clock_off_ms` is above 0 when the clock is
    ahead; a clock that was reset has begun anew `restarts` times since. `steady_rows` readings at
    the end are late by the same; whether that is a clock shows only later. A device that pauses for
    `pause_ms` again and again (`pauses` times) sleeps; it came back at `visit_ms`, with readings
    from `visit_event_ms` on. `nights` times in a row it fell silent at the time of day of
    `night_at_ms`, the last time for `night_ms`.
    """

    begin_ms: int = 0
    rows: int = 0
    arrived_ms: int = 0
    tail: list[int] = []
    values: Values = ()
    unchanged: int = 0
    unchanged_since_ms: int = 0
    hours: dict[int, int] = {}
    unsure_hours: list[int] = []
    half: Half = msgspec.field(default_factory=Half)
    before: Half = msgspec.field(default_factory=Half)
    late_at_ms: int = 0
    late_most_ms: int = 0
    steady_rows: int = 0
    steady_delay_ms: int = 0
    steady_since_ms: int = 0
    steady_at_ms: int = 0
    clock_at_ms: int = 0
    clock_off_ms: int = 0
    restarts: int = 0
    odd_at_ms: int = 0
    odd: Odd | None = None
    apart_at_ms: int = 0
    apart: Apart | None = None
    backfilled: int = 0
    backfilled_at_ms: int = 0
    visit_ms: int = 0
    visit_event_ms: int = 0
    pause_ms: int = 0
    pauses: int = 0
    night_ms: int = 0
    night_at_ms: int = 0
    nights: int = 0
    # Learned now and then, 0 until then. Arrivals further apart than the second end a visit.
    interval_ms: float = 0.0
    long_ms: int = 0
    regular_votes: int = 0
    # Hours that lack readings, with the interval by which that was found; hours below the second
    # were looked at for that when they were over.
    lacking: dict[int, float] = {}
    next_hour: int = 0

    @property
    def measured_ms(self) -> int:
        """Event time of the reading that arrived last; 0 without any."""
        return self.tail[-1] if self.tail else 0

    @property
    def is_regular(self) -> bool:
        """Whether what it sent tells what it should have sent; most of the time it looked so."""
        return self.regular_votes >= _LEAST_VOTES

    @property
    def arrival_interval_ms(self) -> float:
        """How often it is heard of: bundles and sleep make this longer than `interval_ms`."""
        return max(self.interval_ms, self.usual_pause_ms)

    @property
    def usual_pause_ms(self) -> int:
        """For how long it is not heard of again and again; 0 when it does not do that.

        One that sends an hour in a second comes again in an hour: that shows before three pauses.
        """
        if self.pauses >= _LEAST_PAUSES:
            return self.pause_ms
        if self.clock_at_ms and self.clock_at_ms >= self.visit_ms:
            return 0  # times of a wrong clock tell no length
        bundle_ms = self.measured_ms - self.visit_event_ms
        if bundle_ms <= _AWAKE_PARTS * max(1_000, self.arrived_ms - self.visit_ms):
            return 0
        if self.pauses:
            return self.pause_ms if 2 * bundle_ms >= self.pause_ms else 0
        return bundle_ms if self.visit_event_ms == self.begin_ms else 0

    @property
    def sleeps_at_night(self) -> bool:
        return self.nights >= _LEAST_NIGHTS

    @property
    def usual_night_ms(self) -> int:
        """For how long it may be silent now, as every night; 0 when it should be awake."""
        is_its_time = _is_same_time_of_day(self.arrived_ms, self.night_at_ms)
        return self.night_ms if self.sleeps_at_night and is_its_time else 0

    @property
    def window_ms(self) -> float:
        """For how long evidence counts: a device that seldom reports needs longer to be well."""
        return max(WINDOW_MS, 3 * self.arrival_interval_ms)

    def copy(self) -> "DeviceState":
        """Another that shares nothing which taking readings changes."""
        other = copy(self)
        other.tail = self.tail.copy()
        other.hours = self.hours.copy()
        other.half = copy(self.half)
        other.before = copy(self.before)
        other.lacking = self.lacking.copy()
        return other

    def is_calm(self, gap_ms: int, values: Values, limits: QualityLimits) -> bool:
        """Whether readings that are calm among themselves are so after what it sent before.

        `gap_ms` is the longest time between two arrivals, that of the reading before them included;
        `values` are the first ones.
        """
        if self.steady_rows or gap_ms > (self.long_ms or limits.silent_seconds * 1000):
            return False
        for value, before, quantity in zip(values, self.values, limits.quantities, strict=False):
            if quantity.is_number and before is not None and abs(value - before) > quantity.jump:
                return False
        return True

    def take_row(self, ms: int, at: int, values: Values, limits: QualityLimits) -> None:
        delay = at - ms
        is_wrong = False
        if delay > limits.late_ms:
            is_wrong = self._follow_delay(delay, ms, at, limits)
            if delay > limits.backfill_ms and (cause := why_off(ms, at)):
                is_wrong = True
                self._note_clock(ms, at)
                self.restarts += cause == RESET and went_back(self.measured_ms, ms)
            if delay > limits.backfill_ms and not is_wrong:
                self.backfilled += 1
                self.backfilled_at_ms = max(self.backfilled_at_ms, at)
                return
        elif self.steady_rows:
            self.end_steady(limits)
        if -delay > limits.ahead_ms:
            is_wrong = True
            self._note_clock(ms, at)
        half = self.half if at // HALF_MS == self.half.number else self._half_of(at, limits)
        half.rows += 1
        if not is_wrong and delay > half.delay_most_ms:
            half.delay_most_ms = delay
        for value, quantity in zip(values, limits.quantities, strict=True):
            if not quantity.is_number or value is None:
                continue
            if not quantity.plausible_least <= value <= quantity.plausible_greatest:
                half.outside += 1
                self._note_odd(Odd(quantity.name, value, None, ms), at)
        if not self.rows:
            self.begin_ms, self.visit_ms, self.visit_event_ms = ms, at, ms
        else:
            if self.long_ms and at - self.arrived_ms > self.long_ms:
                self._end_visit(at)
                self.visit_event_ms = ms
            minutes = abs(ms - self.tail[-1]) / 60_000
            for value, before, quantity in zip(values, self.values, limits.quantities, strict=True):
                if not quantity.is_number or value is None or before is None:
                    continue
                step = abs(value - before) - quantity.jump
                if step > 0 and step > quantity.jump_per_minute * minutes:
                    half.jumps += 1
                    self._note_odd(Odd(quantity.name, value, before, ms), at)
        is_known = False
        if None in values:
            # The rest of a reading that is counted already.
            is_known = ms in self.tail
            values = with_known(values, self.values)
        if values == self.values:
            self.unchanged += not is_known
        else:
            self.unchanged, self.unchanged_since_ms = 1, ms
        self.values = values
        self.arrived_ms = max(self.arrived_ms, at)
        if is_known:
            half.rows -= 1
            return
        self.tail.append(ms)
        del self.tail[:-TAIL]
        if not is_wrong:
            self.count_hour(ms // MS_PER_HOUR, 1)
        self.rows += 1
        if self.rows in _LEARN_AT:
            self.learn(limits)

    def take_calm(
        self, times_ms: list[int], arrivals_ms: Sequence[int], calm: Calm, limits: QualityLimits
    ) -> None:
        """Take readings among which nothing is to be seen.

        `take_row` of each gives the same, but for the longest delay of a half window that ends
        among them; this costs a microsecond for all. `times_ms` is when they were measured, in the
        order of arrival; `arrivals_ms` is empty where all arrived in one half window.
        """
        newest_at, number, hour, unchanged, values, delay_most_ms = calm
        count = len(times_ms)
        rows = self.rows
        if number >= 0:
            half = self.half
            if number != half.number:
                half = self._half_of(number * HALF_MS, limits)
            half.rows += count
            if delay_most_ms > half.delay_most_ms:
                half.delay_most_ms = delay_most_ms
        else:
            for number, of_half in Counter(at // HALF_MS for at in arrivals_ms).items():
                half = self._half_of(number * HALF_MS, limits)
                half.rows += of_half
                half.delay_most_ms = max(half.delay_most_ms, delay_most_ms)
        if hour in self.hours:
            self.hours[hour] += count
        elif hour >= 0:
            self.count_hour(hour, count)
        else:
            for of_hour, readings in Counter(ms // MS_PER_HOUR for ms in times_ms).items():
                self.count_hour(of_hour, readings)
        if unchanged == count and values == self.values:
            self.unchanged += count
        else:
            self.unchanged = unchanged
            self.unchanged_since_ms = times_ms[-unchanged]
        self.values = values
        if newest_at > self.arrived_ms:
            self.arrived_ms = newest_at
        if count < TAIL:
            tail = self.tail
            tail += times_ms
            if len(tail) > TAIL:
                del tail[:-TAIL]
        else:
            self.tail = times_ms[-TAIL:]
        self.rows = rows + count
        if rows < _LEARN_AT[-1]:
            if not rows:
                self.begin_ms = times_ms[0]
                self.visit_ms = arrivals_ms[0] if arrivals_ms else newest_at
                # Where the first arrival is not known, how long the bundle was is not either.
                self.visit_event_ms = times_ms[0 if arrivals_ms else -1]
            for at in _LEARN_AT:
                if rows < at <= self.rows:
                    self.learn(limits)

    def take_backfill(self, delay: int, at: int, count: int, limits: QualityLimits) -> None:
        """Take readings that are all backfilled, each by another delay; of the last one `delay`."""
        self._begin_steady(delay, at, limits)
        self.backfilled += count
        self.backfilled_at_ms = max(self.backfilled_at_ms, at)

    def learn(self, limits: QualityLimits) -> None:
        """Its rhythm by its newest readings, and from which gap on it was away."""
        if len(self.tail) < LEAST_READINGS:
            return
        interval = (learn_cadence(self.tail) or 0.0) * 1000
        if abs(interval - self.interval_ms) <= _SAME_RHYTHM * self.interval_ms:
            interval = self.interval_ms + _NEWEST_SHARE * (interval - self.interval_ms)
        self.interval_ms = interval
        vote = 1 if is_regular(self.tail) else -1
        self.regular_votes = max(-_MOST_VOTES, min(_MOST_VOTES, self.regular_votes + vote))
        least = limits.silent_seconds * 1000
        self.long_ms = int(max(least, limits.silent_intervals * self.interval_ms))

    def count_hour(self, hour: int, readings: int) -> None:
        """Count readings of an hour since 1970; only the newest hours are kept."""
        hours = self.hours
        if hour in hours:
            hours[hour] += readings
            return
        hours[hour] = readings
        if len(hours) > KEPT_HOURS:
            del hours[min(hours)]

    def _half_of(self, at: int, limits: QualityLimits) -> Half:
        """The half window an arrival belongs to; one that is not kept when it is older."""
        number = at // HALF_MS
        if number > self.half.number:
            self.before, self.half = self.half, Half(number)
            self.learn(limits)
            return self.half
        if number == self.half.number:
            return self.half
        if number > self.before.number:
            self.before = Half(number)
        return self.before if number == self.before.number else Half(number)

    def _follow_delay(self, delay: int, ms: int, at: int, limits: QualityLimits) -> bool:
        """Note a late reading; True when it is the clock that is behind."""
        if self.steady_rows and abs(delay - self.steady_delay_ms) <= STEADY_MS:
            self.steady_rows += 1
            self.steady_at_ms = at
        else:
            self._begin_steady(delay, at, limits)
        if not self._is_steady:
            return False
        self._note_clock(ms, at)
        return True

    @property
    def _is_steady(self) -> bool:
        span_ms = self.steady_at_ms - self.steady_since_ms
        return self.steady_rows >= STEADY_READINGS and span_ms >= STEADY_SPAN_MS

    def _begin_steady(self, delay: int, at: int, limits: QualityLimits) -> None:
        self.end_steady(limits)
        self.steady_rows, self.steady_delay_ms = 1, delay
        self.steady_since_ms = self.steady_at_ms = at

    def end_steady(self, limits: QualityLimits) -> None:
        """Readings late by the same have ended: they were late, unless it was a clock."""
        was_clock = self._is_steady
        rows, self.steady_rows = self.steady_rows, 0
        delay, at = self.steady_delay_ms, self.steady_at_ms
        # What a device sends in bundles is as old as its pauses are long.
        allowed = limits.late_ms + self.usual_pause_ms
        if not rows or was_clock or not allowed < delay <= limits.backfill_ms:
            return
        self._half_of(at, limits).late += rows
        late, of = self.half.late, self.half.rows
        if self.before.number >= self.half.number - 2:
            late, of = late + self.before.late, of + self.before.rows
        if late > limits.late_share * of:
            most = self.late_most_ms if at - self.late_at_ms <= WINDOW_MS else 0
            self.late_most_ms = max(most, delay)
            self.late_at_ms = max(self.late_at_ms, at)

    def _note_clock(self, ms: int, at: int) -> None:
        self.clock_at_ms, self.clock_off_ms = max(self.clock_at_ms, at), ms - at
        self.doubt(at // MS_PER_HOUR)
        if abs(ms - at) < KEPT_HOURS * MS_PER_HOUR:
            self.doubt(ms // MS_PER_HOUR)

    def doubt(self, hour: int) -> None:
        """Readings of this hour may be counted elsewhere: it is not judged."""
        if hour not in self.unsure_hours:
            self.unsure_hours = sorted([*self.unsure_hours, hour])[-KEPT_HOURS:]

    def _note_odd(self, odd: Odd, at: int) -> None:
        """Keep the worst of the window."""
        is_old = at - self.odd_at_ms > WINDOW_MS
        if self.odd is None or is_old or odd.badness > self.odd.badness:
            self.odd = odd
        self.odd_at_ms = max(self.odd_at_ms, at)

    def _end_visit(self, at: int) -> None:
        """It was away and is back: has it been awake for much shorter than it was away?"""
        gap, awake = at - self.arrived_ms, self.arrived_ms - self.visit_ms
        self.visit_ms = at
        if gap > _NIGHT_TOLERANCE_MS:
            self.note_night(self.arrived_ms, gap)
        if awake * _AWAKE_PARTS > gap:
            self.pauses = self.pause_ms = 0
        elif self.pauses and self.pause_ms / 2 <= gap <= self.pause_ms * 2:
            self.pauses += 1
            self.pause_ms = (self.pause_ms + gap) // 2
        else:
            self.pauses, self.pause_ms = 1, gap

    def note_night(self, began_ms: int, gap_ms: int) -> None:
        """It was silent for hours: at the time of day at which it was the day before?"""
        is_next = began_ms - self.night_at_ms <= MS_PER_DAY + _NIGHT_TOLERANCE_MS
        is_same = is_next and _is_same_time_of_day(began_ms, self.night_at_ms)
        self.nights = self.nights + 1 if is_same else 1
        self.night_ms, self.night_at_ms = gap_ms, began_ms
