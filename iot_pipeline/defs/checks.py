"""The checks on the table of readings in Dagster: their specs, and looking at them on their own.

What they are is `stages.checks`; which row of them a person sees is `defs.verdicts`. A run brings
them with it, within a tenth of its time; on their own, from the Checks tab or every five minutes,
they take the time they need (IOT_CHECK_SECONDS).
"""

from collections.abc import Collection
from datetime import UTC, datetime

import dagster as dg

from iot_pipeline.connections import Connections
from iot_pipeline.core.words import plain
from iot_pipeline.defs.launchpad import job_of, schedule_of
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import connected
from iot_pipeline.defs.verdicts import (
    Shown,
    Verdicts,
    choose_shown,
    log_shown,
    suspects_of,
)
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import checks_of, look_at


def check_specs(pipeline: Pipeline) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            check.name,
            asset=pipeline.sensor_data,
            blocking=check.is_blocking,
            description=plain(check.question),
        )
        for check in checks_of()
    ]


def look_alone(
    connections: Connections, verdicts: Verdicts, names: Collection[str] | None = None
) -> list[Shown]:
    """What is to be shown of these checks (None: of all) after a look at all there is."""
    now, before = datetime.now(UTC), verdicts.read()
    chosen = [check for check in checks_of() if names is None or check.name in names]
    found = look_at(chosen, Facts(connections, now, suspects=suspects_of(before)))
    return choose_shown(found, before, now, is_whole=True, checks=chosen)


def build_checks(pipeline: Pipeline) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job that looks at all of them, and the schedule that launches it."""

    @dg.op(
        name=pipeline.called("look_at_all_checks"),
        description="Look at everything, and say how each check stands; changes nothing else.",
        required_resource_keys=pipeline.resource_keys,
    )
    def look_at_all_checks(context: dg.OpExecutionContext) -> None:
        """No check is selected for the run: it would read "in progress" from being queued on."""
        verdicts = Verdicts(context.instance, pipeline.sensor_data)
        with connected(context, pipeline) as connections:
            shown = look_alone(connections, verdicts)
            verdicts.show_now(
                shown,
                # Dagster's annotation leaves out what the method takes.
                lambda evaluation: context.log_event(evaluation),  # type: ignore[arg-type]
            )
        log_shown(context, shown)

    checks_job = job_of(
        pipeline,
        look_at_all_checks,
        name="checks",
        description=(
            "Run every check on the readings without ingesting anything: the whole ledger, the "
            "rows of the last hour's days, lag, tables and topics. Reads only; safe beside "
            "ingestion."
        ),
        max_seconds=900,
    )
    checks_every_5_minutes = schedule_of(
        pipeline,
        checks_job,
        name="checks_every_5_minutes",
        cron="*/5 * * * *",
        description="Runs all checks whether or not anything is ingested: silence is noticed too.",
    )
    return checks_job, checks_every_5_minutes
