"""Everything Dagster knows of this pipeline. Opens no connection: pages load while all is down.

Two settings are read here: the topic's name, because it names the lanes of `ingest` and `rollups`,
and the first day of the rollups' partitions, which is a file's where no setting says it.
"""

from collections.abc import Mapping

import dagster as dg

from iot_pipeline.defs.audit import audit_job, audit_nightly
from iot_pipeline.defs.checks import checks_every_5_minutes, checks_job
from iot_pipeline.defs.external import DEAD_LETTERS_SPEC, IOT_DATA_SPEC
from iot_pipeline.defs.history import purge_daily, purge_history
from iot_pipeline.defs.ingest import sensor_data
from iot_pipeline.defs.ingest_sensor import ingest_on_schedule, iot_data_lag
from iot_pipeline.defs.lanes import ingest_lanes
from iot_pipeline.defs.names import LANE, MAX_RUNTIME, NO_RETRY, SENSOR_DATA, follow_runtime
from iot_pipeline.defs.replay import replay_dead_letters_job, replay_job
from iot_pipeline.defs.report import health_report, health_report_daily
from iot_pipeline.defs.resources import CassandraResource, KafkaResource
from iot_pipeline.defs.rollup_sensor import build_rollup_sensor
from iot_pipeline.defs.rollups import build_rollups, first_rollup_day
from iot_pipeline.defs.schema import setup_schema
from iot_pipeline.defs.simulation import simulate
from iot_pipeline.settings import Settings


def build_definitions(resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """All assets, checks, jobs, the sensor and the schedules.

    `resources` are those in place of the default `kafka` and `cassandra`, by name.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    settings = Settings.from_env()
    first_day = first_rollup_day(settings)
    rollups, rollups_job = build_rollups(first_day, settings.topic)
    ingest = dg.define_asset_job(
        "ingest",
        selection=dg.AssetSelection.assets(SENSOR_DATA),
        description=(
            "Drain offset ranges of the topic into Cassandra, and check the result. Without config "
            "it drains all that lags; with mode: follow it stays and writes what arrives. One run "
            "at a time; Terminate ends it within a second and loses nothing."
        ),
        tags={
            LANE: ingest_lanes(settings)[0].tag,
            MAX_RUNTIME: follow_runtime(settings.follow_seconds),
            **NO_RETRY,
        },
    )
    return dg.Definitions(
        assets=[IOT_DATA_SPEC, sensor_data, rollups, DEAD_LETTERS_SPEC],
        jobs=[
            setup_schema,
            simulate,
            ingest,
            rollups_job,
            replay_job,
            replay_dead_letters_job,
            audit_job,
            checks_job,
            health_report,
            purge_history,
        ],
        sensors=[iot_data_lag, build_rollup_sensor(first_day)],
        schedules=[
            ingest_on_schedule,
            checks_every_5_minutes,
            audit_nightly,
            health_report_daily,
            purge_daily,
        ],
        resources={
            "kafka": KafkaResource(),
            "cassandra": CassandraResource(),
            **(resources or {}),
        },
        # A process per step would cost seconds per run, and Terminate would reach none of them.
        executor=dg.in_process_executor,
    )


defs = build_definitions()
