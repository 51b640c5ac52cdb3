"""The checks on `iot/sensor_data` in Dagster: their specs, and looking at them on their own.

What they are is `stages.checks`; which row of them a person sees is `defs.verdicts`. A run brings
them with it, within a tenth of its time; on their own, from the Checks tab or every five minutes,
they take the time they need (IOT_CHECK_SECONDS).
"""

from collections.abc import Collection
from datetime import UTC, datetime

import dagster as dg

from iot_pipeline.connections import Connections
from iot_pipeline.core.words import plain
from iot_pipeline.defs.launchpad import job_of
from iot_pipeline.defs.names import SENSOR_DATA
from iot_pipeline.defs.resources import CassandraResource, KafkaResource, connected
from iot_pipeline.defs.verdicts import (
    Shown,
    choose_shown,
    log_shown,
    read_shown,
    show_now,
    suspects_of,
)
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import checks_of, look_at

CHECK_SPECS = [
    dg.AssetCheckSpec(
        check.name, asset=SENSOR_DATA, blocking=check.is_blocking, description=plain(check.question)
    )
    for check in checks_of()
]
CHECK_KEYS = [spec.key for spec in CHECK_SPECS]


def look_alone(
    connections: Connections, instance: dg.DagsterInstance, names: Collection[str] | None = None
) -> list[Shown]:
    """What is to be shown of these checks (None: of all) after a look at all there is."""
    now, before = datetime.now(UTC), read_shown(instance)
    chosen = [check for check in checks_of() if names is None or check.name in names]
    verdicts = look_at(chosen, Facts(connections, now, suspects=suspects_of(before)))
    return choose_shown(verdicts, before, now, is_whole=True, checks=chosen)


@dg.op(description="Look at everything, and say how each check stands; changes nothing else.")
def look_at_all_checks(
    context: dg.OpExecutionContext, kafka: KafkaResource, cassandra: CassandraResource
) -> None:
    """No check is selected for the run: it would read "in progress" from being queued on."""
    with connected(kafka, cassandra) as connections:
        shown = look_alone(connections, context.instance)
        show_now(
            context.instance,
            shown,
            # Dagster's annotation leaves out what the method takes.
            lambda evaluation: context.log_event(evaluation),  # type: ignore[arg-type]
        )
    log_shown(context, shown)


checks_job = job_of(
    look_at_all_checks,
    name="checks",
    description=(
        "Run every check on the readings without ingesting anything: the whole ledger, the rows "
        "of the last hour's days, lag, tables and topics. Reads only; safe beside ingestion."
    ),
    max_seconds=900,
)

checks_every_5_minutes = dg.ScheduleDefinition(
    name="checks_every_5_minutes",
    job=checks_job,
    cron_schedule="*/5 * * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Runs all checks whether or not anything is ingested: silence is noticed too.",
)
