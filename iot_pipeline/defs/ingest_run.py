"""One ingest run in Dagster that drains, and what every ingest run shows.

What a run does is `stages.run_ingest`; this says it: in the log, in tags, in events. Terminate
passes through everything here: what was committed by then stays committed, and the next run starts
there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import dagster as dg

from iot_pipeline.connections import Connections, ingest_request
from iot_pipeline.core.ingest.run_costs import lane_name
from iot_pipeline.core.ingest.throttle import SetLimit
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.lanes import Lane, format_ranges, inherited_ranges
from iot_pipeline.defs.names import ACHIEVED, RANGES
from iot_pipeline.defs.pictures import picture_metadata
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import NowAndThen
from iot_pipeline.defs.run_report import RunReport, observations
from iot_pipeline.defs.storage import Unheard
from iot_pipeline.defs.verdicts import (
    Shown,
    Verdicts,
    choose_shown,
    is_first_look,
    log_shown,
    suspects_of,
)
from iot_pipeline.errors import PipelineError
from iot_pipeline.stages.checks.machinery.facts import Facts, RunFacts
from iot_pipeline.stages.checks.machinery.registry import checks_of, look_at
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.run_ingest import IngestOutcome, Watcher, new_outcome, run_ingest

_T = TypeVar("_T")
_STARTED_BY_MACHINE = ("dagster/sensor_name", "dagster/schedule_name")

Events = Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation]


@dataclass(slots=True)
class _RunLog(Watcher):
    """The run's log and tags, while it drains; without them while Dagster's storage is away."""

    context: dg.AssetExecutionContext
    say: NowAndThen
    pass_on: Callable[[], None]
    unheard: Unheard = field(default_factory=Unheard)

    def planned(self, plan: Plan) -> None:
        self.unheard(lambda: self._say_planned(plan))

    def _say_planned(self, plan: Plan) -> None:
        ranges = format_ranges([*plan.replay, *plan.ingest])
        self.context.instance.add_run_tags(self.context.run.run_id, {RANGES: ranges})
        self.context.log.info("draining %s", ranges or "nothing: nothing lags")
        if plan.replay:
            self.context.log.info(
                "%s: below the checkpoint, so this is a replay; no checkpoint moves",
                format_ranges(plan.replay),
            )

    def replayed(self, progress: ReplayProgress) -> None:
        planned = sum(item.span for item in progress.planned)
        said = f"{progress.done_offsets:,} of {planned:,} offsets replayed"
        self.unheard(lambda: self.say(said))

    def committed(self, outcome: IngestOutcome) -> None:
        drained = outcome.drained
        said = (
            f"{drained.done_offsets:,} of {drained.planned_offsets:,} offsets, "
            f"{drained.total.stored:,} rows stored"
        )
        self.unheard(self.pass_on)
        self.unheard(lambda: self.say(said))

    def lost(self, ranges: Sequence[OffsetRange]) -> None:
        for item in ranges:
            said = f"LOST: {item} was not read; it is in the ledger, `iot losses` says why"
            self.unheard(partial(self.context.log.error, said))


@dataclass(slots=True)
class IngestRun:
    """One run of the asset that drains, once it is its turn.

    Without `asked`, the ranges in its config, it plans by itself, `max_records` offsets at most
    (None: as the setting says), `limit` the rate it was asked for.
    """

    context: dg.AssetExecutionContext
    pipeline: Pipeline
    lane: Lane
    asked: Sequence[OffsetRange]
    max_records: int | None
    connections: Connections
    pass_on: Callable[[], None]
    limit: SetLimit | None = None

    def events(self) -> Events:
        """Ingest, check it, then say what was done.

        Whatever becomes of the checks, the rows are in the table: a question that fails by then is
        a check that could not look, and the run a success.
        """
        settings, started_at = self.connections.settings, datetime.now(UTC)
        outcome = new_outcome(self.connections, sees_all=self.lane.is_whole)
        try:
            run_ingest(
                ingest_request(
                    settings,
                    Run(self.context.run.run_id),
                    offsets=self._offsets(),
                    partitions=None if self.lane.is_whole else self.lane,
                    max_records=self.max_records or settings.run_max_records,
                    is_planned=self._is_planned,
                    limit=self.limit,
                ),
                self.connections,
                outcome=outcome,
                watcher=_RunLog(self.context, NowAndThen(self.context), self.pass_on),
            )
        finally:
            self._say_achieved(outcome)
        told = look_and_tell(
            self.context,
            self.pipeline,
            self.connections,
            outcome,
            outcome.drained,
            committed=outcome.drained.ranges,
            since=started_at,
            started_at=started_at,
            lane=self.lane,
        )
        yield from as_results(self.context, self.pipeline, told)
        outcome.replayed.raise_unless_whole()

    def _offsets(self) -> Sequence[OffsetRange]:
        run = self.context.run
        again = inherited_ranges(self.context.instance, run)
        if again is None:
            return self.asked
        self.context.log.info(
            "re-execution of run %s: the same offsets, %s", run.parent_run_id, format_ranges(again)
        )
        return again

    @property
    def _is_planned(self) -> bool:
        """Whether a sensor or schedule planned it at the checkpoints of then.

        What a person, or a re-execution, asks for below the checkpoint is a replay.
        """
        run = self.context.run
        return run.parent_run_id is None and any(tag in run.tags for tag in _STARTED_BY_MACHINE)

    def _say_achieved(self, outcome: IngestOutcome) -> None:
        # Also when it was terminated or failed: a re-execution drains what was achieved.
        drained = outcome.drained
        if outcome.achieved:
            tags = {ACHIEVED: format_ranges(outcome.achieved)}
            self.context.instance.add_run_tags(self.context.run.run_id, tags)
        if drained.done_offsets < drained.planned_offsets and not drained.fenced:
            self.context.log.info(
                "ended early: %s of %s offsets are in the ledger, %s rows stored",
                f"{drained.done_offsets:,}",
                f"{drained.planned_offsets:,}",
                f"{drained.total.stored:,}",
            )
        if drained.in_doubt:
            self.context.log.warning(
                "in doubt: %s, committed just then, and Cassandra did not say in time whether it "
                "took effect: `iot ledger` does. Nothing is lost or counted twice either way",
                format_ranges(drained.in_doubt),
            )


# How everything stands after a run, or a part of one: its checks, and what it did.
Told = tuple[list[Shown], Mapping[str, Any]]


def look_and_tell(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    connections: Connections,
    outcome: IngestOutcome,
    part: DrainProgress,
    *,
    committed: Sequence[OffsetRange],
    since: datetime,
    started_at: datetime,
    is_growing: bool = False,
    is_quick: bool = False,
    lane: Lane,
) -> Told:
    """Look at all checks; say in the log and in observations what a run, or a part of it, did.

    `part` is what it did since `since`, `committed` all that it has committed since `started_at`.
    A run that is growing goes on. A quick look leaves out pictures, and checks that ask a server.
    Of the lanes of a topic one looks at the devices.
    """
    assert outcome.plan is not None
    settings, run_id, now = connections.settings, context.run.run_id, datetime.now(UTC)
    latencies, looks_at_devices = outcome.probe.take(), lane.looks_at_devices
    run = RunFacts(
        run_id=run_id,
        part=part,
        committed=committed,
        days={*part.total.stored_by_day, *outcome.replayed.counts.stored_by_day},
        replayed=outcome.replayed.achieved,
        started_at=started_at,
        topic=outcome.plan.topic,
        fleet=outcome.fleet,
        is_growing=is_growing,
        lane=lane_name(lane.place, lane.count),
        latencies=latencies,
    )
    before = Verdicts(context.instance, pipeline.sensor_data).read()
    facts = Facts(connections, now, run, suspects_of(before), is_first_look(before))
    checks = [
        check
        for check in checks_of()
        if (check.is_free or not is_quick) and (looks_at_devices or not check.is_of_devices)
    ]
    shown = choose_shown(look_at(checks, facts), before, now, is_whole=False, checks=checks)
    # What cannot be looked at is missing here; the checks on it say why.
    report = RunReport(
        settings.topic,
        part,
        outcome.replayed,
        _known(lambda: facts.lags),
        since,
        outcome.overtaken_by,
        outcome.lost,
        latencies,
    )
    measured = f"; {latencies}" if latencies.samples else ""
    context.log.info("%s%s", report.headline(), measured)
    letters = settings.dead_letter_topic
    for observation in observations(report, connections.log, letters, pipeline):
        context.log_event(observation)
    if is_quick or not looks_at_devices:
        return shown, report.metadata()
    fleet = _known(lambda: facts.fleet)
    pictures = picture_metadata(connections, run_id, fleet, pipeline.sensor_data)
    return shown, {**report.metadata(), **pictures}


def _known(fact: Callable[[], _T]) -> _T | None:
    try:
        return fact()
    except PipelineError:
        return None


def as_results(context: dg.AssetExecutionContext, pipeline: Pipeline, told: Told) -> Events:
    """The run's row of each check, then its one materialization (see `defs.verdicts`)."""
    shown, metadata = told
    yield from as_events(context, pipeline, shown)
    yield dg.MaterializeResult(asset_key=pipeline.sensor_data, metadata=metadata)
    verdicts = Verdicts(context.instance, pipeline.sensor_data)
    verdicts.show_again_where_hidden(context.run.run_id)


def as_events(
    context: dg.AssetExecutionContext, pipeline: Pipeline, shown: Sequence[Shown]
) -> Iterator[dg.AssetCheckEvaluation]:
    """The run's row of each check; what is red is in its log as well, with what to do."""
    verdicts = Verdicts(context.instance, pipeline.sensor_data)
    target = verdicts.latest_target()
    for one in shown:
        # No AssetCheckResult: its target cannot be named, and it would have to be selected.
        yield verdicts.as_event(one, target)
    log_shown(context, shown)
