"""The sensor that tells people: which checks, runs and sensors are not as they were told.

It looks every ten seconds at what Dagster knows, and whether anything is ingested at all. What
was told, and what still waits for its channel, is the sensor's cursor: it is kept when the tick
ends, so a tick that dies is repeated, messages included. What happens to Dagster itself it cannot
tell: `iot watch` can.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus
from dagster_shared.error import SerializableErrorInfo

from iot_pipeline.clients.alert_channels import AppriseChannels
from iot_pipeline.clients.ledger_store import CassandraLedgerStore
from iot_pipeline.core.alerts.changes import Memory
from iot_pipeline.core.alerts.conditions import (
    SENSOR_STOPPED,
    Condition,
    Level,
    condition_of,
)
from iot_pipeline.core.alerts.runs import ALERTS, BY_SENSOR, INGEST, run_failed, run_succeeded
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.rights.needed import JOBS, SENSORS
from iot_pipeline.core.times import in_words
from iot_pipeline.defs.lanes import ingest_lanes
from iot_pipeline.defs.names import LANE, SERVER_AWAY
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import tick_clients
from iot_pipeline.defs.verdicts import SEVERITIES, Shown, Verdicts
from iot_pipeline.settings import Settings
from iot_pipeline.stages.alerts.looking import look_at_ingestion
from iot_pipeline.stages.alerts.telling import refuse_unknown_checks, tell
from iot_pipeline.stages.checks.machinery.check import DAILY, HOURLY, READINGS
from iot_pipeline.stages.checks.machinery.registry import checks_of

# A sensor of ours ticks every few seconds.
_SILENT_SECONDS = 300.0
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_ASSET_JOB = "__ASSET_JOB"
_SEVERITIES = {shown: severity for severity, shown in SEVERITIES.items()}


def build_alerts(pipeline: Pipeline) -> dg.SensorDefinition:
    """The sensor; stopped until a person, or `make demo` with a channel, starts it."""
    refuse_unknown_checks(pipeline.settings())

    @dg.sensor(
        name=pipeline.called(ALERTS),
        # The sensor loop turns every five seconds: this is each second turn.
        minimum_interval_seconds=8,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Tells people by the channels of IOT_ALERT_CHANNELS when a check turns red, worse or "
            "green again, when a job fails, a sensor stops, a server is away, or nothing is "
            "ingested although something arrived: one message per change, several changes in one. "
            "Its cursor is what was told. Skips, and says what it did."
        ),
    )
    def iot_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        settings = pipeline.settings()
        if not settings.alert_urls:
            return dg.SkipReason("IOT_ALERT_CHANNELS is not set: there is no one to tell")
        kept: list[Memory] = []
        told = tell(
            _conditions(context.instance, pipeline, settings),
            Memory.of_text(context.cursor),
            # Durable when the tick ends: the daemon writes the cursor then.
            kept.append,
            AppriseChannels(settings.alert_urls),
            settings,
            pipeline.group,
            datetime.now(UTC),
        )
        if kept:
            context.update_cursor(kept[-1].as_text())
        for name, why in told.failures.items():
            context.log.warning("channel %s did not take a message: %s", name, why)
        return dg.SkipReason(str(told))

    return iot_alerts


def _conditions(
    instance: dg.DagsterInstance, pipeline: Pipeline, settings: Settings
) -> Iterator[Condition]:
    log, cassandra = tick_clients(settings, ALERTS)
    looked = look_at_ingestion(log, CassandraLedgerStore(cassandra), settings, datetime.now(UTC))
    if any(item.level and item.name == "Cassandra" for item in looked.conditions):
        cassandra.close()  # the next tick connects anew, wherever the node is by then
    yield from looked.conditions
    for table, key in (
        (READINGS, pipeline.sensor_data),
        (HOURLY, pipeline.hourly_readings),
        (DAILY, pipeline.daily_readings),
    ):
        path = f"/assets/{'/'.join(key.path)}?view=checks"
        for one in Verdicts(instance, key).read(checks_of(table)).values():
            name = "" if table == READINGS else table
            found = condition_of(_verdict_of(one), table=name, path=path, worst=one.worst_devices)
            if found is not None:
                yield found
    yield from _failed_jobs(instance, pipeline)
    yield from _stopped_sensors(instance, pipeline)


def _verdict_of(one: Shown) -> CheckVerdict:
    return CheckVerdict(
        one.passed,
        one.description,
        severity=_SEVERITIES.get(one.severity, Severity.ERROR),
        is_looked=one.passed or one.looked_at is not None,
        name=one.check,
        away=one.away,
    )


def _failed_jobs(instance: dg.DagsterInstance, pipeline: Pipeline) -> Iterator[Condition]:
    """Each job, and each lane of ingestion, by its newest run that has ended.

    One that a person terminated says nothing.
    """
    asked: list[tuple[str, str, dict[str, str]]] = [
        (name, pipeline.called(name), {}) for name in JOBS if name != INGEST
    ]
    asked += [
        (INGEST if lane.is_whole else f"{INGEST} {lane.tag}", pipeline.called(INGEST), tags)
        for lane in ingest_lanes(pipeline)
        for tags in [{} if lane.is_whole else {LANE: lane.tag}]
    ]
    for name, job, tags in [*asked, (_ASSET_JOB, _ASSET_JOB, {})]:
        filters = dg.RunsFilter(job_name=job, tags=tags, statuses=_FINISHED)
        for run in [record.dagster_run for record in instance.get_run_records(filters, limit=1)]:
            if pipeline.is_own(run) and (found := _of_run(instance, run, name)) is not None:
                yield found


def _of_run(instance: dg.DagsterInstance, run: dg.DagsterRun, name: str) -> Condition | None:
    """A finished run; None: it failed with its server, and is asked for again by itself."""
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return run_succeeded(run.run_id, name)
    is_of_ingest = name.split(" ")[0] == INGEST
    is_asked_again = is_of_ingest or BY_SENSOR in run.tags
    why, away = _why_failed(instance, run)
    return run_failed(run.run_id, name, why, away, is_asked_again=is_asked_again)


def _why_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, str]:
    """The error of the first step that failed, and the server that was away; or Dagster's words."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is None:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None:
            away = data.user_failure_data.metadata.get(SERVER_AWAY)
            said = data.user_failure_data.description or ""
            return " ".join(said.split()), "" if away is None else str(away.value)
        if data.error is not None:
            return _said(data.error), ""
    ends = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    words = [entry.dagster_event.message or "" for entry in ends if entry.dagster_event is not None]
    return " ".join(" ".join(words).split()) or "its log does not say why", ""


def _stopped_sensors(instance: dg.DagsterInstance, pipeline: Pipeline) -> Iterator[Condition]:
    """Those of the pipeline's sensors that are on: do they tick, and well?"""
    ours = {pipeline.called(name) for name in SENSORS} - {pipeline.called(ALERTS)}
    on = {InstigatorStatus.RUNNING, InstigatorStatus.AUTOMATICALLY_RUNNING}
    states = instance.all_instigator_state(
        instigator_type=InstigatorType.SENSOR, instigator_statuses=on
    )
    for state in states:
        if state.instigator_name not in ours:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
        ended = next((tick for tick in ticks if tick.status is not TickStatus.STARTED), None)
        if ended is None:
            continue
        level, said = Level.GREEN, "It ticks."
        age = time.time() - max(tick.timestamp for tick in ticks)
        if age > _SILENT_SECONDS:
            level, said = Level.ERROR, f"It is on, and did not tick for {in_words(age)}."
        elif ended.status is TickStatus.FAILURE:
            why = _said(ended.error) if ended.error is not None else "no error was kept"
            level, said = Level.ERROR, f"Its last tick failed: {why}"
        name = state.instigator_name
        yield Condition(SENSOR_STOPPED, level, said, name, path="/automation")


def _said(error: SerializableErrorInfo) -> str:
    """What the innermost error says, on one line."""
    while error.cause is not None:
        error = error.cause
    return " ".join(error.message.split())
