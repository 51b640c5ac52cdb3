"""The six checks on the devices' own readings: what they are called, and where their facts are.

A run brings them with it, from its own readings and a short look at the tables; on their own, from
the Checks tab or every five minutes, they look longer, at the tables alone. Whom they found wanting
the last time is looked at first: Dagster's own history remembers it, so a sample does not turn a
check green by chance.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import dagster as dg

from iot_pipeline.clients.device_hours import CassandraDeviceHours
from iot_pipeline.connections import Connections, quality_limits
from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.device_tally import FleetTally
from iot_pipeline.core.lag import PartitionLag, total_lag
from iot_pipeline.core.quality_words import (
    CLOCKS,
    COMPLETE,
    NOT_STUCK,
    ON_TIME,
    PLAUSIBLE,
    REPORTING,
)
from iot_pipeline.defs.names import SENSOR_DATA
from iot_pipeline.defs.words import plain
from iot_pipeline.stages.data_quality import QualityPorts, check_data_quality

# A check's metadata: whom to look at first the next time.
SUSPECTS = "suspects"
# The newest execution is the one under way; a few before it may have ended without a verdict.
_EXECUTIONS = 5

QUALITY_SPECS = [
    dg.AssetCheckSpec(
        PLAUSIBLE,
        asset=SENSOR_DATA,
        description=plain(
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
    observed: FleetTally | None = None,
    suspects: Sequence[str] = (),
) -> list[CheckVerdict]:
    """The six verdicts.

    Args:
        connections: clients.
        lags: of ingestion, read just now.
        budget_seconds: about how long looking at the tables may take.
        observed: what a run saw of its own readings; None: on its own.
        suspects: whom to look at first.
    """
    return check_data_quality(
        QualityPorts(connections.rows, CassandraDeviceHours(connections.cassandra)),
        quality_limits(connections.settings),
        datetime.now(UTC),
        lag_seconds=total_lag(lags).lag_seconds,
        budget_seconds=budget_seconds,
        observed=observed,
        first=suspects,
    )


def last_suspects(instance: dg.DagsterInstance, names: Collection[str]) -> list[str]:
    """Devices that these checks found wanting the last time they were evaluated."""
    found: dict[str, None] = {}
    for name in sorted(QUALITY_CHECKS & set(names)):
        executions = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(SENSOR_DATA, name), limit=_EXECUTIONS
        )
        for execution in executions:
            evaluation = execution.evaluation
            # One that was only planned, or failed before it was judged, remembers nobody.
            if not isinstance(evaluation, dg.AssetCheckEvaluation):
                continue
            value = evaluation.metadata.get(SUSPECTS)
            if value is not None and isinstance(value.value, list):
                found.update((str(device_id), None) for device_id in value.value)
            break
    return list(found)
