"""The job that makes topics, keyspace and tables: the first thing a newcomer launches."""

import dagster as dg

from iot_pipeline.connections import Connections
from iot_pipeline.defs.launchpad import job_of
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import connected
from iot_pipeline.stages.checks import acknowledged_is_durable


def build_setup_schema(pipeline: Pipeline) -> dg.JobDefinition:
    @dg.op(
        name=pipeline.called("make_topics_and_tables"),
        description="Make topics, keyspace and tables where they are missing; check all of them.",
        required_resource_keys=pipeline.resource_keys,
    )
    def make_topics_and_tables(context: dg.OpExecutionContext) -> None:
        with connected(context, pipeline) as connections:
            _set_up(context, connections)

    return job_of(
        pipeline,
        make_topics_and_tables,
        name="setup_schema",
        description=(
            "Make the topics, the keyspace and the tables where they are missing, and check those "
            "that are there. Safe at any time, also twice; alters and deletes nothing."
        ),
        max_seconds=600,
    )


def _set_up(context: dg.OpExecutionContext, connections: Connections) -> None:
    """Idempotent; two at once wait for each other."""
    report = connections.set_up(lambda step: context.log.info("setup: %s", step))
    log = context.log.info if report.is_durable else context.log.warning
    for sentence in report.sentences():
        log("%s", sentence)
    context.add_output_metadata(
        {
            "created": len(report.created),
            "differences": len(report.differences),
            acknowledged_is_durable.CHECK.name: report.is_durable,
            "durability": report.durability,
        }
    )
