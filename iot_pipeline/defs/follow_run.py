"""One ingest run that stays: it follows the topic, and says every ten seconds what it did.

Following happens in a thread of its own with connections of its own, so nothing that is said or
checked here makes a reading wait. Each report is a materialization over what was ingested since
the one before, so reports tile the run as runs tile the log, and the results of all checks.
Terminate, the end of the run's time and a red blocking check end it the same way: everything
acknowledged is committed within a second, and the run's tags say which offsets that was.
"""

import queue
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

import dagster as dg

from iot_pipeline.connections import Connections, drain_config, quality_limits
from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.lag import PartitionLag, total_lag
from iot_pipeline.core.latency import Latencies
from iot_pipeline.core.offsets import OffsetRange
from iot_pipeline.defs.checks import as_evaluation, judge_end_of_following, judge_run
from iot_pipeline.defs.lanes import format_ranges
from iot_pipeline.defs.names import ACHIEVED, FOLLOW, MAX_RUNTIME, MODE, SENSOR_DATA, follow_runtime
from iot_pipeline.defs.pictures import picture_metadata
from iot_pipeline.defs.run_report import RunReport, observations
from iot_pipeline.errors import TransientError
from iot_pipeline.stages.fleet_keeper import FleetKeeper
from iot_pipeline.stages.following import Follow
from iot_pipeline.stages.ingest import DrainSum, Ports, follow
from iot_pipeline.stages.intervals import Intervals
from iot_pipeline.stages.lag import read_lag
from iot_pipeline.stages.latency import LatencyProbe
from iot_pipeline.stages.loss import run_past_losses
from iot_pipeline.stages.planning import Plan, make_plan
from iot_pipeline.stages.ports import Run
from iot_pipeline.stages.replay import ReplayProgress

# An event costs about 10 ms, and a report is three of them and each minute one per check: less than
# 1 % of the time.
REPORT_SECONDS = 10.0
# Every report makes all checks; one that stays green is written down only so often, because
# sixteen of them each time were two thirds of what a run leaves on disk. The run has one row per
# check, so nothing that plots is lost.
_SAY_GREEN_SECONDS = 60.0
# The first one comes soon: whoever looks at a new run wants to see it work.
_FIRST_REPORT_SECONDS = 2.0
_LOOK_SECONDS = 0.1
# Following ends within this; Cassandra away, it may try for longer than a person waits.
_END_SECONDS = 5.0

_Event = (
    dg.AssetMaterialization
    | dg.AssetObservation
    | dg.AssetCheckEvaluation
    | dg.MaterializeResult[None]
)
FollowEvents = Iterator[_Event]
# What a report yields, and whether a check forbids to go on.
_Report = Generator[_Event, None, bool]


class _Carried:
    """Takes what ends a thread to where it can be raised."""

    error: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        self.error = error
        return True


@dataclass(slots=True)
class FollowRun:
    """One run of the asset that stays, once it is its turn.

    Args:
        context: Dagster's.
        connections: those of the thread that follows.
        watching: those of reports and checks.
    """

    context: dg.AssetExecutionContext
    connections: Connections
    watching: Connections
    plan: Plan | None = None
    progress: DrainSum = field(default_factory=DrainSum)
    intervals: Intervals = field(default_factory=Intervals)
    lost: list[OffsetRange] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _said: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)
    _carried: _Carried = field(default_factory=_Carried)
    _run: Run = field(init=False)
    _probe: LatencyProbe = field(init=False)
    _keeper: FleetKeeper = field(init=False)
    _reported_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _stay_until: float = 0.0
    _said_checks: dict[str, tuple[bool | None, float]] = field(default_factory=dict)
    _achieved_tag: str = ""

    def __post_init__(self) -> None:
        self._run = Run(self.context.run.run_id, uuid.uuid4())
        self._probe = LatencyProbe(self.connections.store, self.connections.rows)
        # Folded in the thread that follows, asked and kept in Dagster's.
        self._keeper = FleetKeeper(
            self.watching.fleet_ports, quality_limits(self.watching.settings)
        )

    def events(self) -> FollowEvents:
        """Follow until the time is over, and report."""
        # A daemon: whoever kills what waits for Cassandra must not have to kill it twice.
        thread = threading.Thread(target=self._work, name="follow", daemon=True)
        thread.start()
        self._tag()
        report_at = time.monotonic() + _FIRST_REPORT_SECONDS
        try:
            while thread.is_alive():
                thread.join(_LOOK_SECONDS)
                self._pass_on()
                if time.monotonic() < report_at or self.plan is None or not thread.is_alive():
                    continue
                report_at += REPORT_SECONDS
                try:
                    if (yield from self._report()):
                        break
                except TransientError as exc:
                    # Following goes on for as long as it may; what was not told yet is told then.
                    self.context.log.warning("no whole report this time: %s", exc)
        finally:
            self._stop.set()
            thread.join(_END_SECONDS)
            self._pass_on()
            self._say_achieved()
            self._keeper.save(datetime.now(UTC), is_last=True, budget_seconds=2.0)
        if self._carried.error is not None:
            raise self._carried.error
        if not thread.is_alive():
            yield from self._last_report()

    # In the thread that follows.

    def _work(self) -> None:
        with self._carried:
            settings = self.connections.settings
            run_past_losses(
                self._plan_and_follow,
                self.connections.log,
                self.connections.ledger,
                settings.topic,
                self._run,
                settings.on_expired,
                settings.retry_seconds,
                self._say_lost,
            )

    def _plan_and_follow(self) -> Plan:
        connections, settings = self.connections, self.connections.settings
        plan = make_plan(
            connections.log,
            connections.ledger,
            settings.topic,
            start_at=settings.start_at,
            accept_producer_timestamps=settings.accept_producer_timestamps,
        )
        self.plan = plan
        self._said.put(f"following {settings.topic} from {plan.lag:,} offsets behind its end")
        self._keeper.load()
        # Past a loss it plans again, and stays no longer for it.
        now = time.monotonic()
        self._stay_until = self._stay_until or now + settings.follow_seconds
        follow(
            plan,
            Ports(connections.log, self._probe, connections.ledger, connections.dead_letters),
            self._run,
            drain_config(settings),
            Follow(max(0.0, self._stay_until - now), should_stop=self._stop.is_set),
            progress=self.progress.begin([]),
            on_progress=lambda _: self.intervals.note(self.progress),
            observe=lambda batch: self._keeper.observe(batch, time.time_ns() // 1_000_000),
        )
        return plan

    def _say_lost(self, recorded: list[OffsetRange]) -> None:
        self.lost += recorded
        for item in recorded:
            self._said.put(f"LOST: {item} expired unread; `iot losses` lists it")

    # In Dagster's thread.

    def _pass_on(self) -> None:
        while not self._said.empty():
            line = self._said.get()
            (self.context.log.error if line.startswith("LOST") else self.context.log.info)(line)

    def _tag(self) -> None:
        runtime = follow_runtime(self.connections.settings.follow_seconds)
        tags = {MODE: FOLLOW, MAX_RUNTIME: runtime}
        self.context.instance.add_run_tags(self.context.run.run_id, tags)

    def _say_achieved(self) -> None:
        # Also while it goes on: of a run that is killed, a re-execution drains what is known.
        achieved = format_ranges(self.intervals.so_far.ranges)
        if achieved != self._achieved_tag:
            self._achieved_tag = achieved
            self.context.instance.add_run_tags(self.context.run.run_id, {ACHIEVED: achieved})

    def _measure(self) -> tuple[RunReport, DrainSum, list[PartitionLag]]:
        log, ledger = self.watching.log, self.watching.ledger
        topic = self.watching.settings.topic
        # First what may fail: an interval is taken once.
        lags = read_lag(log, ledger, topic, datetime.now(UTC))
        since, self._reported_at = self._reported_at, datetime.now(UTC)
        so_far, part = self.intervals.take((self._reported_at - since).total_seconds())
        latencies: Latencies = self._probe.take()
        ahead = [str(fenced) for fenced in part.fenced]
        report = RunReport(
            topic, part, ReplayProgress([]), lags, since, ahead, list(self.lost), latencies
        )
        return report, so_far, lags

    def _report(self) -> _Report:
        """Say what was done since the last report, and check it; True when a check forbids more."""
        assert self.plan is not None
        report, so_far, lags = self._measure()
        self._say_achieved()
        self.context.log.info("%s; %s", report.headline(), report.latencies)
        pictures = picture_metadata(
            self.watching,
            self.context.run.run_id,
            lambda: self._keeper.look(datetime.now(UTC), total_lag(lags).lag_seconds),
        )
        yield dg.AssetMaterialization(SENSOR_DATA, metadata={**report.metadata(), **pictures})
        yield from observations(report)
        verdicts = judge_run(
            self.watching,
            self.context.run.run_id,
            report.progress,
            report.days,
            self._started_at,
            self.plan.topic,
            lags,
            keeper=self._keeper,
            committed=so_far.ranges,
            is_growing=True,
        )
        is_red = yield from self._judge(verdicts)
        self._keeper.save(datetime.now(UTC))
        return is_red

    def _last_report(self) -> FollowEvents:
        if self.plan is None:
            return
        self.intervals.note(self.progress)
        report, so_far, lags = self._measure()
        self._say_achieved()
        total = self.progress.total
        self.context.log.info(
            "%s; in the whole run %s rows of %s offsets",
            report.headline(),
            f"{total.stored:,}",
            f"{total.accounted:,}",
        )
        yield from observations(report)
        yield dg.MaterializeResult(asset_key=SENSOR_DATA, metadata=report.metadata())
        # The next run waits for this one, so only what is quick and what must hold at the end.
        yield from self._judge(
            judge_end_of_following(
                self.watching,
                self.context.run.run_id,
                so_far.ranges,
                self._started_at,
                self.plan.topic,
                lags,
            )
        )

    def _judge(self, verdicts: Iterator[CheckVerdict]) -> _Report:
        is_red, passed, judged, now = False, 0, 0, time.monotonic()
        for verdict in verdicts:
            evaluation = as_evaluation(verdict)
            is_red |= bool(evaluation.blocking) and not evaluation.passed
            passed, judged = passed + evaluation.passed, judged + 1
            was_passed, said_at = self._said_checks.get(verdict.name, (None, 0.0))
            if evaluation.passed and was_passed and now - said_at < _SAY_GREEN_SECONDS:
                continue
            self._said_checks[verdict.name] = evaluation.passed, now
            # No AssetCheckResult: an output can be given once, and this is one of many.
            yield evaluation
        self.context.log.info("%d of %d checks passed", passed, judged)
        return is_red
