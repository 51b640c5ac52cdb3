"""Who asks for ingest runs: the sensor that looks every five seconds, or a schedule.

The sensor reads offsets, never records. What passes from it to a run is a plan, a few integers per
Kafka partition. It keeps no cursor: the checkpoint in Cassandra says where to go on, so a tick or
a run that is lost changes nothing.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.ledger_store import CassandraLedgerStore
from iot_pipeline.clients.remembered import CassandraStops
from iot_pipeline.core.checks.verdicts import COULD_NOT_LOOK, CheckVerdict, not_looked
from iot_pipeline.core.ingest.plan import plan_offsets
from iot_pipeline.core.ingest.stopped import sum_up
from iot_pipeline.core.reading.lag import measure_lag
from iot_pipeline.defs.alive import end_gone_runs
from iot_pipeline.defs.ingest import OP_NAME, follow_config, run_config_for
from iot_pipeline.defs.lanes import (
    Lane,
    Lanes,
    active_ingest_runs,
    format_ranges,
    ingest_lanes,
    why_queued,
)
from iot_pipeline.defs.names import FOLLOW, LANE, MODE, RANGES
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import TICK_ANSWER_SECONDS, tick_clients
from iot_pipeline.defs.verdicts import (
    SAY_AGAIN_SECONDS,
    Verdicts,
    choose_shown,
    is_news,
)
from iot_pipeline.defs.workers import why_none_is_launched
from iot_pipeline.errors import (
    CassandraUnavailableError,
    ConfigurationError,
    OffsetsExpiredError,
    PermanentError,
    PipelineError,
    SchemaMismatchError,
    TransientError,
)
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import lag_is_within_limit as lag_check
from iot_pipeline.stages.ingest.lag import read_lag
from iot_pipeline.stages.ingest.losses import HALT
from iot_pipeline.stages.ingest.planning import Plan, make_plan
from iot_pipeline.stages.ingest.stops import read_standing

# A run that stays and ends within this has its successor queued behind it. Ticks are five seconds
# apart, and one may be late.
_HAND_OVER_SECONDS = 12.0
# When no run has shown the lag for this long, the tick does.
_OLD_SECONDS = 90.0
_LAG_CHECK = [lag_check.CHECK]


def build_ingest_sensor(
    pipeline: Pipeline,
) -> tuple[dg.SensorDefinition, dg.ScheduleDefinition]:
    """The sensor, and the schedule that is the alternative to it."""

    @dg.sensor(
        name=pipeline.called("iot_data_lag"),
        job_name=pipeline.called("ingest"),
        # Ticks come every five seconds whatever is written here below five; with five itself they
        # beat against the daemon's own loop and come every five or ten (measured).
        minimum_interval_seconds=3,
        # It would fail every five seconds while servers are down: a person, or `make demo`, starts
        # it.
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Looks every five seconds how far ingestion is behind, and asks for a run over exactly "
            "what lags. With IOT_INGEST_MODE=follow it keeps one run that stays and writes what "
            "arrives: shortly before one ends, the next is queued behind it. Skips, and says why, "
            "while a run is at work, when nothing lags, and when a server is down; goes on by "
            "itself when it is back. Ends runs whose process has died."
        ),
    )
    def iot_data_lag(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        return _tick(context, pipeline)

    @dg.schedule(
        name=pipeline.called("ingest_on_schedule"),
        job_name=pipeline.called("ingest"),
        cron_schedule="* * * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            "The alternative to the sensor: once a minute a run that plans by itself. Skips while "
            "one is at work."
        ),
    )
    def ingest_on_schedule(
        context: dg.ScheduleEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        lanes = ingest_lanes(pipeline)
        free, waiting = _free_lanes(context.instance, lanes)
        away = why_none_is_launched(context.instance) if free else waiting
        return dg.SkipReason(away) if away else list(map(_drain_request, free))

    return iot_data_lag, ingest_on_schedule


def _tick(
    context: dg.SensorEvaluationContext, pipeline: Pipeline
) -> dg.SensorResult | dg.SkipReason:
    """End runs whose process has died, then plan, unless a run is at work."""
    settings = pipeline.settings()
    verdicts = Verdicts(context.instance, pipeline.sensor_data)
    op_name, is_following = pipeline.called(OP_NAME), settings.ingest_mode == FOLLOW
    lanes = ingest_lanes(pipeline)
    stays = settings.follow_seconds if is_following else None
    free, waiting = _free_lanes(context.instance, lanes, stays)
    if not free:
        return dg.SkipReason(waiting)
    log, cassandra = tick_clients(settings, "iot_data_lag")
    try:
        plan = make_plan(
            log,
            CassandraLedgerStore(cassandra),
            settings.topic,
            start_at=settings.start_at,
            partitions=None if len(free) == len(lanes) else Lanes(tuple(free)),
            accept_producer_timestamps=settings.accept_producer_timestamps,
        )
    except CassandraUnavailableError as exc:
        cassandra.close()  # the next tick connects anew, wherever the node is by then
        return dg.SkipReason(_show_unseen(verdicts, exc))
    except (TransientError, SchemaMismatchError) as exc:
        return dg.SkipReason(_show_unseen(verdicts, exc))
    except (PermanentError, ConfigurationError) as exc:
        # The tick fails and says so; the check must not stay green meanwhile.
        _show_unseen(verdicts, exc)
        raise
    if plan.stopped:
        stopped = sum_up(settings.topic, plan.stopped)
        if not any(map(_is_loss, plan.stopped.values())) or settings.on_expired == HALT:
            reason = _show_unseen(verdicts, stopped)
            if not plan.ingest:
                if isinstance(stopped, TransientError):
                    return dg.SkipReason(reason)
                raise stopped
            # The others are drained; the run fails at its end, for it plans the same.
    else:
        _show_old_lag(verdicts, log, cassandra, settings)
    requests = [
        request
        for lane in free
        if (request := _request_of(lane, plan, settings, op_name)) is not None
    ]
    if requests:
        # Each of them would be one more failed run.
        away = why_none_is_launched(context.instance)
        return dg.SkipReason(away) if away else dg.SensorResult(run_requests=requests)
    _say_nothing_lags(verdicts, plan, settings)
    if waiting:
        return dg.SkipReason(f"nothing lags in the other lanes; {waiting}")
    ends = sum(state.last_stable for state in plan.states)
    return dg.SkipReason(f"nothing lags: all {ends:,} offsets of {settings.topic} are ingested")


def _request_of(lane: Lane, plan: Plan, settings: Settings, op_name: str) -> dg.RunRequest | None:
    """What a lane that is free is asked to do; None: nothing."""
    states = [state for state in plan.states if state.partition in lane]
    if not states:
        return None  # more lanes than partitions
    stopped = {p: exc for p, exc in plan.stopped.items() if p in lane}
    if settings.ingest_mode == FOLLOW:
        return _follow_request(lane, op_name)
    if any(map(_is_loss, stopped.values())) and settings.on_expired != HALT:
        # The run records the loss; it plans by itself, because nothing can be planned before.
        return _drain_request(lane)
    sound = [state for state in states if state.partition not in stopped]
    ranges = plan_offsets(sound, settings.run_max_records)
    if not ranges:
        return None
    # No run_key: Dagster remembers one for ever, failed runs included, and would drop the second
    # attempt at a range. The lane and the checkpoint already decide.
    tags = {RANGES: format_ranges(ranges)}
    return _drain_request(lane, tags, run_config_for(ranges, op_name))


def _is_loss(exc: PipelineError) -> bool:
    return isinstance(exc, OffsetsExpiredError)


def _show_unseen(verdicts: Verdicts, exc: PipelineError) -> str:
    """Show on the check why the lag is not known; returns the reason, on one line."""
    reason = " ".join(str(exc).split())
    _show_lag(verdicts, not_looked(f"{COULD_NOT_LOOK}{reason}", away=exc.away))
    return reason


def _show_old_lag(
    verdicts: Verdicts, log: KafkaLog, cassandra: CassandraClient, settings: Settings
) -> None:
    """Where no run has shown the lag for a while, because each of them fails, the tick does."""
    last = verdicts.read(_LAG_CHECK).get(lag_check.CHECK.name)
    if last is None or time.time() - last.written_at < _OLD_SECONDS:
        return
    ledger, topic = CassandraLedgerStore(cassandra), settings.topic
    try:
        lags = read_lag(log, ledger, topic, datetime.now(UTC), timeout_seconds=TICK_ANSWER_SECONDS)
        stops = read_standing(CassandraStops(cassandra), ledger, topic)
    except (TransientError, SchemaMismatchError) as exc:
        _show_unseen(verdicts, exc)
    else:
        _show_lag(verdicts, lag_check.judge(lags, settings.lag_limit_seconds, stops))


def _say_nothing_lags(verdicts: Verdicts, plan: Plan, settings: Settings) -> None:
    """Turn the check green again after an earlier tick: no run will come to do it."""
    now_ms = int(time.time() * 1000)
    lags = [measure_lag(state, None, now_ms) for state in plan.states]
    _show_lag(verdicts, lag_check.judge(lags, settings.lag_limit_seconds), only_if_red=True)


def _show_lag(verdicts: Verdicts, verdict: CheckVerdict, *, only_if_red: bool = False) -> None:
    before = verdicts.read(_LAG_CHECK)
    last = before.get(lag_check.CHECK.name)
    if only_if_red and (last is None or last.passed):
        return
    verdict = lag_check.CHECK.named(verdict)
    shown = choose_shown([verdict], before, datetime.now(UTC), is_whole=True, checks=_LAG_CHECK)
    is_old = last is None or time.time() - last.written_at >= SAY_AGAIN_SECONDS
    if is_old or is_news(shown[0], last):
        verdicts.show_now(shown)


# Checks are not selected, though each run gives their results: a selected check is "in progress"
# from the moment its run is queued, and its row of before is hidden.


def _drain_request(
    lane: Lane, tags: Mapping[str, str] | None = None, run_config: Mapping[str, Any] | None = None
) -> dg.RunRequest:
    return dg.RunRequest(
        run_config=run_config,
        tags={LANE: lane.tag, **(tags or {})},
        asset_selection=[lane.asset_key],
        asset_check_keys=[],
    )


def _follow_request(lane: Lane, op_name: str) -> dg.RunRequest:
    return _drain_request(lane, {MODE: FOLLOW}, follow_config(op_name))


def _free_lanes(
    instance: dg.DagsterInstance, lanes: Sequence[Lane], follow_seconds: float | None = None
) -> tuple[list[Lane], str]:
    """The lanes that a run may be asked for now, and why the others must wait."""
    free, reasons = [], dict[str, None]()
    for lane in lanes:
        waiting = _why_wait(instance, lane, follow_seconds)
        if waiting is None:
            free.append(lane)
        else:
            reasons[waiting] = None
    return free, "; ".join(reasons)


def _why_wait(
    instance: dg.DagsterInstance, lane: Lane, follow_seconds: float | None = None
) -> str | None:
    """Why no run may be asked for now; None: ask.

    With `follow_seconds` the next run is one that stays so long: it may be asked for before the
    one at work has ended, and starts as soon as the lane is free.
    """
    ended = end_gone_runs(instance, active_ingest_runs(instance, lane))
    active = active_ingest_runs(instance, lane)
    if not active:
        return None
    # Creation times are whole seconds, so the oldest need not be the one at work.
    first = next((record for record in active if record.start_time), active[0])
    run = first.dagster_run
    at_work = lane.tagged(run.tags.get(LANE, "")) or lane
    said = f"run {run.run_id[:8]} of {at_work.words} is {run.status.value}"
    if run.status is dg.DagsterRunStatus.QUEUED:
        said += why_queued(instance)
    if follow_seconds is not None and run.tags.get(MODE) == FOLLOW and first.start_time:
        # The start is told by the clock of the run's machine: right within a few seconds.
        left = first.start_time + follow_seconds - time.time()
        if len(active) == 1 and left < _HAND_OVER_SECONDS:
            return None
        said += f" and stays for {max(0.0, left):.0f} s more"
        if len(active) > 1:
            said += "; the next one waits for its turn"
    return "; ".join([said, *ended])
