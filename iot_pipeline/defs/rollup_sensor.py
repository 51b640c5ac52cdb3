"""Who asks for rebuilds of rollups: the sensor that compares ledgers with what was rebuilt.

It reads ledgers, never rows. Its cursor holds since when a touched day waits, and nothing that
correctness depends on: without it a day waits anew.
"""

import functools
from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg
import msgspec

from iot_pipeline.artifacts import kept
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import Tables
from iot_pipeline.core.rollups.days import (
    DayFacts,
    DueDays,
    Waiting,
    as_ranges_of_days,
    choose_due_days,
    find_first_day,
)
from iot_pipeline.defs.alive import end_gone_runs
from iot_pipeline.defs.lanes import runs_in_lane, why_queued
from iot_pipeline.defs.names import LANE
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.rollups import JOB_NAME, RANGE_END, RANGE_START, rollup_lane
from iot_pipeline.defs.workers import why_none_is_launched
from iot_pipeline.errors import CassandraUnavailableError, PermanentError, TransientError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.rollups.rebuild import read_day_facts

# A tick that waits longer holds up other sensors of the process.
_ANSWER_SECONDS = 5.0
# Ranges asked for at once; far-apart days that are left over are still touched at the next tick.
_RANGES_AT_ONCE = 10
_SHOWN = 3


@functools.lru_cache(maxsize=32)
def _client(settings: Settings) -> CassandraClient:
    # Kept from tick to tick, as the ingest sensor's.
    return CassandraClient(
        settings,
        request_timeout_seconds=_ANSWER_SECONDS,
        connect_timeout_seconds=_ANSWER_SECONDS,
    )


def build_rollup_sensor(pipeline: Pipeline, first_day: date) -> dg.SensorDefinition:
    """The sensor; it asks for days from `first_day` on, where the loaded partitions begin."""

    @dg.sensor(
        name=pipeline.called("rollups_of_touched_days"),
        job_name=pipeline.called(JOB_NAME),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Rebuilds the rollups of days that late data, replays or deletions touched, one run "
            "for neighbouring days. A day waits until nothing touched it for "
            "IOT_ROLLUP_QUIET_SECONDS; today is rebuilt at most every IOT_ROLLUP_REFRESH_SECONDS. "
            "Never one run per micro-batch."
        ),
    )
    def rollups_of_touched_days(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        """One tick: compare what each day's ledgers say with what its rebuild saw."""
        return _tick(context, pipeline, first_day)

    return rollups_of_touched_days


def _tick(
    context: dg.SensorEvaluationContext, pipeline: Pipeline, loaded_first_day: date
) -> dg.SensorResult | dg.SkipReason:
    settings, lane = pipeline.settings(), rollup_lane(pipeline)
    ended = end_gone_runs(context.instance, runs_in_lane(context.instance, lane))
    active = runs_in_lane(context.instance, lane)
    if active:
        run = active[0].dagster_run
        said = f"run {run.run_id[:8]} of the rollups is {run.status.value}"
        if run.status is dg.DagsterRunStatus.QUEUED:
            said += why_queued(context.instance)
        return dg.SkipReason("; ".join([said, *ended]))
    client = _client(settings)
    ports, now = Tables(client).rollup_ports, datetime.now(UTC)
    try:
        facts = read_day_facts(ports, settings.topic, now)
        days = choose_due_days(
            facts,
            ports.rollups.read_records(settings.topic),
            _remembered(context.cursor),
            now,
            first_day=loaded_first_day,
            quiet_seconds=settings.rollup_quiet_seconds,
            refresh_seconds=settings.rollup_refresh_seconds,
            retention_days=settings.retention.longest_days,
        )
    except (TransientError, PermanentError) as exc:
        if isinstance(exc, CassandraUnavailableError):
            client.close()  # the next tick connects anew, wherever the node is by then
        return dg.SkipReason(" ".join(str(exc).split()))
    # Before a run is asked for: its process loads the definitions, and the partitions with them.
    first_day, not_kept = remember_first_day(settings, facts, now)
    ranges = as_ranges_of_days(days.due)
    requests = [
        dg.RunRequest(tags={LANE: lane, RANGE_START: str(first), RANGE_END: str(last)})
        for first, last in ranges[-_RANGES_AT_ONCE:]
    ]
    # Each of them would be one more failed run.
    if requests and (away := why_none_is_launched(context.instance)):
        return dg.SkipReason(away)
    why = "; ".join(filter(None, [_why_nothing(days, first_day, now), not_kept]))
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else dg.SkipReason(why),
        cursor=msgspec.json.encode(days.waiting).decode(),
    )


def remember_first_day(
    settings: Settings, facts: Mapping[date, DayFacts], now: datetime
) -> tuple[date, str]:
    """Keep the day with which readings begin for the next load; where the partitions begin then.

    Also why it could not be kept and what to do; empty when it was.
    """
    if settings.rollup_start is not None:
        return settings.rollup_start, ""
    file = kept.first_day(settings)
    known = file.read()
    found = find_first_day(facts, known, now.date())
    if found is not None and found != known:
        try:
            file.write(found)
        except OSError as exc:
            return found, (
                f"the first day cannot be kept in {file.path} ({(exc.strerror or str(exc)).lower()}"
                f"), so after a start of the code location the partitions begin with that day: set "
                f"IOT_ROLLUP_START={found}"
            )
    return found or now.date(), ""


def _why_nothing(days: DueDays, first_day: date, now: datetime) -> str:
    said = []
    if days.waiting:
        waits = ", ".join(
            f"{day} for {now.timestamp() - state.since:.0f} s"
            for day, state in list(days.waiting.items())[:_SHOWN]
        )
        said.append(f"{len(days.waiting)} touched days wait to be quiet or due: {waits}")
    if days.frozen:
        said.append(
            f"{len(days.frozen)} touched days are frozen, their rows age out: {days.frozen[0]} to "
            f"{days.frozen[-1]}"
        )
    new = [day for day in days.outside if first_day <= day <= now.date()]
    if new:
        said.append(
            f"{len(new)} touched days are before the partitions that are loaded: {new[0]} to "
            f"{new[-1]}; reload the code location (Deployment > Reload), then they are rebuilt"
        )
    outside = [day for day in days.outside if day not in new]
    if outside:
        said.append(
            f"{len(outside)} touched days are before {first_day} or after today: {outside[0]} to "
            f"{outside[-1]}; `iot rollup --day` takes any day, IOT_ROLLUP_START an earlier start"
        )
    return "; ".join(said) or "no day was touched since its rollups were rebuilt"


def _remembered(cursor: str | None) -> dict[date, Waiting]:
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[date, Waiting])
    except msgspec.DecodeError:
        return {}  # another version's: each day waits anew
