"""Which simulations make sense: what a person asks for in, a plan or a clear refusal out."""

import math
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Literal

from iot_pipeline.core.reading.declared_times import EARLIEST_SECONDS, LATEST_SECONDS
from iot_pipeline.core.reading.messages import ReadingRules, Reason
from iot_pipeline.core.simulator.fault_specs import Malformed
from iot_pipeline.core.simulator.faults import FOREVER_US
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import (
    DEFAULT_SEED,
    MAX_DURATION_US,
    Group,
    Scenario,
)
from iot_pipeline.core.times import (
    US_PER_SECOND,
    duration_us,
    exact_span,
    in_utc,
    moment_of_us,
    us_of,
)
from iot_pipeline.errors import ConfigurationError

MAX_DEVICES = 1_000_000
MAX_RATE = 1_000_000.0
MAX_COUNT = 10_000_000_000
# The table keeps milliseconds: two readings of one device in one millisecond would be one row.
SHORTEST_INTERVAL_US = 1_000
# Kafka's clients send a megabyte at most.
_LARGEST_VALUE_BYTES = 900_000
_YEAR_SECONDS = 366 * 86_400
_LONGEST_LOOK_BACK_US = 10 * _YEAR_SECONDS * US_PER_SECOND


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """A simulation that makes sense; made by `plan_scenario` or `plan_fleet`.

    `speed` is how many seconds of event time pass in a second, None for as fast as can be.
    `start_us` is the event time it begins with, None for one that ends up at now. `duration_us` is
    the event time it covers at most, None when only a person ends it; `count` and
    `seconds` (of sending) may end it sooner.
    """

    scenario: Scenario
    name: str
    seed: int
    speed: float | None
    start_us: int | None
    duration_us: int | None
    count: int | None = None
    seconds: float | None = None

    def begin_us(self, now_us: int) -> int:
        """Faster than live, so far in the past that no event time is ever of the future."""
        if self.start_us is not None:
            return self.start_us
        ahead_us = (self.duration_us or 0) - self.sending_seconds * US_PER_SECOND
        return now_us - max(0, math.ceil(ahead_us))

    @property
    def sending_seconds(self) -> Fraction:
        """How long sending takes at least; 0 for as fast as can be, and when a person ends it."""
        if self.speed is None:
            return Fraction(self.seconds or 0)
        return Fraction(self.duration_us or 0) / Fraction(self.speed) / US_PER_SECOND

    def fleet(self, now_us: int, rules: ReadingRules) -> ScenarioFleet:
        start_us = self.begin_us(now_us)
        covered_us = FOREVER_US if self.duration_us is None else self.duration_us
        return ScenarioFleet(
            self.scenario,
            seed=self.seed,
            start_us=start_us,
            end_us=min(start_us + covered_us, FOREVER_US),
            count=self.count,
            rules=rules,
        )

    @property
    def expected_messages(self) -> int | None:
        """About how many there will be, None when a time or a person ends it.

        Faults that add or hold back some are not counted.
        """
        if self.count is not None or self.duration_us is None or self.seconds is not None:
            return self.count
        return round(self.scenario.readings_per_second * self.duration_us / 1e6)


def plan_scenario(
    scenario: Scenario,
    *,
    name: str,
    now: datetime,
    seed: int | None = None,
    speed: float | Literal["max"] | None = None,
    duration_seconds: float | None = None,
    start: datetime | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    max_value_bytes: int = 65_536,
) -> SimulationPlan:
    """Decide the times of a scenario before anything is contacted.

    Args:
        seed, speed, duration_seconds: instead of the scenario's own; the duration is of event time,
            and a speed of 1 is live, "max" as fast as can be.
        start: event time it begins with, at whatever speed; same seed and start, same bytes.
        since: backfill at full speed from here ...
        until: ... to here (exclusive), now by default.
        max_value_bytes: the rule of ingestion that a payload too large has to break.

    Raises:
        ConfigurationError: what is wrong or contradicts, and what would be right.
    """
    _expect(until is None or since is not None, "until ends a backfill: give its since too")
    if since is not None:
        for option, given in (("speed", speed), ("duration", duration_seconds), ("start", start)):
            _expect(
                given is None,
                f"since (and until) send a time that is over at full speed: leave out {option}, "
                "or leave out since",
            )
        until = now if until is None else until
        _expect(until <= now, f"until {in_utc(until)} lies in the future")
        _expect(since < until, f"since {in_utc(since)} is not before until {in_utc(until)}")
        duration, start, speed = us_of(until) - us_of(since), since, "max"
    elif duration_seconds is not None:
        duration = round(duration_seconds * 1_000_000)
    else:
        duration = duration_us(scenario.duration)
    _expect(
        0 < duration <= MAX_DURATION_US,
        f"duration {exact_span(duration)}: expected more than 0, at most "
        f"{exact_span(MAX_DURATION_US)}",
    )
    chosen = scenario.speed if speed is None else speed
    per_second = None if chosen == "max" else float(chosen)
    if per_second is not None:
        _expect(
            0 < per_second <= 100_000,
            f"speed {per_second:g}: expected max, or above 0 up to 100,000 (1 is live)",
        )
        rate = scenario.readings_per_second * per_second
        _expect(
            rate <= MAX_RATE,
            f"speed {per_second:g} would be {rate:,.0f} messages a second: give a lower speed (at "
            f"most {MAX_RATE:,.0f} messages a second), or max",
        )
    plan = SimulationPlan(
        scenario=scenario,
        name=name,
        seed=scenario.seed if seed is None else seed,
        speed=per_second,
        start_us=None if start is None else us_of(start),
        duration_us=duration,
    )
    _expect_readable_times(plan.begin_us(us_of(now)), duration)
    _expect(
        max_value_bytes <= _LARGEST_VALUE_BYTES or not _sends_too_large(scenario),
        f"IOT_MAX_VALUE_BYTES={max_value_bytes}: a producer cannot send more than that, so "
        f"malformed payloads of reason too_large need at most {_LARGEST_VALUE_BYTES}",
    )
    return plan


def plan_fleet(
    *,
    devices: int,
    rate: float | Literal["max"],
    count: int | None = None,
    duration_seconds: float | None = None,
    seed: int = DEFAULT_SEED,
    start: datetime | None = None,
    interval_seconds: float | None = None,
) -> SimulationPlan:
    """Check a fleet of devices that are well before anything is contacted.

    Args:
        devices: how many send, in turn, named device_1 to device_N.
        rate: messages per second of the whole fleet, or "max".
        count: messages to send; or `duration_seconds`, how long to send. Neither: until stopped.
        start: event time of the first reading, with its zone; None for now.
        interval_seconds: event time between two readings of one device, with `start` only.
            Default: what the rate gives, and 1 s at "max".

    Raises:
        ConfigurationError: what is wrong, and what would be right.
    """
    _expect(1 <= devices <= MAX_DEVICES, f"devices {devices}: expected 1 to {MAX_DEVICES:,}")
    per_second = None if rate == "max" else float(rate)
    _expect(
        per_second is None or 0.001 <= per_second <= MAX_RATE,
        f"rate {rate}: expected max, or 0.001 to {MAX_RATE:,.0f} messages a second",
    )
    _expect(
        count is None or duration_seconds is None,
        "count and duration both end a simulation: give one of them",
    )
    _expect(count is None or 1 <= count <= MAX_COUNT, f"count {count}: expected 1 to {MAX_COUNT:,}")
    _expect(
        duration_seconds is None or 0 < duration_seconds <= _YEAR_SECONDS,
        f"duration {duration_seconds} s: expected more than 0 and at most a year",
    )
    _expect(
        per_second is not None or count is not None or duration_seconds is not None,
        "rate max sends without a pause: give a count or a duration",
    )
    _expect(
        interval_seconds is None or start is not None,
        "interval is the event time between readings of a backfill: give a start too",
    )
    if per_second is not None and duration_seconds is not None:
        count, duration_seconds = max(1, round(per_second * duration_seconds)), None
    # What a person wrote: a float of it is not exactly 0.1.
    exact_rate = None if per_second is None else Fraction(repr(per_second))
    interval_us = _interval_us(devices, exact_rate, interval_seconds, start is not None)
    if count is not None:
        # To the last one's share of the time; as fast as can be, to the end of its round.
        rounds = Fraction(count, devices)
        covered_us = math.ceil((math.ceil(rounds) if exact_rate is None else rounds) * interval_us)
    elif duration_seconds is not None:
        # Nothing sends faster than that.
        covered_us = math.ceil(duration_seconds * MAX_RATE / devices * interval_us)
    else:
        covered_us = None
    plan = SimulationPlan(
        scenario=plain_fleet(devices, interval_us),
        name="plain",
        seed=seed,
        speed=None
        if exact_rate is None
        else float(exact_rate * interval_us / devices / US_PER_SECOND),
        start_us=None if start is None else us_of(start),
        duration_us=covered_us,
        count=count,
        seconds=duration_seconds,
    )
    if start is None:
        _expect(
            -plan.begin_us(0) <= _LONGEST_LOOK_BACK_US,
            "at rate max a reading per device takes a millisecond of event time, and this one "
            "would begin more than ten years ago: more devices, a shorter duration, or a start",
        )
    else:
        _expect_readable_times(us_of(start), (covered_us or 0) if duration_seconds is None else 0)
    return plan


class _PlainGroup(Group, frozen=True):
    """A group whose interval is one that no text says: a share of a second, exactly."""

    exactly_us: Fraction = Fraction(US_PER_SECOND)

    @property
    def interval_us(self) -> Fraction:
        return self.exactly_us


def plain_fleet(devices: int, interval_us: Fraction) -> Scenario:
    """A group of devices that are well and send in turn, each once in `interval_us`."""
    group = _PlainGroup(
        name="device",
        devices=devices,
        ids="device_{number}",
        jitter=0.0,
        exactly_us=interval_us,
    )
    return Scenario(description="Devices that are well, in turn", groups=[group])


def _interval_us(
    devices: int, rate: Fraction | None, interval_seconds: float | None, is_backfill: bool
) -> Fraction:
    """Event time between two readings of one device, checked against the millisecond."""
    if interval_seconds is not None:
        _expect(
            SHORTEST_INTERVAL_US / US_PER_SECOND <= interval_seconds <= _YEAR_SECONDS,
            f"interval {interval_seconds} s: expected 0.001 s to a year; "
            "the table keeps one reading per device and millisecond",
        )
        return Fraction(repr(interval_seconds)) * US_PER_SECOND
    if rate is None:
        return Fraction(US_PER_SECOND if is_backfill else SHORTEST_INTERVAL_US)
    interval_us = devices * US_PER_SECOND / rate
    _expect(
        interval_us >= SHORTEST_INTERVAL_US,
        f"rate {float(rate):g} over {devices} devices is more than one reading per device and "
        f"millisecond, which is all that the table keeps: at most {devices * 1000:,} messages a "
        f"second, or at least {math.ceil(rate / 1000):,} devices",
    )
    return interval_us


def _expect_readable_times(first_us: int, duration_us: int) -> None:
    _expect(
        first_us >= EARLIEST_SECONDS * 1e6 and first_us + duration_us < LATEST_SECONDS * 1e6,
        f"event times from {in_utc(moment_of_us(first_us))} on: expected all of them between 2000 "
        "and 2100; others are not accepted as readings",
    )


def _sends_too_large(scenario: Scenario) -> bool:
    return any(
        isinstance(fault, Malformed) and (not fault.reasons or Reason.TOO_LARGE in fault.reasons)
        for fault in scenario.faults
    )


def _expect(is_right: bool, otherwise: str) -> None:
    if not is_right:
        raise ConfigurationError(f"simulation: {otherwise}")
