"""The health report as a job: one page that a person reads, and a schedule that makes it daily."""

from pathlib import Path

import dagster as dg

from iot_pipeline.core.checks.device_table import as_cell
from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.report import Health, Mood
from iot_pipeline.core.words import plain
from iot_pipeline.defs.launchpad import job_of, schedule_of
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import connected
from iot_pipeline.report import write_report

_SIGNS = {Mood.GOOD: "✅", Mood.LOOK: "⚠️", Mood.BAD: "❌"}


def build_health_report(
    pipeline: Pipeline,
) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job, and the schedule that launches it each morning."""

    @dg.op(
        name=pipeline.called("write_health_report"),
        out=dg.Out(dg.Nothing),
        description="Look at everything, run every check, write one page; changes nothing else.",
        required_resource_keys=pipeline.resource_keys,
    )
    def write_health_report(context: dg.OpExecutionContext) -> None:
        with connected(context, pipeline) as connections:
            written = write_report(connections)
        _tell(context, *written)

    health_report = job_of(
        pipeline,
        write_health_report,
        name="health_report",
        description=(
            "Write one page that says how everything is: is every message stored, who is silent, "
            "how late readings come, what was refused, what to do. Into reports/ of the data "
            "folder, with its pictures inside. Reads only; safe beside ingestion."
        ),
        max_seconds=900,
    )
    health_report_daily = schedule_of(
        pipeline,
        health_report,
        name="health_report_daily",
        cron="0 6 * * *",
        description="Writes the health report each morning, 06:00 UTC.",
    )
    return health_report, health_report_daily


def _tell(context: dg.OpExecutionContext, health: Health, path: Path, latest: Path) -> None:
    """The page is a file on the machine that executes the run; its path is in the metadata."""
    fleet = health.view.fleet
    lines = ["| question | answer |", "|---|---|"]
    lines += [
        f"| {_SIGNS[answer.mood]} {answer.question} | {as_cell(answer.answer)} |"
        for answer in health.answers
    ]
    lines += [f"- **{verdict.name}**: {plain(verdict.sentence)}" for verdict in health.red]
    context.add_output_metadata(
        {
            "report": dg.MetadataValue.path(str(path)),
            "link": dg.MetadataValue.url(path.as_uri()),
            "latest": dg.MetadataValue.url(latest.as_uri()),
            "in_words": dg.MetadataValue.md("\n".join(lines)),
            "checks_red": len(health.red),
            "devices_known": fleet.known,
            "devices_silent": len(fleet.problems[Trouble.SILENT]),
            "devices_with_problems": len(fleet.worst),
            "late_p95_seconds": round(fleet.delays.percentile(0.95), 3),
            "rejected_last_day": health.view.flow.rejected,
        }
    )
    context.log.info("%s: %s", path, "; ".join(a.answer for a in health.answers))
