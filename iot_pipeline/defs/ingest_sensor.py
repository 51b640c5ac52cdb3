"""Who asks for ingest runs: the sensor that looks every five seconds, or a schedule.

The sensor reads offsets, never records. What passes from it to a run is a plan, a few integers per
Kafka partition. It keeps no cursor: the checkpoint in Cassandra says where to go on, so a tick or
a run that is lost changes nothing.
"""

import functools

import dagster as dg

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.ledger_store import CassandraLedgerStore
from iot_pipeline.defs.ingest import run_config_for
from iot_pipeline.defs.lanes import active_ingest_runs, end_gone_runs, format_ranges
from iot_pipeline.defs.names import LANE, RANGES, SENSOR_DATA
from iot_pipeline.errors import (
    CassandraUnavailableError,
    OffsetsExpiredError,
    PermanentError,
    SchemaMismatchError,
    TransientError,
)
from iot_pipeline.settings import Settings
from iot_pipeline.stages.loss import HALT
from iot_pipeline.stages.planning import make_plan

# A tick that waits longer holds up every other sensor of the process.
_ANSWER_SECONDS = 2.0


@functools.lru_cache(maxsize=1)
def _clients(settings: Settings) -> tuple[KafkaLog, CassandraClient]:
    # Kept from tick to tick: the code server lives for days, and every new client would leave
    # threads behind for a while.
    return (
        KafkaLog(settings, timeout_seconds=_ANSWER_SECONDS),
        CassandraClient(
            settings,
            request_timeout_seconds=_ANSWER_SECONDS,
            connect_timeout_seconds=_ANSWER_SECONDS,
        ),
    )


@dg.sensor(
    name="iot_data_lag",
    job_name="ingest",
    # Ticks come every five seconds whatever is written here below five; with five itself they
    # beat against the daemon's own loop and come every five or ten (FIELD-NOTES, Dagster 1).
    minimum_interval_seconds=3,
    # It would fail every five seconds while servers are down: a person or `make demo` starts it.
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Looks every five seconds how far ingestion is behind, and asks for a run over exactly "
        "what lags. Skips, and says why, while a run is at work, when nothing lags, and when a "
        "server is down; goes on by itself when it is back. Ends runs whose process has died."
    ),
)
def iot_data_lag(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """One tick: bury the dead, then plan, unless a run is at work."""
    settings = Settings.from_env()
    waiting = _why_wait(context.instance, settings.topic)
    if waiting is not None:
        return dg.SkipReason(waiting)
    log, cassandra = _clients(settings)
    try:
        plan = make_plan(
            log,
            CassandraLedgerStore(cassandra),
            settings.topic,
            start_at=settings.start_at,
            max_records=settings.run_max_records,
            accept_producer_timestamps=settings.accept_producer_timestamps,
        )
    except CassandraUnavailableError as exc:
        cassandra.close()  # the next tick connects anew, wherever the node is by then
        return dg.SkipReason(_one_line(exc))
    except OffsetsExpiredError:
        if settings.on_expired == HALT:
            raise
        # The run records the loss; it plans by itself, because nothing can be planned before.
        return dg.SensorResult(run_requests=[dg.RunRequest(tags={LANE: settings.topic})])
    except (TransientError, SchemaMismatchError) as exc:
        return dg.SkipReason(_one_line(exc))
    if not plan.ingest:
        ends = sum(state.last_stable for state in plan.states)
        return dg.SkipReason(f"nothing lags: all {ends:,} offsets of {settings.topic} are ingested")
    # No run_key: Dagster remembers one for ever, failed runs included, and would drop the second
    # attempt at a range. The lane and the checkpoint already decide.
    tags = {LANE: settings.topic, RANGES: format_ranges(plan.ingest)}
    request = dg.RunRequest(run_config=run_config_for(plan.ingest), tags=tags)
    return dg.SensorResult(run_requests=[request])


@dg.schedule(
    name="ingest_on_schedule",
    job_name="ingest",
    cron_schedule="* * * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description=(
        "The alternative to the sensor: once a minute a run that plans by itself. Skips while one "
        "is at work."
    ),
)
def ingest_on_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run that plans by itself."""
    topic = Settings.from_env().topic
    waiting = _why_wait(context.instance, topic)
    if waiting is not None:
        return dg.SkipReason(waiting)
    return dg.RunRequest(tags={LANE: topic})


def _why_wait(instance: dg.DagsterInstance, topic: str) -> str | None:
    ended = end_gone_runs(instance, active_ingest_runs(instance, topic))
    active = active_ingest_runs(instance, topic)
    if not active:
        return None
    run = active[0].dagster_run
    said = f"run {run.run_id[:8]} of {SENSOR_DATA.to_user_string()} is {run.status.value}"
    return "; ".join([said, *ended])


def _one_line(exc: TransientError | PermanentError) -> str:
    return " ".join(str(exc).split())
