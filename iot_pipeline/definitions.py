"""Everything Dagster knows of this pipeline. Opens no connection: pages load while all is down.

`defs` is the pipeline of the process's environment. A team that has its own Dagster, or several
pipelines, merges `build_definitions([Pipeline(...), ...])` with its own (docs/your-dagster.md).

Two settings are read here: the topic's name, because it names the lanes of `ingest` and `rollups`,
and the first day of the rollups' partitions, which is a file's where no setting says it.
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from iot_pipeline.defs.alerts import build_alerts
from iot_pipeline.defs.audit import build_audit
from iot_pipeline.defs.checks import build_checks
from iot_pipeline.defs.external import audited_days_spec, dead_letters_spec, topic_spec
from iot_pipeline.defs.history import build_purge
from iot_pipeline.defs.ingest import build_ingest
from iot_pipeline.defs.ingest_sensor import build_ingest_sensor
from iot_pipeline.defs.launchpad import EXECUTOR
from iot_pipeline.defs.pipeline import Pipeline, refuse_shared
from iot_pipeline.defs.plan_ahead import build_plan_ahead
from iot_pipeline.defs.replay import build_replays
from iot_pipeline.defs.report import build_health_report
from iot_pipeline.defs.resources import CassandraResource, KafkaResource
from iot_pipeline.defs.rollup_sensor import build_rollup_sensor
from iot_pipeline.defs.rollups import build_rollups, first_rollup_day
from iot_pipeline.defs.schema import build_setup_schema
from iot_pipeline.defs.simulation import build_simulate


def build_definitions(
    pipelines: Sequence[Pipeline] = (), resources: Mapping[str, object] | None = None
) -> dg.Definitions:
    """All assets, checks, jobs, sensors and schedules of some pipelines.

    To be merged with others: there is no executor for assets that are materialized without a job of
    theirs, and no resource but `kafka` and `cassandra`, with the pipeline's name before them.

    Args:
        pipelines: none: that of the environment.
        resources: those in place of the default ones, by name.

    Raises:
        ConfigurationError: a setting is wrong, or two pipelines would share data.
    """
    chosen = pipelines or (Pipeline(),)
    refuse_shared(chosen)
    return dg.Definitions.merge(
        *(_definitions_of(pipeline) for pipeline in chosen),
        dg.Definitions(resources={**_resources_of(chosen), **(resources or {})}),
    )


def _resources_of(pipelines: Sequence[Pipeline]) -> dict[str, object]:
    return {
        pipeline.called(name): resource
        for pipeline in pipelines
        for name, resource in (("kafka", KafkaResource()), ("cassandra", CassandraResource()))
    }


def _definitions_of(pipeline: Pipeline) -> dg.Definitions:
    first_day = first_rollup_day(pipeline.settings())
    sensor_data, ingest = build_ingest(pipeline)
    lag_sensor, ingest_on_schedule = build_ingest_sensor(pipeline)
    rollups, rollups_job = build_rollups(pipeline, first_day)
    audit, audit_nightly = build_audit(pipeline)
    checks, checks_every_5_minutes = build_checks(pipeline)
    health_report, health_report_daily = build_health_report(pipeline)
    purge_history, purge_daily = build_purge(pipeline)
    return dg.Definitions(
        assets=[
            topic_spec(pipeline),
            sensor_data,
            rollups,
            dead_letters_spec(pipeline),
            audited_days_spec(pipeline),
        ],
        jobs=[
            build_setup_schema(pipeline),
            build_simulate(pipeline),
            ingest,
            rollups_job,
            *build_replays(pipeline),
            build_plan_ahead(pipeline),
            audit,
            checks,
            health_report,
            purge_history,
        ],
        sensors=[lag_sensor, build_rollup_sensor(pipeline, first_day), build_alerts(pipeline)],
        schedules=[
            ingest_on_schedule,
            checks_every_5_minutes,
            audit_nightly,
            health_report_daily,
            purge_daily,
        ],
    )


defs = dg.Definitions.merge(build_definitions(), dg.Definitions(executor=EXECUTOR))
