"""The job that sends a simulated fleet's readings to the topic.

What was asked for is checked when the run is launched: nonsense never becomes a run.
"""

import time
from typing import Literal

import dagster as dg
from pydantic import Field

from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.core.simulation import (
    DEFAULT_SEED,
    MAX_COUNT,
    MAX_DEVICES,
    MAX_RATE,
    SimulationPlan,
    parse_start,
    plan_simulation,
)
from iot_pipeline.defs.failures import failing_with_advice
from iot_pipeline.defs.launchpad import checked_config
from iot_pipeline.defs.names import MAX_RUNTIME, NO_RETRY
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulation import SimulationResult
from iot_pipeline.stages.simulation import simulate as send_fleet

MAX_SECONDS = 86_400
_LOG_EVERY_SECONDS = 2.0


class SimulateConfig(dg.Config):
    """A fleet of devices that send in turn, for a time or a number of messages."""

    devices: int = Field(
        default=50,
        ge=1,
        le=MAX_DEVICES,
        description=f"How many devices send, 1 to {MAX_DEVICES:,}.",
    )
    rate: float = Field(
        default=50.0,
        ge=0.001,
        le=MAX_RATE,
        description=f"Messages a second of the whole fleet, 0.001 to {MAX_RATE:,.0f}.",
    )
    as_fast_as_possible: bool = Field(
        default=False, description="Send without a pause, and ignore rate."
    )
    seconds: float = Field(
        default=60.0,
        gt=0,
        le=MAX_SECONDS,
        description=f"How long to send, up to {MAX_SECONDS:,} seconds. Terminate ends it sooner.",
    )
    messages: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
        description="Send so many messages instead, however long it takes within a day.",
    )
    seed: int = Field(default=DEFAULT_SEED, description="Same seed and same start, same readings.")
    start: str | None = Field(
        default=None,
        description=(
            "Event time of the first reading, such as 2026-01-31T00:00:00+00:00, to backfill; "
            "empty: now."
        ),
    )
    interval_seconds: float | None = Field(
        default=None,
        gt=0,
        description="With start: event time between two readings of one device, in seconds.",
    )

    def plan(self) -> SimulationPlan:
        """What this asks for.

        Raises:
            ConfigurationError: fields that are fine alone and make no sense together.
        """
        rate: float | Literal["max"] = "max" if self.as_fast_as_possible else self.rate
        return plan_simulation(
            devices=self.devices,
            rate=rate,
            count=self.messages,
            duration_seconds=self.seconds if self.messages is None else None,
            seed=self.seed,
            start=None if self.start is None else parse_start(self.start),
            interval_seconds=self.interval_seconds,
        )


@dg.op(description="Send the readings of a simulated fleet to the topic, paced and confirmed.")
def send_readings(context: dg.OpExecutionContext, config: SimulateConfig) -> None:
    """Ends with the true count, also when it is terminated."""
    settings = Settings.from_env()
    result = SimulationResult()
    told_at = time.monotonic()

    def tell(so_far: SimulationResult) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _LOG_EVERY_SECONDS:
            told_at = time.monotonic()
            context.log.info(
                "%s messages acknowledged, %s a second",
                f"{so_far.acknowledged:,}",
                f"{so_far.rate:,.0f}",
            )

    is_complete = False
    with failing_with_advice():
        plan = config.plan()
        try:
            with open_sender(settings.bootstrap_servers, settings.topic) as sender:
                send_fleet(sender, plan, on_progress=tell, result=result)
            is_complete = True
        finally:
            # Also when it was terminated or failed: what was acknowledged is in the topic.
            context.log.info(
                "%s: %s messages acknowledged, %s failed, %s unconfirmed, in %.1f s (%s a second)",
                "done" if is_complete else "ended before its time",
                f"{result.acknowledged:,}",
                result.failed,
                result.unconfirmed,
                result.seconds,
                f"{result.rate:,.0f}",
            )
    context.add_output_metadata(
        {
            "acknowledged": result.acknowledged,
            "devices": config.devices,
            "seconds": round(result.seconds, 3),
            "messages_per_second": round(result.rate, 1),
        }
    )


@dg.job(
    config=checked_config(SimulateConfig, "send_readings", SimulateConfig.plan),
    description=(
        "Send the readings of a simulated fleet to the topic. The log shows how far it is; "
        "Terminate ends it within a second, with the true count."
    ),
    tags={MAX_RUNTIME: str(MAX_SECONDS + 600), **NO_RETRY},
)
def simulate() -> None:
    send_readings()
