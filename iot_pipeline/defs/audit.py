"""The audit as a job, and the schedule that audits each day once it is over.

Its run fails when something is lost, torn or stray, and says which offsets and the command that
repairs them; the counts are observed on the table of readings, where they plot.
"""

from collections.abc import Iterator
from datetime import UTC, date, timedelta
from typing import Self

import dagster as dg
from pydantic import Field, model_validator

from iot_pipeline.connections import Connections
from iot_pipeline.core.checks.device_table import as_command
from iot_pipeline.core.proof.audit_result import DEFECTS, AuditResult, Fate, conclude
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.rollups.day_grid import DayGrid, DayState
from iot_pipeline.core.times import in_words, parse_day
from iot_pipeline.core.words import plain
from iot_pipeline.defs.lanes import format_ranges
from iot_pipeline.defs.launchpad import Asked, RangeConfig, as_ranges, job_of
from iot_pipeline.defs.names import RANGES
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import NowAndThen, connected
from iot_pipeline.errors import ConfigurationError, PipelineError
from iot_pipeline.stages.proof.audit import AuditProgress, audit
from iot_pipeline.stages.proof.choosing import choose_day, choose_ranges
from iot_pipeline.stages.rollups.day_grid import read_grid

Events = Iterator[dg.AssetMaterialization | dg.AssetObservation | dg.Output[None]]
_SHOWN = 5


class AuditJobConfig(Asked):
    """What to audit. Empty: all of the ledger, and every partition of the table."""

    ranges: dict[str, RangeConfig] = Field({})
    """These offsets, by Kafka partition: {'0': {start: 100, end: 200}}."""
    day: str | None = None
    """Or this UTC day, such as 2026-01-31: what arrived on it, and all that has readings of it."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.ranges and self.day is not None:
            raise ConfigurationError("say what to audit: ranges, or day, or neither for all")
        if self.day is not None:
            parse_day(self.day)
        as_ranges(self.ranges)
        return self

    def offset_ranges(self, connections: Connections) -> list[OffsetRange]:
        if self.ranges:
            return as_ranges(self.ranges)
        if (day := self.asked_day) is not None:
            return choose_day(connections.audit_ports, day)
        return choose_ranges(connections.audit_ports)

    @property
    def asked_day(self) -> date | None:
        return None if self.day is None else parse_day(self.day).date()


def build_audit(pipeline: Pipeline) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job, and the schedule that audits each day once it is over."""

    @dg.op(
        name=pipeline.called("audit_readings"),
        out=dg.Out(dg.Nothing),
        description="Read topic and table again; say what became of every offset.",
        required_resource_keys=pipeline.resource_keys,
    )
    def audit_readings(context: dg.OpExecutionContext, config: AuditJobConfig) -> Events:
        with connected(context, pipeline) as connections:
            result = _audit(context, config, connections)
            grid = _grid_now(context, connections)
        if grid is not None:
            yield _kept(grid, pipeline.audited_days)
        yield from _report(context, result, pipeline.sensor_data)

    audit_job = job_of(
        pipeline,
        audit_readings,
        name="audit",
        config=AuditJobConfig,
        description=(
            "Read a part of the topic and the table again, independently of ingestion, and say "
            "what became of every offset. Fails when something is lost, torn or stray, with the "
            "command that repairs it. Changes nothing; safe beside ingestion."
        ),
        max_seconds=14_400,
    )

    @dg.schedule(
        name=pipeline.called("audit_nightly"),
        job=audit_job,
        cron_schedule="15 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Audits the UTC day that is over: what arrived on it, and its readings.",
    )
    def audit_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
        return dg.RunRequest(run_config={"day": str(day)})

    return audit_job, audit_nightly


def _audit(
    context: dg.OpExecutionContext, config: AuditJobConfig, connections: Connections
) -> AuditResult:
    """Changes nothing; what it proved is kept in Cassandra."""
    say = NowAndThen(context)

    def tell(so_far: AuditProgress) -> None:
        seconds = so_far.eta_seconds
        left = "" if seconds is None else f", about {in_words(seconds)} left"
        say(f"{so_far.step}: {so_far.done:,} of {so_far.total:,}, {so_far.rate:,.0f}/s{left}")

    ranges = config.offset_ranges(connections)
    context.instance.add_run_tags(context.run.run_id, {RANGES: format_ranges(ranges)})
    return audit(
        ranges,
        connections.audit_ports,
        f"audit-{context.run.run_id}",
        every_place=not (config.ranges or config.day),
        day=config.asked_day,
        on_progress=tell,
    )


def _grid_now(context: dg.OpExecutionContext, connections: Connections) -> DayGrid | None:
    """The days as of now; None, and a warning, where they cannot be read: findings count more."""
    try:
        return read_grid(connections.rollup_ports, connections.audits, connections.settings.topic)
    except PipelineError as error:
        context.log.warning("which days are proven is not shown: %s", error)
        return None


def _kept(grid: DayGrid, asset_key: dg.AssetKey) -> dg.AssetMaterialization:
    """What the asset of the days shows until the next audit."""
    states = {f"days_{state.value.replace(' ', '_')}": grid.states[state] for state in DayState}
    return dg.AssetMaterialization(
        asset_key=asset_key,
        description="Which days of readings are proven",
        metadata={
            "days": dg.MetadataValue.md(grid.markdown()),
            **states,
            "days_older": grid.older,
        },
    )


def _report(context: dg.OpExecutionContext, result: AuditResult, asset_key: dg.AssetKey) -> Events:
    numbers: dict[str, int | float] = {
        **{fate.value: result.fates[fate] for fate in Fate},
        "offsets": result.offsets,
        "seconds": round(result.seconds, 3),
    }
    # Yielded, not logged: what an op logs as events is dropped when it fails.
    yield dg.AssetObservation(
        asset_key=asset_key,
        description="What an audit found of every offset",
        metadata={f"audit_{name}": number for name, number in numbers.items()},
    )
    words = dg.MetadataValue.md(_page(result))
    for finding, command in result.repairs:
        context.log.error("%s%s", finding, f" -> {command}" if command else "")
    if result.is_clean:
        for sentence in conclude(result):
            context.log.info("%s", sentence)
        yield dg.Output(None, metadata={**numbers, "in_words": words})
        return
    defects = ", ".join(f"{result.fates[fate]:,} {fate.value}" for fate in DEFECTS)
    first = "; ".join(
        f"{item} -> `{command}`" if command else str(item)
        for item, command in result.repairs[:_SHOWN]
    )
    raise dg.Failure(
        description=f"auditing {format_ranges(result.ranges)}: {defects}. {first}. "
        "docs/runbook.md says what each means",
        metadata={**numbers, "in_words": words},
        allow_retries=False,
    )


def _page(result: AuditResult) -> str:
    lines = [*(f"- {plain(sentence)}" for sentence in conclude(result)), ""]
    lines += ["| fate | offsets |", "|---|---:|"]
    lines += [f"| {fate.value} | {result.fates[fate]:,} |" for fate in Fate]
    if not result.is_stray_judged:
        lines += ["", "Rows without a record were not looked for: not every partition was read."]
    lines += [
        f"- {plain(str(item))}{f': {as_command(command)}' if command else ''}"
        for item, command in result.repairs
    ]
    return "\n".join(lines)
