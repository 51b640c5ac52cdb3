"""Send a simulated fleet: paced, confirmed, and stopped at any moment with the true count.

Belongs here: the order of sending, waiting and counting. Does not belong here: what is sent
(`core.simulator.fleet`), when it is due (`core.simulator.pacing`), how Kafka takes it
(`clients.kafka_producer`).
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from iot_pipeline.core.simulator.fleet import Fleet
from iot_pipeline.core.simulator.pacing import LONGEST_PAUSE_SECONDS, Pacer
from iot_pipeline.core.simulator.simulation import SimulationPlan
from iot_pipeline.stages.simulator.sending import (
    PROGRESS_SECONDS,
    STOP_SECONDS,
    CountingSender,
    SendingRun,
    SimulationResult,
    ignore,
    never,
)

__all__ = ["PROGRESS_SECONDS", "STOP_SECONDS", "ReadingSender", "SimulationResult", "simulate"]
# At most some milliseconds of work between two looks at `should_stop`.
_CHUNK = 2_000


class ReadingSender(CountingSender, Protocol):
    """Where readings go, as (message key, value) pairs."""

    def send(self, messages: Sequence[tuple[str, bytes]]) -> int:
        """Hand over (message key, value) pairs in order; returns how many found room."""


def simulate(
    sender: ReadingSender,
    plan: SimulationPlan,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
    should_stop: Callable[[], bool] = never,
    on_progress: Callable[[SimulationResult], None] = ignore,
    result: SimulationResult | None = None,
) -> SimulationResult:
    """Send what the plan says and wait until every message is confirmed.

    Args:
        sender: takes the messages; its counts start at zero.
        plan: made by `core.simulator.simulation.plan_simulation`.
        clock: monotonic seconds; paces the messages.
        sleep: rests for so many seconds, 0.1 at most at a time.
        now: seconds since 1970; asked once, for the event times of a live fleet.
        should_stop: asked at least every 0.1 s; once True, sending ends at once and what was
            sent has `STOP_SECONDS` to be confirmed.
        on_progress: called about four times a second, and at the end however it ends.
        result: filled in place, for who must know the count after an exception.

    Returns:
        `result`. At a set rate it lasts count / rate seconds: the last message has its share.

    Raises:
        KafkaUnavailableError: messages could not be delivered.
        PermanentError: the broker refuses them.
        BaseException: KeyboardInterrupt and Dagster's interruption pass through; `result` and
            `on_progress` have the true count before they do.
    """
    if result is None:
        result = SimulationResult()
    now_us = round(now() * 1e6)
    result.start_us = plan.begin_us(now_us)
    # 5 µs a device: before the clock starts, or the first tick of a large fleet would be late.
    fleet = plan.fleet(now_us)
    run = SendingRun(sender, clock, should_stop, on_progress, result)
    try:
        if plan.rate is None:
            _send_at_max(run, sender, fleet, plan)
        else:
            _send_paced(run, sender, fleet, plan.rate, plan.count, sleep)
        run.confirm()
    finally:
        run.end()
    return result


def _send_at_max(
    run: SendingRun, sender: ReadingSender, fleet: Fleet, plan: SimulationPlan
) -> None:
    first = 0
    pending: Sequence[tuple[str, bytes]] = ()
    while not run.must_stop():
        if plan.duration_seconds is not None and run.elapsed() >= plan.duration_seconds:
            return
        if not pending:
            wanted = _CHUNK if plan.count is None else min(_CHUNK, plan.count - first)
            if wanted == 0:
                return
            pending = fleet.messages(first, wanted)
            first += wanted
        pending = _hand_over(sender, pending)
        run.look()


def _send_paced(
    run: SendingRun,
    sender: ReadingSender,
    fleet: Fleet,
    rate: float,
    count: int | None,
    sleep: Callable[[float], None],
) -> None:
    pacer = Pacer(rate, count)
    first = 0
    pending: Sequence[tuple[str, bytes]] = ()
    while not run.must_stop():
        elapsed = run.elapsed()
        if count is not None and first == count and not pending and elapsed >= count / rate:
            return
        if not pending:
            wanted = min(pacer.due(elapsed, first), _CHUNK)
            pending = fleet.messages(first, wanted) if wanted else ()
            first += wanted
        if pending:
            pending = _hand_over(sender, pending)
        run.look()
        if not pending:
            sleep(pacer.pause_seconds(run.elapsed(), first))


def _hand_over(
    sender: ReadingSender, messages: Sequence[tuple[str, bytes]]
) -> Sequence[tuple[str, bytes]]:
    """Hand over what finds room, wait for room if there was none; returns the rest."""
    taken = sender.send(messages)
    rest = messages[taken:]
    if rest:
        sender.poll(LONGEST_PAUSE_SECONDS)
    return rest
