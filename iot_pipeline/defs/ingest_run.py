"""One ingest run: which offsets, drained or replayed, and what it leaves to be seen.

A run drains the ranges in its config; without any it plans by itself, exactly as the sensor would;
a re-execution drains what its parent did. The run says so in its tags, so that what it was about
is known whatever becomes of it. Terminate passes through everything here: what was committed by
then stays committed, and the next run starts there.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg

from iot_pipeline.connections import Connections, drain_config, quality_limits
from iot_pipeline.core.lag import total_lag
from iot_pipeline.core.offsets import OffsetRange
from iot_pipeline.defs.checks import as_result, judge_run
from iot_pipeline.defs.lanes import format_ranges, inherited_ranges
from iot_pipeline.defs.names import ACHIEVED, RANGES, SENSOR_DATA
from iot_pipeline.defs.pictures import picture_metadata
from iot_pipeline.defs.run_report import RunReport, observations
from iot_pipeline.errors import PermanentError
from iot_pipeline.stages.fleet_keeper import FleetKeeper
from iot_pipeline.stages.ingest import DrainProgress, DrainSum, drain
from iot_pipeline.stages.lag import read_lag
from iot_pipeline.stages.latency import LatencyProbe
from iot_pipeline.stages.loss import run_past_losses
from iot_pipeline.stages.planning import Plan, make_plan
from iot_pipeline.stages.ports import Run
from iot_pipeline.stages.replay import ReplayProgress, replay

_LOG_EVERY_SECONDS = 2.0
_STARTED_BY_MACHINE = ("dagster/sensor_name", "dagster/schedule_name")

Events = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]


@dataclass(slots=True)
class IngestRun:
    """One run of the asset, once it is its turn.

    Args:
        context: Dagster's.
        asked: the ranges in its config; none: it plans by itself.
        max_records: budget of such a plan, None for the setting's.
        connections: clients, open.
        check_names: the checks that were asked for with it.
        probe: measures how soon rows can be read.
    """

    context: dg.AssetExecutionContext
    asked: Sequence[OffsetRange]
    max_records: int | None
    connections: Connections
    check_names: set[str]
    probe: LatencyProbe
    told_at: float = 0.0

    def events(self) -> Events:
        """Ingest, then say what was done, then check it."""
        settings, started_at = self.connections.settings, datetime.now(UTC)
        topic = settings.topic
        ahead: list[str] = []
        progress, replayed = DrainSum(), ReplayProgress([])
        lost: list[OffsetRange] = []
        keeper = FleetKeeper(self.connections.fleet_ports, quality_limits(settings))
        run = Run(self.context.run.run_id, uuid.uuid4())

        def plan_and_drain() -> Plan:
            # Past a loss a run plans again: what expired and what it has done by then is done.
            plan = self._plan([*lost, *progress.ranges, *replayed.achieved])
            ahead[:] = self._who_is_ahead(plan)
            replayed.planned = [] if ahead else plan.replay
            self._work(plan, run, progress, replayed, keeper)
            return plan

        plan = run_past_losses(
            plan_and_drain,
            self.connections.log,
            self.connections.ledger,
            topic,
            run,
            settings.on_expired,
            settings.retry_seconds,
            lambda recorded: self._say_lost(recorded, lost),
        )
        lags = read_lag(self.connections.log, self.connections.ledger, topic, datetime.now(UTC))
        ahead += [str(fenced) for fenced in progress.fenced]
        report = RunReport(
            topic, progress, replayed, lags, started_at, ahead, lost, self.probe.take()
        )
        self.context.log.info("%s", report.headline())
        for observation in observations(report):
            self.context.log_event(observation)
        # Before the checks: whatever becomes of them, these rows are in the table.
        pictures = picture_metadata(
            self.connections,
            self.context.run.run_id,
            lambda: keeper.look(datetime.now(UTC), total_lag(lags).lag_seconds),
        )
        yield dg.MaterializeResult(
            asset_key=SENSOR_DATA, metadata={**report.metadata(), **pictures}
        )
        verdicts = judge_run(
            self.connections,
            self.context.run.run_id,
            progress,
            report.days,
            started_at,
            plan.topic,
            lags,
            replayed.achieved,
            keeper,
        )
        for verdict in verdicts:
            if verdict.name in self.check_names:
                yield as_result(verdict)
        if replayed.rows_not_whole:
            raise PermanentError(
                f"replaying {format_ranges(replayed.achieved)}: {replayed.rows_not_whole} rows did "
                f"not take, such as {replayed.read_back.named[0]}; `iot audit` over these offsets "
                "says what is in their place"
            )

    def _say_lost(self, recorded: list[OffsetRange], lost: list[OffsetRange]) -> None:
        lost += recorded
        for item in recorded:
            self.context.log.error(
                "LOST: %s expired unread; it is in the ledger, `iot losses` lists it", item
            )

    def _plan(self, done: Sequence[OffsetRange]) -> Plan:
        run, instance = self.context.run, self.context.instance
        settings = self.connections.settings
        asked = inherited_ranges(instance, run)
        if asked is not None:
            self.context.log.info(
                "re-execution of run %s: the same offsets, %s",
                run.parent_run_id,
                format_ranges(asked),
            )
        plan = make_plan(
            self.connections.log,
            self.connections.ledger,
            settings.topic,
            start_at=settings.start_at,
            max_records=self.max_records or settings.run_max_records,
            offsets=self.asked if asked is None else asked,
            done=done,
            accept_producer_timestamps=settings.accept_producer_timestamps,
        )
        ranges = format_ranges([*plan.replay, *plan.ingest])
        instance.add_run_tags(run.run_id, {RANGES: ranges})
        self.context.log.info("draining %s", ranges or "nothing: nothing lags")
        return plan

    def _who_is_ahead(self, plan: Plan) -> list[str]:
        """Whoever ingested what a sensor had planned for this run; nobody when a person asked.

        What a person, or a re-execution, asks for below the checkpoint is a replay. What a sensor
        planned was not ingested then: that it is now means that another run was faster.
        """
        run = self.context.run
        is_planned = run.parent_run_id is None and any(
            tag in run.tags for tag in _STARTED_BY_MACHINE
        )
        if not (plan.replay and is_planned):
            return []
        topic = self.connections.settings.topic
        ahead = []
        for item in plan.replay:
            entries = self.connections.ledger.read_entries(topic, [item.partition])
            owner = entries[0].run_id if entries else "unknown"
            at = plan.checkpoints[item.partition].next_offset
            ahead.append(f"partition {item.partition}: run {owner} is at offset {at}")
        return ahead

    def _work(
        self,
        plan: Plan,
        run: Run,
        progress: DrainSum,
        replayed: ReplayProgress,
        keeper: FleetKeeper,
    ) -> None:
        config = drain_config(self.connections.settings)
        self.told_at = time.monotonic()
        try:
            if replayed.planned:
                self.context.log.info(
                    "%s: below the checkpoint, so this is a replay; no checkpoint moves",
                    format_ranges(replayed.planned),
                )
                replay(
                    plan,
                    self.connections.ports,
                    self.connections.rows,
                    run,
                    config,
                    deletions=self.connections.read_deletions(),
                    progress=replayed,
                    on_progress=self._tell_replay,
                )
            keeper.load()
            drain(
                plan,
                replace(self.connections.ports, store=self.probe),
                run,
                config,
                progress=progress.begin(plan.ingest),
                on_progress=self._tell,
                observe=lambda batch: keeper.observe(batch, time.time_ns() // 1_000_000),
            )
        finally:
            self._say_achieved(progress, replayed)
            # Also when it was terminated: briefly then, and losing it loses no reading.
            keeper.save(datetime.now(UTC), is_last=True, budget_seconds=2.0)

    def _say_achieved(self, progress: DrainSum, replayed: ReplayProgress) -> None:
        # Also when it was terminated or failed: a re-execution drains what was achieved.
        achieved = [*replayed.achieved, *progress.ranges]
        if achieved:
            tags = {ACHIEVED: format_ranges(achieved)}
            self.context.instance.add_run_tags(self.context.run.run_id, tags)
        if progress.done_offsets < progress.planned_offsets and not progress.fenced:
            self.context.log.info(
                "ended early: %s of %s offsets are in the ledger, %s rows stored",
                f"{progress.done_offsets:,}",
                f"{progress.planned_offsets:,}",
                f"{progress.total.stored:,}",
            )
        if progress.in_doubt:
            self.context.log.warning(
                "in doubt: %s, committed just then, and Cassandra did not say in time whether it "
                "took effect: `iot ledger` does. Nothing is lost or counted twice either way",
                format_ranges(progress.in_doubt),
            )

    def _tell(self, progress: DrainProgress) -> None:
        self._log_now_and_then(
            f"{progress.done_offsets:,} of {progress.planned_offsets:,} offsets, "
            f"{progress.total.stored:,} rows stored"
        )

    def _tell_replay(self, progress: ReplayProgress) -> None:
        planned = sum(item.span for item in progress.planned)
        self._log_now_and_then(f"{progress.done_offsets:,} of {planned:,} offsets replayed")

    def _log_now_and_then(self, line: str) -> None:
        if time.monotonic() - self.told_at >= _LOG_EVERY_SECONDS:
            self.told_at = time.monotonic()
            self.context.log.info("%s", line)
