"""The job that makes topics, keyspace and tables: the first thing a newcomer launches."""

import dagster as dg

from iot_pipeline.defs.launchpad import job_of
from iot_pipeline.defs.resources import CassandraResource, KafkaResource, connected
from iot_pipeline.stages.checks import acknowledged_is_durable


@dg.op(description="Make topics, keyspace and tables where they are missing; check all of them.")
def make_topics_and_tables(
    context: dg.OpExecutionContext, kafka: KafkaResource, cassandra: CassandraResource
) -> None:
    """Idempotent; two at once wait for each other."""
    with connected(kafka, cassandra) as connections:
        report = connections.set_up(lambda step: context.log.info("setup: %s", step))
    is_safe = report.is_durable and not any(risk.severity for risk in report.topic_risks)
    log = context.log.info if is_safe else context.log.warning
    for sentence in report.sentences():
        log("%s", sentence)
    context.add_output_metadata(
        {
            "created": len(report.created),
            "differences": len(report.differences),
            "topic_risks": len(report.topic_risks),
            acknowledged_is_durable.CHECK.name: report.is_durable,
            "durability": report.durability,
        }
    )


setup_schema = job_of(
    make_topics_and_tables,
    name="setup_schema",
    description=(
        "Make the topics, the keyspace and the tables where they are missing, and check those that "
        "are there. Safe at any time, also twice; alters and deletes nothing."
    ),
    max_seconds=600,
)
