"""The ingest asset: what a run may be asked for, and which of two runs goes on.

What a run then does is `defs.ingest_run`; who asks for runs is `defs.ingest_sensor`.
"""

import enum
import time
from collections.abc import Sequence
from typing import Self

import dagster as dg
from pydantic import Field, model_validator

from iot_pipeline.connections import asked_limit
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.alive import name_process, signs_of_life
from iot_pipeline.defs.checks import check_specs, look_alone
from iot_pipeline.defs.external import table_spec
from iot_pipeline.defs.follow_run import FollowRun
from iot_pipeline.defs.ingest_run import Events, IngestRun, as_events
from iot_pipeline.defs.lanes import Lane, inherited_ranges, lane_of, run_ahead_of, whole_lane
from iot_pipeline.defs.launchpad import (
    EXECUTOR,
    RangeConfig,
    Throttled,
    as_ranges,
    refuse_at_launch,
)
from iot_pipeline.defs.names import (
    LANE,
    MAX_RUNTIME,
    NO_RETRY,
    follow_runtime,
)
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import connected, failing_with_advice
from iot_pipeline.defs.storage import spared
from iot_pipeline.defs.verdicts import Verdicts
from iot_pipeline.errors import PlanError

OP_NAME = "ingest_readings"
# How long the reports of a run that stays wait for a server: one that is away is red in 15 s.
_WATCH_SECONDS = 4.0
# How often a run that waits for lanes looks whether they are free.
_LOOK_AGAIN_SECONDS = 1.0


class IngestMode(enum.Enum):
    """Whether a run ends when it has caught up. Dagster shows the names."""

    drain = "drain"
    follow = "follow"


class IngestConfig(Throttled):
    """What one run drains. Empty: all that lags, up to max_records."""

    mode: IngestMode = IngestMode.drain
    """drain: read to the end of the log as of now, and end. follow: stay for IOT_FOLLOW_SECONDS,
    write each record as it arrives, report every ten seconds; without ranges and max_records.
    Re-execution of either drains the same offsets."""
    ranges: dict[str, RangeConfig] = Field({})
    """Exactly these offsets, by Kafka partition: {'0': {start: 100, end: 200}}. Below the
    checkpoint is a replay. Empty: the run plans by itself, from the checkpoints to the end of the
    log."""
    max_records: int | None = Field(None, ge=1)
    """Offsets to drain at most, 1 or more, shared evenly by lagging partitions; only without
    ranges. Empty: IOT_RUN_MAX_RECORDS."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.mode is IngestMode.follow and (self.ranges or self.max_records is not None):
            raise PlanError(
                "mode follow has no end: leave ranges and max_records out, or say mode: drain"
            )
        if self.ranges and self.max_records is not None:
            raise PlanError("ranges say exactly which offsets: leave max_records empty with them")
        as_ranges(self.ranges)
        return self


def follow_config(op_name: str = OP_NAME) -> dict[str, object]:
    """Run config of a run that stays."""
    return {"ops": {op_name: {"config": {"mode": IngestMode.follow.name}}}}


def run_config_for(ranges: Sequence[OffsetRange], op_name: str = OP_NAME) -> dict[str, object]:
    """Run config that drains exactly these: a few integers per partition, never a payload."""
    config = {"ranges": {str(r.partition): {"start": r.start, "end": r.end} for r in ranges}}
    return {"ops": {op_name: {"config": config}}}


def build_ingest(pipeline: Pipeline) -> tuple[dg.AssetsDefinition, dg.JobDefinition]:
    """The table of readings as an asset, and the job that materializes it.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    @dg.multi_asset(
        name=pipeline.called(OP_NAME),
        specs=[table_spec(pipeline)],
        check_specs=check_specs(pipeline),
        can_subset=True,  # so that checks run without the asset, from the Checks tab
        required_resource_keys=pipeline.resource_keys,
        description=(
            "Drain offset ranges of the topic into Cassandra, or follow it, and account for every "
            "offset."
        ),
    )
    def sensor_data(context: dg.AssetExecutionContext, config: IngestConfig) -> Events:
        """Ingest when the asset was asked for, else only check."""
        with failing_with_advice():
            yield from _ingest(context, config, pipeline)

    refuse_at_launch(sensor_data, IngestConfig)
    settings = pipeline.settings()
    job = dg.define_asset_job(
        pipeline.called("ingest"),
        selection=dg.AssetSelection.assets(pipeline.sensor_data),
        description=(
            "Drain offset ranges of the topic into Cassandra, and check the result. Without config "
            "it drains all that lags; with mode: follow it stays and writes what arrives. One run "
            "at a time; Terminate ends it within a second and loses nothing."
        ),
        tags={
            LANE: whole_lane(pipeline).tag,
            MAX_RUNTIME: follow_runtime(settings.follow_seconds),
            **NO_RETRY,
            **pipeline.tags,
        },
        executor_def=EXECUTOR,
    )
    return sensor_data, job  # type: ignore[return-value]


def _ingest(context: dg.AssetExecutionContext, config: IngestConfig, pipeline: Pipeline) -> Events:
    if pipeline.sensor_data not in context.selected_asset_keys:
        names = {key.name for key in context.selected_asset_check_keys}
        verdicts = Verdicts(context.instance, pipeline.sensor_data)
        with connected(context, pipeline) as connections:
            yield from as_events(context, pipeline, look_alone(connections, verdicts, names))
        return
    asked = as_ranges(config.ranges)
    lane = lane_of(context.run, pipeline)
    limit = asked_limit(config.max_rows_per_second, config.max_bytes_per_second)
    # One that waits for lanes holds them up, so it gives signs meanwhile.
    every = pipeline.settings().sign_seconds
    with signs_of_life(context.instance, context.run.run_id, lane.tag, every):
        if not _enter(lane, context):
            return
        with spared(context.log) as pass_on, connected(context, pipeline) as connections:
            again = inherited_ranges(context.instance, context.run)
            if config.mode is not IngestMode.follow or again is not None:
                most = config.max_records
                run = IngestRun(context, pipeline, lane, asked, most, connections, pass_on, limit)
                yield from run.events()
                return
            with connected(context, pipeline, answer_seconds=_WATCH_SECONDS) as watching:
                stays = FollowRun(context, pipeline, lane, connections, watching, pass_on, limit)
                yield from stays.events()


def _enter(lane: Lane, context: dg.AssetExecutionContext) -> bool:
    """Note which process this is; False when another run is at work, so this one steps aside.

    The queue lets runs of one tag in one by one, and does not know that a run of all partitions
    meets every lane: that one waits here.
    """
    run_id = context.run.run_id
    name_process(context.instance, run_id, {LANE: lane.tag})
    waits_for = ""
    while (other := run_ahead_of(context.instance, lane, run_id)) is not None:
        tag = other.tags.get(LANE, lane.tag)
        if not lane.is_whole or tag == lane.tag:
            context.log.info(
                "run %s of %s is at work: stepping aside, nothing was read", other.run_id, tag
            )
            return False
        if other.run_id != waits_for:
            waits_for = other.run_id
            context.log.info(
                "waiting for run %s of %s to end: this run works on all partitions",
                other.run_id,
                tag,
            )
        time.sleep(_LOOK_AGAIN_SECONDS)
    return True
