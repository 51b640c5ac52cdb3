"""The jobs that write again what is in Kafka: ranges that were ingested, and dead letters.

Beside ingestion, not in its lane: no checkpoint moves, and the same record makes the same cells.
"""

from typing import Self, cast, get_args

import dagster as dg
from pydantic import Field, model_validator

from iot_pipeline.connections import Connections, asked_limit
from iot_pipeline.core.proof.read_back import RowState
from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.lanes import format_ranges
from iot_pipeline.defs.launchpad import Asked, RangeConfig, Throttled, as_ranges, job_of
from iot_pipeline.defs.names import ACHIEVED, RANGES
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import NowAndThen, connected
from iot_pipeline.errors import ConfigurationError, PermanentError
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.replay import plan_replay, ranges_of_run
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.proof.reread import Choice, choose_reading


class ReplayConfig(Throttled):
    """What to write again: ranges, or those that a run ingested."""

    ranges: dict[str, RangeConfig] = Field({})
    """These offsets, by Kafka partition: {'0': {start: 100, end: 200}}. All of them below the
    checkpoint."""
    run_id: str | None = None
    """Or the ranges that this run ingested, by the ledger: a run of the job ingest, or
    cli-<uuid>."""

    reading: str | None = None
    """By which declaration to read what was ingested by another one than the present: the one of
    then, or the present one (now) where it changes no stored reading. Empty: such ranges are
    refused, and the run says what differs."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if bool(self.ranges) == (self.run_id is not None):
            raise ConfigurationError("say what to replay: ranges, or run_id")
        as_ranges(self.ranges)
        if self.reading not in (None, *get_args(Choice)):
            raise ConfigurationError(f"reading {self.reading}: expected then or now")
        return self

    def offset_ranges(self, connections: Connections) -> list[OffsetRange]:
        if self.run_id is None:
            return as_ranges(self.ranges)
        ledger, topic = connections.ledger, connections.settings.topic
        return ranges_of_run(ledger, topic, ledger.partitions(topic), self.run_id)


class DeadLetterReplayConfig(Asked):
    """Which dead letters to read again. Empty: all of them."""

    reason: str | None = Field(
        default=None,
        description=(
            f"Only those rejected for this reason: {', '.join(reason.value for reason in Reason)}."
        ),
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.reason is not None and self.reason not in set(Reason):
            known = ", ".join(reason.value for reason in Reason)
            raise ConfigurationError(f"reason {self.reason}: expected one of {known}")
        return self


def build_replays(pipeline: Pipeline) -> list[dg.JobDefinition]:
    """The jobs `replay` and `replay_dead_letters`."""

    @dg.op(
        name=pipeline.called("replay_readings"),
        description="Write ingested records again, the same cells, and read them back.",
        required_resource_keys=pipeline.resource_keys,
    )
    def replay_readings(context: dg.OpExecutionContext, config: ReplayConfig) -> None:
        with connected(context, pipeline) as connections:
            _replay(context, config, connections)

    @dg.op(
        name=pipeline.called("replay_letters"),
        description="Read dead letters by the present declaration, and store what are readings.",
        required_resource_keys=pipeline.resource_keys,
    )
    def replay_letters(context: dg.OpExecutionContext, config: DeadLetterReplayConfig) -> None:
        """Idempotent: a second time finds the rows there."""
        with connected(context, pipeline) as connections:
            result = connections.replay_letters(Run(context.run.run_id), config.reason)
        context.log.info("%s", result)
        context.add_output_metadata(
            {
                **result.numbers(),
                "still_rejected": result.still_rejected.total(),
                **{f"still_{name}": count for name, count in result.still_rejected.items()},
            }
        )

    return [
        job_of(
            pipeline,
            replay_readings,
            name="replay",
            config=ReplayConfig,
            description=(
                "Write what was ingested again, by ranges or by run: the same cells with the same "
                "write times, no checkpoint moved. Restores rows that are missing, changes no "
                "value that is there, leaves deleted what `iot delete` removed, and reads back."
            ),
            max_seconds=7200,
        ),
        job_of(
            pipeline,
            replay_letters,
            name="replay_dead_letters",
            config=DeadLetterReplayConfig,
            description=(
                "Store the dead letters that the present declaration accepts, as if they had never "
                "failed: with their original coordinates and write times. What still fails stays, "
                "counted; nothing is sent again."
            ),
            max_seconds=7200,
        ),
    ]


def _replay(context: dg.OpExecutionContext, config: ReplayConfig, connections: Connections) -> None:
    """Ends with the true count, also when it is terminated."""
    run_id, topic = context.run.run_id, connections.settings.topic
    asked = config.offset_ranges(connections)
    context.instance.add_run_tags(run_id, {RANGES: format_ranges(asked)})
    chosen = plan_replay(connections.log, connections.ledger, topic, asked)
    choice = cast(Choice, config.reading or "")
    rereads = choose_reading(chosen.plan, connections.audit_ports, choice)
    progress = ReplayProgress(chosen.plan.replay, chosen.gone)
    say = NowAndThen(context)
    try:
        connections.replay(
            chosen.plan,
            Run(run_id),
            progress,
            rereads,
            limit=asked_limit(config.max_rows_per_second, config.max_bytes_per_second),
            on_progress=lambda so_far: say(f"{so_far.done_offsets:,} offsets replayed"),
        )
    finally:
        if progress.achieved:
            tags = {ACHIEVED: format_ranges(progress.achieved)}
            context.instance.add_run_tags(run_id, tags)
        for sentence in progress.sentences():
            context.log.info("%s", sentence)
    _finish_replay(context, progress)


def _finish_replay(context: dg.OpExecutionContext, progress: ReplayProgress) -> None:
    context.add_output_metadata(
        {
            "ranges": format_ranges(progress.achieved) or "none",
            "gone": format_ranges(progress.gone) or "none",
            "offsets_replayed": progress.done_offsets,
            "offsets_gone": sum(item.span for item in progress.gone),
            **progress.numbers(),
            **{f"rows_{state.value}": progress.read_back.states[state] for state in RowState},
        }
    )
    progress.raise_unless_whole()
    if progress.gone:
        raise PermanentError(
            f"replaying: Kafka has deleted {format_ranges(progress.gone)}, so that part cannot be "
            f"written again; {format_ranges(progress.achieved) or 'nothing'} was"
        )
