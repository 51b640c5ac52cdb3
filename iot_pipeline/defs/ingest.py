"""The ingest asset and its job: who decides what a run drains, and what it leaves to be seen.

A run drains the ranges in its config; without any it plans by itself, exactly as the sensor would;
a re-execution drains what its parent did. The run says so in its tags, so that what it was about
is known whatever becomes of it. Terminate passes through everything here: what was committed by
then stays committed, and the next run starts there.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from iot_pipeline.connections import Connections, drain_config
from iot_pipeline.core.checks import judge_lag
from iot_pipeline.core.lag import total_lag
from iot_pipeline.core.offsets import OffsetRange
from iot_pipeline.defs.checks import CHECK_SPECS, as_result, judge_alone, judge_run
from iot_pipeline.defs.external import SENSOR_DATA_SPEC
from iot_pipeline.defs.failures import failing_with_advice
from iot_pipeline.defs.lanes import format_ranges, inherited_ranges, run_ahead_of
from iot_pipeline.defs.names import (
    ACHIEVED,
    DEAD_LETTERS,
    IOT_DATA,
    LANE,
    PROCESS,
    RANGES,
    SENSOR_DATA,
    RunProcess,
)
from iot_pipeline.defs.resources import CassandraResource, KafkaResource, connected
from iot_pipeline.defs.run_report import RunReport
from iot_pipeline.errors import PlanError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest import DrainProgress, drain
from iot_pipeline.stages.lag import read_lag
from iot_pipeline.stages.planning import Plan, make_plan
from iot_pipeline.stages.ports import Run

OP_NAME = "ingest_readings"
_LOG_EVERY_SECONDS = 2.0
_STARTED_BY_MACHINE = ("dagster/sensor_name", "dagster/schedule_name")

Events = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]


class RangeConfig(dg.Config):
    """Offsets [start, end) of one Kafka partition."""

    start: int = Field(ge=0, description="First offset to drain, 0 or more.")
    end: int = Field(ge=1, description="The offset after the last one, above start.")


class IngestConfig(dg.Config):
    """What one run drains. Empty: all that lags, up to max_records."""

    ranges: dict[str, RangeConfig] = Field(
        default={},
        description=(
            "Exactly these offsets, by Kafka partition: {'0': {start: 100, end: 200}}. Below the "
            "checkpoint is a replay. Empty: the run plans by itself, from the checkpoints to the "
            "end of the log."
        ),
    )
    max_records: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Offsets to drain at most, 1 or more, shared evenly by lagging partitions; only "
            "without ranges. Empty: IOT_RUN_MAX_RECORDS."
        ),
    )

    def offset_ranges(self) -> list[OffsetRange]:
        """The ranges asked for.

        Raises:
            PlanError: a partition that is no number, or an end that is not above its start.
        """
        for partition, item in self.ranges.items():
            if not partition.isdecimal() or item.end <= item.start:
                raise PlanError(
                    f"draining {partition}:{item.start}-{item.end}: expected the number of a Kafka "
                    "partition, and an end above the start"
                )
        return [OffsetRange(int(p), item.start, item.end) for p, item in self.ranges.items()]


def run_config_for(ranges: Sequence[OffsetRange]) -> dict[str, object]:
    """Run config that drains exactly these: a few integers per partition, never a payload."""
    config = {"ranges": {str(r.partition): {"start": r.start, "end": r.end} for r in ranges}}
    return {"ops": {OP_NAME: {"config": config}}}


@dg.multi_asset(
    name=OP_NAME,
    specs=[SENSOR_DATA_SPEC],
    check_specs=CHECK_SPECS,
    can_subset=True,  # so that checks run without the asset, from the Checks tab
    description="Drain offset ranges of the topic into Cassandra, and account for every offset.",
)
def sensor_data(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    kafka: KafkaResource,
    cassandra: CassandraResource,
) -> Events:
    """Ingest when the asset was asked for, else only check."""
    names = {key.name for key in context.selected_asset_check_keys}
    with failing_with_advice():
        if SENSOR_DATA not in context.selected_asset_keys:
            with connected(kafka, cassandra) as connections:
                for verdict in judge_alone(connections, names):
                    yield as_result(verdict)
            return
        if not _enter_lane(context, Settings.from_env().topic):
            return
        with connected(kafka, cassandra) as connections:
            yield from _Ingest(context, config, connections, names).run()


def _enter_lane(context: dg.AssetExecutionContext, topic: str) -> bool:
    """Say which process this is and look around; False: another run is at it, step aside."""
    run_id = context.run.run_id
    context.instance.add_run_tags(run_id, {LANE: topic, PROCESS: str(RunProcess.current(run_id))})
    other = run_ahead_of(context.instance, topic, run_id)
    if other is not None:
        context.log.info(
            "run %s of %s is at work: stepping aside, nothing was read", other.run_id, topic
        )
    return other is None


@dataclass(slots=True)
class _Ingest:
    context: dg.AssetExecutionContext
    config: IngestConfig
    connections: Connections
    check_names: set[str]
    told_at: float = 0.0

    def run(self) -> Events:
        settings, started_at = self.connections.settings, datetime.now(UTC)
        plan = self._plan()
        skipped, ahead = self._already_ingested(plan)
        progress = DrainProgress(plan.ingest)
        self._drain(plan, progress)
        lags = read_lag(
            self.connections.log, self.connections.ledger, settings.topic, datetime.now(UTC)
        )
        ahead += [str(fenced) for fenced in progress.fenced]
        report = RunReport(settings.topic, progress, lags, started_at, skipped, ahead)
        self.context.log.info("%s", report.headline())
        self._observe(report)
        # Before the checks: whatever becomes of them, these rows are in the table.
        yield dg.MaterializeResult(asset_key=SENSOR_DATA, metadata=report.metadata())
        verdicts = [
            judge_lag(lags, settings.lag_limit_seconds),
            *judge_run(
                self.connections,
                self.context.run.run_id,
                progress,
                started_at,
                range(plan.topic.partitions),
            ),
        ]
        for verdict in verdicts:
            if verdict.name in self.check_names:
                yield as_result(verdict)

    def _plan(self) -> Plan:
        run, instance = self.context.run, self.context.instance
        settings = self.connections.settings
        asked = inherited_ranges(instance, run)
        if asked is not None:
            self.context.log.info(
                "re-execution of run %s: the same offsets, %s",
                run.parent_run_id,
                format_ranges(asked),
            )
        else:
            asked = self.config.offset_ranges()
        plan = make_plan(
            self.connections.log,
            self.connections.ledger,
            settings.topic,
            start_at=settings.start_at,
            max_records=self.config.max_records or settings.run_max_records,
            offsets=asked,
            accept_producer_timestamps=settings.accept_producer_timestamps,
        )
        ranges = format_ranges(asked or plan.ingest)
        instance.add_run_tags(run.run_id, {RANGES: ranges})
        self.context.log.info("draining %s", ranges or "nothing: nothing lags")
        return plan

    def _already_ingested(self, plan: Plan) -> tuple[list[OffsetRange], list[str]]:
        """Offsets below the checkpoint: overtaken when a sensor planned them, else a replay.

        Raises:
            PlanError: a person asked for a replay.
        """
        if not plan.replay:
            return [], []
        run = self.context.run
        is_planned = run.parent_run_id is None and any(
            tag in run.tags for tag in _STARTED_BY_MACHINE
        )
        if not is_planned:
            self.context.log.info(
                "%s lie below the checkpoint: a replay, no checkpoint moves",
                format_ranges(plan.replay),
            )
            replay_ranges(self.connections, plan, run.run_id)
        topic = self.connections.settings.topic
        ahead = []
        for item in plan.replay:
            entries = self.connections.ledger.read_entries(topic, [item.partition])
            owner = entries[0].run_id if entries else "unknown"
            at = plan.checkpoints[item.partition].next_offset
            ahead.append(f"partition {item.partition}: run {owner} is at offset {at}")
        return plan.replay, ahead

    def _drain(self, plan: Plan, progress: DrainProgress) -> None:
        run_id = self.context.run.run_id
        self.told_at = time.monotonic()
        try:
            drain(
                plan,
                self.connections.ports,
                Run(run_id, uuid.uuid4()),
                drain_config(self.connections.settings),
                progress=progress,
                on_progress=self._tell,
            )
        finally:
            # Also when it was terminated or failed: a re-execution drains what was achieved.
            if progress.ranges:
                tags = {ACHIEVED: format_ranges(progress.ranges)}
                self.context.instance.add_run_tags(run_id, tags)
            if progress.done_offsets < progress.planned_offsets and not progress.fenced:
                self.context.log.info(
                    "ended early: %s of %s offsets are in the ledger, %s rows stored",
                    f"{progress.done_offsets:,}",
                    f"{progress.planned_offsets:,}",
                    f"{progress.total.stored:,}",
                )

    def _tell(self, progress: DrainProgress) -> None:
        if time.monotonic() - self.told_at < _LOG_EVERY_SECONDS:
            return
        self.told_at = time.monotonic()
        self.context.log.info(
            "%s of %s offsets, %s rows stored",
            f"{progress.done_offsets:,}",
            f"{progress.planned_offsets:,}",
            f"{progress.total.stored:,}",
        )

    def _observe(self, report: RunReport) -> None:
        lag = total_lag(report.lags)
        self.context.log_event(
            dg.AssetObservation(
                asset_key=IOT_DATA,
                description=f"Lag of ingestion behind {report.topic} when a run was done",
                metadata={
                    "lag_offsets": lag.lag_offsets,
                    "lag_seconds": round(lag.lag_seconds, 3),
                    "end_offsets": sum(item.last_stable for item in report.lags),
                },
            )
        )
        rejected = report.progress.total.rejected
        if rejected:
            self.context.log_event(
                dg.AssetObservation(
                    asset_key=DEAD_LETTERS,
                    description="Records that could not be readings; `iot dead-letters` lists them",
                    metadata={"rejected": rejected},
                )
            )


def replay_ranges(connections: Connections, plan: Plan, run_id: str) -> None:
    """Write offsets below the checkpoint again.

    Raises:
        PlanError: always: the stage that replays is not part of this version.
    """
    raise PlanError(
        f"draining {connections.settings.topic} {format_ranges(plan.replay)}: run {run_id} was "
        "asked for offsets below the checkpoint, which is a replay, and this version cannot replay "
        "yet. Their rows are in the table already; leave the ranges empty to drain what lags"
    )
