"""The six checks on the devices' own readings: what they are called, and where their facts are.

A run brings them with it, from the readings that it has seen pass; on their own, from the Checks
tab or every five minutes, they look at what runs have kept, and at rows for what that does not
tell.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from iot_pipeline.connections import Connections, quality_limits
from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.fleet_verdicts import (
    CLOCKS,
    COMPLETE,
    NOT_STUCK,
    ON_TIME,
    PLAUSIBLE,
    REPORTING,
    judge_fleet,
)
from iot_pipeline.core.lag import PartitionLag, total_lag
from iot_pipeline.defs.names import SENSOR_DATA
from iot_pipeline.stages.fleet_keeper import FleetKeeper, look_at_fleet

QUALITY_SPECS = [
    dg.AssetCheckSpec(
        PLAUSIBLE,
        asset=SENSOR_DATA,
        description=(
            "Temperature and humidity within IOT_PLAUSIBLE_*, changing no faster than IOT_JUMP_*, "
            "and in agreement with devices of the same group."
        ),
    ),
    dg.AssetCheckSpec(
        REPORTING,
        asset=SENSOR_DATA,
        description=(
            "No device has been silent for longer than its own cadence allows; those that are, "
            "since when. By the broker's clock, so a wrong clock is not silence."
        ),
    ),
    dg.AssetCheckSpec(
        ON_TIME,
        asset=SENSOR_DATA,
        description=(
            "How long readings take from event to broker, and from broker to row: p50, p95, most; "
            "late devices by group, against IOT_LATE_SECONDS."
        ),
    ),
    dg.AssetCheckSpec(
        NOT_STUCK,
        asset=SENSOR_DATA,
        description=(
            "No device repeats both of its values, to the last digit, for IOT_STUCK_READINGS and "
            "IOT_STUCK_SECONDS."
        ),
    ),
    dg.AssetCheckSpec(
        CLOCKS,
        asset=SENSOR_DATA,
        description=(
            "No reading was measured after it arrived (IOT_CLOCK_AHEAD_SECONDS), and no device is "
            "behind by always the same time."
        ),
    ),
    dg.AssetCheckSpec(
        COMPLETE,
        asset=SENSOR_DATA,
        description=(
            "Readings received against those expected, per device and hour of the last day, "
            "against IOT_COMPLETE_SHARE; a run judges the last hour and the current one."
        ),
    ),
]
QUALITY_CHECKS = frozenset(spec.name for spec in QUALITY_SPECS)


def judge_quality(
    connections: Connections,
    lags: Sequence[PartitionLag],
    budget_seconds: float,
    keeper: FleetKeeper | None = None,
) -> list[CheckVerdict]:
    """The six verdicts.

    Args:
        connections: clients.
        lags: of ingestion, read just now.
        budget_seconds: about how long rows may be asked.
        keeper: what a run saw of its own readings; None: on its own.
    """
    now, lag = datetime.now(UTC), total_lag(lags).lag_seconds
    if keeper is not None:
        return judge_fleet(keeper.look(now, lag, budget_seconds))
    limits = quality_limits(connections.settings)
    return judge_fleet(look_at_fleet(connections.fleet_ports, limits, now, lag, budget_seconds))
