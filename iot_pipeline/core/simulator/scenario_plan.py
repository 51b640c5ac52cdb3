"""When a scenario takes place: what a person asks for in, a plan or a clear refusal out.

Belongs here: which event times, and how fast they pass. Does not belong here: what is measured
(`core.simulator.scenario_fleet`), what a file may say (`core.simulator.scenarios`).
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from iot_pipeline.core.reading.decoding import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    ReadingRules,
    Reason,
)
from iot_pipeline.core.simulator.fault_specs import Malformed
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import Scenario
from iot_pipeline.core.simulator.simulation import MAX_RATE, to_us
from iot_pipeline.core.times import duration_us, exact_span, in_utc
from iot_pipeline.errors import ConfigurationError

MAX_DURATION_US = 366 * 86_400_000_000
# Kafka's clients send a megabyte at most.
_LARGEST_VALUE_BYTES = 900_000


@dataclass(frozen=True, slots=True)
class ScenarioPlan:
    """A scenario with its times; made by `plan_scenario`.

    `speed` is how many seconds of event time pass in a second, None for as fast as can be.
    `start_us` is the event time it begins with, None for one that ends up at now.
    """

    scenario: Scenario
    name: str
    seed: int
    speed: float | None
    start_us: int | None
    duration_us: int

    def begin_us(self, now_us: int) -> int:
        """The first event time when sending starts at `now_us`.

        Faster than live, it lies so far in the past that no event time is ever of the future.
        """
        if self.start_us is not None:
            return self.start_us
        if self.speed is None:
            return now_us - self.duration_us
        return now_us - max(0, math.ceil(self.duration_us * (1 - 1 / self.speed)))

    def fleet(self, now_us: int, rules: ReadingRules) -> ScenarioFleet:
        """The messages of this scenario when sending starts at `now_us`."""
        start_us = self.begin_us(now_us)
        return ScenarioFleet(
            self.scenario,
            seed=self.seed,
            start_us=start_us,
            end_us=start_us + self.duration_us,
            rules=rules,
        )

    @property
    def expected_messages(self) -> int:
        """About how many there will be: faults that add or hold back some are not counted."""
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
) -> ScenarioPlan:
    """Decide the times of a scenario before anything is contacted.

    Args:
        scenario: a valid one, from `core.simulator.scenario_file`.
        name: what it is called, for manifests.
        now: the time, with its zone.
        seed: instead of the scenario's own.
        speed: event time per time: 1 is live, "max" as fast as can be. Default: the scenario's.
        duration_seconds: event time to cover, in seconds. Default: the scenario's.
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
        duration, start, speed = to_us(until) - to_us(since), since, "max"
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
    plan = ScenarioPlan(
        scenario=scenario,
        name=name,
        seed=scenario.seed if seed is None else seed,
        speed=per_second,
        start_us=None if start is None else to_us(start),
        duration_us=duration,
    )
    first = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=plan.begin_us(to_us(now)))
    _expect(
        first.timestamp() >= EARLIEST_SECONDS
        and first.timestamp() + duration / 1e6 < LATEST_SECONDS,
        f"event times from {in_utc(first)} on: expected all of them between 2000 and 2100",
    )
    _expect(
        max_value_bytes <= _LARGEST_VALUE_BYTES or not _sends_too_large(scenario),
        f"IOT_MAX_VALUE_BYTES={max_value_bytes}: a producer cannot send more than that, so "
        f"malformed payloads of reason too_large need at most {_LARGEST_VALUE_BYTES}",
    )
    return plan


def _sends_too_large(scenario: Scenario) -> bool:
    return any(
        isinstance(fault, Malformed) and (not fault.reasons or Reason.TOO_LARGE in fault.reasons)
        for fault in scenario.faults
    )


def _expect(is_right: bool, otherwise: str) -> None:
    if not is_right:
        raise ConfigurationError(f"scenario: {otherwise}")
