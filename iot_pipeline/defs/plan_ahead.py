"""The job that says what an ingest run would do, and writes nothing."""

import dagster as dg
from pydantic import Field

from iot_pipeline.connections import Connections
from iot_pipeline.core.reading.preview import READINGS
from iot_pipeline.core.words import plain
from iot_pipeline.defs.launchpad import Asked, job_of
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import connected


class PlanConfig(Asked):
    """What a run would be asked for. Empty: all that lags."""

    max_records: int | None = Field(None, ge=1)
    """Offsets to drain at most, shared evenly by lagging partitions. Empty: IOT_RUN_MAX_RECORDS."""


def build_plan_ahead(pipeline: Pipeline) -> dg.JobDefinition:
    """The job `ingest_plan`."""

    @dg.op(
        name=pipeline.called("plan_readings"),
        description="Say what would be drained, and what the first records would become.",
        required_resource_keys=pipeline.resource_keys,
    )
    def plan_readings(context: dg.OpExecutionContext, config: PlanConfig) -> None:
        with connected(context, pipeline) as connections:
            _tell(context, config, connections)

    return job_of(
        pipeline,
        plan_readings,
        name="ingest_plan",
        config=PlanConfig,
        description=(
            "Say what a run of the job ingest would drain now: ranges, what the first thousand "
            "records of each Kafka partition would become, fields that are not declared, and what "
            "the tables lack. Writes nothing; safe beside ingestion."
        ),
        max_seconds=600,
    )


def _tell(context: dg.OpExecutionContext, config: PlanConfig, connections: Connections) -> None:
    most = config.max_records or connections.settings.run_max_records
    plan, ahead, differences = connections.plan_ahead(most)
    said = ahead.sentences()
    said += [f"partition {p} would be left: {why}" for p, why in sorted(plan.stopped.items())]
    said += [f"the table: {item}" for item in differences]
    for sentence in said:
        context.log.info("%s", sentence)
    lines = ["| partition | from | to | looked at | readings | refused |", "|---" * 6 + "|"]
    for item in ahead.partitions:
        fates = item.found.fates
        readings = fates[READINGS].records if READINGS in fates else 0
        numbers = (item.range.partition, item.range.start, item.range.end, item.found.records)
        cells = (*numbers, readings, item.found.rejected)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", *(f"- {plain(sentence)}" for sentence in said)]
    context.add_output_metadata(
        {
            "offsets": sum(item.span for item in plan.ingest),
            "looked_at": ahead.records,
            "would_be_refused": ahead.rejected,
            "fields_not_declared": len(ahead.fields.seen),
            "partitions_left": len(plan.stopped),
            "differences": len(differences),
            "in_words": dg.MetadataValue.md("\n".join(lines)),
        }
    )
