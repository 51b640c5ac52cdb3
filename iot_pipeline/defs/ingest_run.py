"""One ingest run in Dagster that drains, and what every ingest run shows.

What a run does is `stages.run_ingest`; this says it: in the log, in tags, in events. Terminate
passes through everything here: what was committed by then stays committed, and the next run starts
there.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

import dagster as dg

from iot_pipeline.connections import Connections, ingest_request
from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.reading.lag import PartitionLag
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.lanes import format_ranges, inherited_ranges
from iot_pipeline.defs.names import ACHIEVED, RANGES, SENSOR_DATA
from iot_pipeline.defs.pictures import picture_metadata
from iot_pipeline.defs.run_report import RunReport, observations
from iot_pipeline.defs.verdicts import (
    Shown,
    choose_shown,
    is_first_look,
    latest_target,
    read_shown,
    show_again_where_hidden,
    suspects_of,
)
from iot_pipeline.errors import PermanentError, PipelineError
from iot_pipeline.stages.checks.check import Cost
from iot_pipeline.stages.checks.facts import Facts, RunFacts
from iot_pipeline.stages.checks.registry import checks_of, look_at
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ports import Run
from iot_pipeline.stages.proof.replay import ReplayProgress
from iot_pipeline.stages.run_ingest import IngestOutcome, Watcher, new_outcome, run_ingest

_T = TypeVar("_T")
_LOG_EVERY_SECONDS = 2.0
_STARTED_BY_MACHINE = ("dagster/sensor_name", "dagster/schedule_name")

Events = Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation]


@dataclass(slots=True)
class _RunLog(Watcher):
    """The run's log and tags, while it drains."""

    context: dg.AssetExecutionContext
    told_at: float = field(default_factory=time.monotonic)

    def planned(self, plan: Plan) -> None:
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
        self._now_and_then(f"{progress.done_offsets:,} of {planned:,} offsets replayed")

    def committed(self, outcome: IngestOutcome) -> None:
        drained = outcome.drained
        self._now_and_then(
            f"{drained.done_offsets:,} of {drained.planned_offsets:,} offsets, "
            f"{drained.total.stored:,} rows stored"
        )

    def lost(self, ranges: Sequence[OffsetRange]) -> None:
        for item in ranges:
            self.context.log.error(
                "LOST: %s expired unread; it is in the ledger, `iot losses` lists it", item
            )

    def _now_and_then(self, line: str) -> None:
        if time.monotonic() - self.told_at >= _LOG_EVERY_SECONDS:
            self.told_at = time.monotonic()
            self.context.log.info("%s", line)


@dataclass(slots=True)
class IngestRun:
    """One run of the asset that drains, once it is its turn.

    Args:
        context: Dagster's.
        asked: the ranges in its config; none: it plans by itself.
        max_records: budget of such a plan, None for the setting's.
        connections: clients, open.
    """

    context: dg.AssetExecutionContext
    asked: Sequence[OffsetRange]
    max_records: int | None
    connections: Connections

    def events(self) -> Events:
        """Ingest, check it, then say what was done.

        Whatever becomes of the checks, the rows are in the table: a question that fails by then is
        a check that could not look, and the run a success.
        """
        settings, started_at = self.connections.settings, datetime.now(UTC)
        outcome = new_outcome(self.connections)
        try:
            run_ingest(
                ingest_request(
                    settings,
                    Run(self.context.run.run_id, uuid.uuid4()),
                    offsets=self._offsets(),
                    max_records=self.max_records or settings.run_max_records,
                    is_planned=self._is_planned,
                ),
                self.connections,
                outcome=outcome,
                watcher=_RunLog(self.context),
            )
        finally:
            self._say_achieved(outcome)
        assert outcome.plan is not None
        report = RunReport(
            settings.topic,
            outcome.drained,
            outcome.replayed,
            None,
            started_at,
            outcome.overtaken_by,
            outcome.lost,
            outcome.probe.take(),
        )
        facts = RunFacts(
            run_id=self.context.run.run_id,
            part=outcome.drained,
            committed=outcome.drained.ranges,
            days=report.days,
            replayed=outcome.replayed.achieved,
            started_at=started_at,
            topic=outcome.plan.topic,
            fleet=outcome.fleet,
        )
        look = look_in_run(self.connections, self.context, facts)
        report = replace(report, lags=look.lags)
        self.context.log.info("%s", report.headline())
        for observation in observations(report, self.connections.log, settings.dead_letter_topic):
            self.context.log_event(observation)
        yield from as_events(self.context, look.shown)
        pictures = picture_metadata(self.connections, self.context.run.run_id, look.fleet)
        yield dg.MaterializeResult(
            asset_key=SENSOR_DATA, metadata={**report.metadata(), **pictures}
        )
        show_again_where_hidden(self.context.instance, self.context.run.run_id)
        if outcome.replayed.rows_not_whole:
            raise PermanentError(
                f"replaying {format_ranges(outcome.replayed.achieved)}: "
                f"{outcome.replayed.rows_not_whole} rows did not take, such as "
                f"{outcome.replayed.read_back.named[0]}; `iot audit` over these offsets says what "
                "is in their place"
            )

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


@dataclass(frozen=True, slots=True)
class RunLook:
    """How everything stands after a run, or a part of one.

    `lags` and `fleet` are None when they could not be looked at: the checks on them say why.
    """

    shown: list[Shown]
    lags: Sequence[PartitionLag] | None
    fleet: Fleet | None


def look_in_run(
    connections: Connections,
    context: dg.AssetExecutionContext,
    run: RunFacts,
    *,
    is_quick: bool = False,
) -> RunLook:
    """Look at all checks with what a run did, within its budget; quick: at those that are free."""
    now, before = datetime.now(UTC), read_shown(context.instance)
    facts = Facts(connections, now, run, suspects_of(before), is_first_look(before))
    checks = [check for check in checks_of() if check.cost is Cost.FREE or not is_quick]
    shown = choose_shown(look_at(checks, facts), before, now, is_whole=False, checks=checks)
    return RunLook(shown, _known(lambda: facts.lags), _known(lambda: facts.fleet))


def _known(fact: Callable[[], _T]) -> _T | None:
    try:
        return fact()
    except PipelineError:
        return None


def as_events(
    context: dg.AssetExecutionContext, shown: Sequence[Shown]
) -> Iterator[dg.AssetCheckEvaluation]:
    """The run's row of each check; what is red is in its log as well, with what to do."""
    target = latest_target(context.instance)
    for one in shown:
        if not one.passed:
            context.log.warning("%s: %s", one.check, one.description)
        # No AssetCheckResult: its target cannot be named, and it would have to be selected.
        yield one.with_target(target)
    passed = sum(one.passed for one in shown)
    context.log.info("%d of %d checks passed", passed, len(shown))
