"""Which simulations make sense: what a person asks for in, a plan or a clear refusal out.

Belongs here: how many messages, how fast, with which event times. Does not belong here: what the
devices measure (`core.simulator.fleet`), when a message is due (`core.simulator.pacing`), who gets
it (`stages.simulator.simulation`).
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Literal

from iot_pipeline.core.reading.decoding import EARLIEST_SECONDS, LATEST_SECONDS
from iot_pipeline.core.simulator.fleet import Fleet, make_fleet
from iot_pipeline.errors import ConfigurationError

MAX_DEVICES = 1_000_000
MAX_RATE = 1_000_000.0
MAX_COUNT = 10_000_000_000
DEFAULT_SEED = 1
# The table keeps milliseconds: two readings of one device in one millisecond would be one row.
SHORTEST_INTERVAL_US = 1_000

_SECOND_US = 1_000_000
_LONGEST_LOOK_BACK_US = 10 * 366 * 86_400 * _SECOND_US
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """A simulation that makes sense; made by `plan_simulation`.

    `rate` is messages sent per second, None for as many as can be; `interval_us` the event time
    between two readings of one device. `start_us` is the event time of the first reading, None
    for live ones. `count` is None when only `duration_seconds` or a person ends it.
    """

    devices: int
    seed: int
    rate: float | None
    interval_us: Fraction
    start_us: int | None
    count: int | None
    duration_seconds: float | None

    def begin_us(self, now_us: int) -> int:
        """Event time of the first reading when sending starts at `now_us`.

        A live fleet sent as fast as possible still takes a millisecond per reading and device.
        It starts that much in the past, so that no event time lies in the future.
        """
        if self.start_us is not None:
            return self.start_us
        if self.rate is not None:
            return now_us
        if self.count is not None:
            return now_us - math.ceil(self.count / self.devices) * math.ceil(self.interval_us)
        seconds = self.duration_seconds or 0.0
        ahead = MAX_RATE / self.devices * float(self.interval_us) - _SECOND_US
        return now_us - max(0, math.ceil(seconds * ahead))

    def fleet(self, now_us: int) -> Fleet:
        """The readings of this simulation when sending starts at `now_us`."""
        return Fleet(
            make_fleet(self.seed, self.devices),
            seed=self.seed,
            start_us=self.begin_us(now_us),
            interval_us=self.interval_us,
        )


def plan_simulation(
    *,
    devices: int,
    rate: float | Literal["max"],
    count: int | None = None,
    duration_seconds: float | None = None,
    seed: int = DEFAULT_SEED,
    start: datetime | None = None,
    interval_seconds: float | None = None,
) -> SimulationPlan:
    """Check a simulation before anything is contacted.

    Args:
        devices: how many devices send, in turn, named device_1 to device_N.
        rate: messages per second of the whole fleet, or "max".
        count: messages to send; or `duration_seconds`, how long to send. Neither: until stopped.
        seed: same seed and same start, same readings.
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
        duration_seconds is None or 0 < duration_seconds <= 366 * 86_400,
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
    interval_us = _interval_us(devices, per_second, interval_seconds, start is not None)
    plan = SimulationPlan(
        devices=devices,
        seed=seed,
        rate=per_second,
        interval_us=interval_us,
        start_us=None if start is None else to_us(start),
        count=count,
        duration_seconds=duration_seconds,
    )
    _expect_readable_times(plan)
    return plan


def parse_rate(text: str) -> float | Literal["max"]:
    """Read a rate as people write it: a number of messages per second, or max."""
    if text.strip().lower() == "max":
        return "max"
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"rate {text!r}: expected max, or messages a second") from None


def parse_start(text: str) -> datetime:
    """Read an instant in ISO 8601 with its zone."""
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        start = None
    if start is None or start.tzinfo is None:
        raise ConfigurationError(
            f"start {text!r}: expected a time with its zone, such as 2026-01-31T00:00:00+00:00"
        )
    return start


def to_us(instant: datetime) -> int:
    """Microseconds since 1970 of an aware instant, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _interval_us(
    devices: int, rate: float | None, interval_seconds: float | None, is_backfill: bool
) -> Fraction:
    """Event time between two readings of one device, checked against the millisecond."""
    if interval_seconds is not None:
        _expect(
            SHORTEST_INTERVAL_US / _SECOND_US <= interval_seconds <= 366 * 86_400,
            f"interval {interval_seconds} s: expected 0.001 s to a year; "
            "the table keeps one reading per device and millisecond",
        )
        return Fraction(repr(interval_seconds)) * _SECOND_US
    if rate is None:
        return Fraction(_SECOND_US if is_backfill else SHORTEST_INTERVAL_US)
    interval_us = devices * _SECOND_US / Fraction(repr(rate))
    _expect(
        interval_us >= SHORTEST_INTERVAL_US,
        f"rate {rate:g} over {devices} devices is more than one reading per device and "
        f"millisecond, which is all that the table keeps: at most {devices * 1000:,} messages a "
        f"second, or at least {math.ceil(rate / 1000):,} devices",
    )
    return interval_us


def _expect_readable_times(plan: SimulationPlan) -> None:
    """Ingestion takes event times between 2000 and 2100: others would all be dead letters."""
    if plan.start_us is None:
        _expect(
            -plan.begin_us(0) <= _LONGEST_LOOK_BACK_US,
            "at rate max a reading per device takes a millisecond of event time, and this one "
            "would begin more than ten years ago: more devices, a shorter duration, or a start",
        )
        return
    end_us = plan.start_us
    if plan.count is not None:
        end_us += int(plan.interval_us * math.ceil(plan.count / plan.devices))
    _expect(
        plan.start_us >= EARLIEST_SECONDS * _SECOND_US and end_us < LATEST_SECONDS * _SECOND_US,
        "event times from the start on, one interval apart: expected all of them between 2000 "
        "and 2100; others are not accepted as readings",
    )


def _expect(is_right: bool, otherwise: str) -> None:
    if not is_right:
        raise ConfigurationError(f"simulation: {otherwise}")
