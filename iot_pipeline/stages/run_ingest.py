"""One ingest run, of a person, a sensor or a schedule: the only place that knows its order.

    plan -> replay what lies below the checkpoints -> drain, or follow
         -> where Kafka deleted records unread: leave that partition, or record the loss and plan
            again

Trouble of one partition stops that partition: the others are drained to their ends, and then the
run fails with one error that names every one it had to leave. One whose leader does not answer is
left out of a plan; a run that follows looks for it again every minute.

The command line, a run that drains and a run that follows hand in a request and get the same facts
back; what they do with them is showing.
"""

import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.ingest.stopped import sum_up
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, Watermarks
from iot_pipeline.errors import (
    OffsetsExpiredError,
    PipelineError,
    TransientError,
    UnreadableError,
)
from iot_pipeline.stages.fleet.keeper import FleetKeeper
from iot_pipeline.stages.fleet.rows import FleetPorts
from iot_pipeline.stages.ingest.config import DrainConfig, Ports
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.following import Follow, open_ended
from iot_pipeline.stages.ingest.latency import LatencyProbe
from iot_pipeline.stages.ingest.lifetimes import LifetimeWatch
from iot_pipeline.stages.ingest.losses import (
    HALT,
    find_expired,
    record_losses,
    record_unreadable,
    when_lost,
)
from iot_pipeline.stages.ingest.planning import Plan, make_plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ingest.stops import keep_stops
from iot_pipeline.stages.ports.ingest import Stops
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.cut_logs import LogComparison
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.replay import replay
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.proof.reread import choose_reading

# A run that follows plans again after so long where a leader does not answer. It waits for that one
# then, and so do the other partitions, for as long as a question may take.
LOOK_AGAIN_SECONDS = 60.0

# Terminate ends a run within about a second.
_KEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """What one run is asked for, and by whom.

    Args:
        offsets: exactly these, each Kafka partition at most once; empty: the run plans from the
            checkpoints to the last stable offsets.
        partitions: only these Kafka partitions, as `make_plan` takes them; None: all.
        max_records: budget of such a plan in offsets; None: no limit.
        follow: how long to stay, for a run that has no end of its own; then without `offsets` and
            `max_records`.
        is_planned: a sensor or schedule has planned `offsets` at the checkpoints of then: what lies
            below them now was ingested by another run meanwhile, and is not to be replayed.
        start_at: where first contact with a topic starts (`make_plan`).
        on_expired: `halt` or `record`: what to do about records that Kafka deleted unread.
        on_unreadable: the same, about records that cannot be read.
        accept_producer_timestamps: whether a topic that is not LogAppendTime will do.
    """

    topic: str
    run: Run
    config: DrainConfig
    offsets: Sequence[OffsetRange] = ()
    partitions: Container[int] | None = None
    max_records: int | None = None
    follow: Follow | None = None
    is_planned: bool = False
    start_at: str = "earliest"
    on_expired: str = HALT
    on_unreadable: str = HALT
    accept_producer_timestamps: bool = False


class IngestPorts(Protocol):
    """Everything a run touches."""

    @property
    def ports(self) -> Ports: ...
    @property
    def audit_ports(self) -> AuditPorts: ...
    @property
    def fleet_ports(self) -> FleetPorts: ...
    @property
    def quality_limits(self) -> QualityLimits: ...
    @property
    def stops(self) -> Stops: ...
    def live_seconds(self) -> int: ...


@dataclass(slots=True)
class IngestOutcome:
    """What a run has achieved; true at any moment, also when it failed or was cut off.

    Args:
        plan: the latest; None: it came to none, so nothing is known of the topic.
        stopped: the partitions that this run had to leave, and why, as of its latest plan.
        drained: what was read, stored and committed, plan by plan.
        replayed: what was written again; nothing planned when nothing lay below the checkpoints.
        lost: what Kafka had deleted unread, or could not give out, and this run recorded.
        ahead: for each partition that another run has ingested before this one was to, who and
            how far, in words.
        probe: measures how soon rows can be read.
        fleet: what was seen of the devices, and what is kept of them between runs.
    """

    probe: LatencyProbe
    fleet: FleetKeeper
    plan: Plan | None = None
    stopped: dict[int, PipelineError] = field(default_factory=dict)
    drained: DrainProgress = field(default_factory=DrainProgress)
    replayed: ReplayProgress = field(default_factory=lambda: ReplayProgress([]))
    lost: list[OffsetRange] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)

    @property
    def achieved(self) -> list[OffsetRange]:
        """Every range it replayed or committed: a re-execution drains these."""
        return [*self.replayed.achieved, *self.drained.ranges]

    @property
    def overtaken_by(self) -> list[str]:
        """Who was faster, before this run began or while it worked; empty: no other run."""
        return [*self.ahead, *map(str, self.drained.fenced)]


class Watcher:
    """What a run tells while it works, in its own thread; to be overridden, and quick."""

    def planned(self, plan: Plan) -> None:
        """A plan was made; past a loss there is another one."""

    def replayed(self, progress: ReplayProgress) -> None:
        """A micro-batch was written again and read back."""

    def committed(self, outcome: IngestOutcome) -> None:
        """Checkpoints have moved."""

    def lost(self, ranges: Sequence[OffsetRange]) -> None:
        """These offsets were not read, and are in the ledger as a loss now."""


def run_ingest(
    request: IngestRequest,
    connections: IngestPorts,
    *,
    outcome: IngestOutcome | None = None,
    watcher: Watcher | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> IngestOutcome:
    """Ingest what is asked for, and say what became of it.

    Args:
        request: what, and by whom.
        outcome: filled as the run goes, so that a caller that is interrupted knows what was
            achieved; a new one when None.
        watcher: told what happens.
        clock: monotonic seconds.

    Raises:
        PlanError: ranges that cannot be drained.
        OffsetsExpiredError: by policy `halt`, with the time of the loss where it is known.
        SchemaMismatchError: the table would forget rows, or is another than expected.
        TopicChangedError, CheckpointWentBackError, RowsRefusedError,
        TransientError: see their names. What was achieved until then is in `outcome`: where some
        partitions had to be left, all that the others had.
    """
    outcome = outcome or new_outcome(connections)
    work = _Work(request, connections, outcome, watcher or Watcher(), clock)
    try:
        work.run()
        return outcome
    finally:
        # Also when it failed or was cut off: briefly, and without it no reading is lost.
        outcome.fleet.save(is_last=True, budget_seconds=_KEEP_SECONDS)


def new_outcome(
    connections: IngestPorts,
    *,
    fleet_ports: FleetPorts | None = None,
    since_seconds: float = 0.0,
    sees_all: bool = True,
) -> IngestOutcome:
    """Of a run that has not begun.

    Args:
        fleet_ports: where the devices are looked at, if not by the same clients.
        since_seconds: records that arrived before this (seconds since 1970) waited for the run, so
            their latency is not measured.
        sees_all: it is to read all partitions, not one lane's.
    """
    return IngestOutcome(
        LatencyProbe(
            connections.ports.store, connections.audit_ports.rows, since_seconds=since_seconds
        ),
        FleetKeeper(
            fleet_ports or connections.fleet_ports, connections.quality_limits, sees_all=sees_all
        ),
    )


@dataclass(slots=True)
class _Work:
    """One plan after another of a run."""

    request: IngestRequest
    connections: IngestPorts
    outcome: IngestOutcome
    watcher: Watcher
    clock: Callable[[], float]
    stays_until: float | None = None
    is_second_look: bool = False
    _compared: set[int] = field(default_factory=set)
    _cut: dict[int, PipelineError] = field(default_factory=dict)
    _lifetimes: LifetimeWatch = field(init=False)

    def __post_init__(self) -> None:
        live_seconds = self.connections.live_seconds
        self._lifetimes = LifetimeWatch(self.request.topic, live_seconds, self.clock)

    def run(self) -> None:
        """Plan and work, again after each loss that is recorded; fail for what is left."""
        while True:
            self._once()
            if not (self._see_to_losses() or self._is_to_look_again()):
                break
        stopped = self.outcome.stopped
        if stopped:
            error = sum_up(self.request.topic, stopped)
            when = self._when_lost()
            raise type(error)(f"{error}{when}") if when else error

    def _is_to_look_again(self) -> bool:
        """Whether a run that stays left a partition out whose leader may answer by now."""
        follow = self.request.follow
        return (
            follow is not None
            and self.stays_until is not None
            and self.clock() < self.stays_until
            and not follow.should_stop()
            and self._has_silent()
        )

    def _has_silent(self) -> bool:
        plan = self.outcome.plan
        return plan is not None and any(map(_is_silent, plan.stopped.values()))

    def _see_to_losses(self) -> bool:
        """Record what can be, by policy; whether to plan again."""
        request, ports = self.request, self.connections.ports
        log, ledger = ports.log, ports.ledger
        losses = [error for error in self.outcome.stopped.values() if self._is_recorded(error)]
        if not losses:
            return False
        retry_seconds = request.config.retry_seconds
        unreadable = [error for error in losses if isinstance(error, UnreadableError)]
        recorded = record_unreadable(ledger, request.topic, request.run, unreadable, retry_seconds)
        if len(unreadable) < len(losses):  # the others expired
            recorded += record_losses(log, ledger, request.topic, request.run, retry_seconds)
        if recorded:
            self.outcome.lost += recorded
            self.watcher.lost(recorded)
            return True
        # Another run recorded it, or the log was wrong about it: look again, once.
        if find_expired(log, ledger, request.topic) or self.is_second_look:
            return False
        self.is_second_look = True
        return True

    def _is_recorded(self, error: PipelineError) -> bool:
        if isinstance(error, UnreadableError):
            return error.end > error.start and self.request.on_unreadable != HALT
        return isinstance(error, OffsetsExpiredError) and self.request.on_expired != HALT

    def _when_lost(self) -> str:
        if not any(isinstance(e, OffsetsExpiredError) for e in self.outcome.stopped.values()):
            return ""
        ports = self.connections.ports
        return when_lost(ports.log, ports.ledger, self.request.topic)

    def _once(self) -> None:
        plan = self._plan()
        self.outcome.plan, self.outcome.stopped = plan, dict(plan.stopped)
        self._lifetimes.refuse()
        if any(map(self._is_recorded, plan.stopped.values())):
            return  # first that, so that no partition waits for the others' ends
        # A leader that does not answer says nothing of its log: nothing stands still there yet.
        known = [p for p, why in plan.stopped.items() if not _is_silent(why)]
        self._remember(plan.stopped, {p: plan.checkpoints[p].next_offset for p in known})
        self.outcome.ahead = self._who_is_ahead(plan)
        self.outcome.replayed.planned = [] if self.outcome.ahead else plan.replay
        self.watcher.planned(plan)
        # What is kept of the devices is derived: without it readings are stored all the same, and
        # the look at the devices says why it could not look.
        with suppress(PipelineError):
            self.outcome.fleet.load()
        if self.outcome.replayed.planned:
            self._replay(plan)
        self._drain(plan)

    def _plan(self) -> Plan:
        request, ports = self.request, self.connections.ports
        return make_plan(
            ports.log,
            ports.ledger,
            request.topic,
            start_at=request.start_at,
            max_records=request.max_records,
            partitions=request.partitions,
            offsets=request.offsets,
            done=[*self.outcome.lost, *self.outcome.achieved],
            is_planned=request.is_planned,
            accept_producer_timestamps=request.accept_producer_timestamps,
            compare=self._compare,
        )

    def _compare(
        self, checkpoints: Sequence[Checkpoint], marks: Sequence[Watermarks]
    ) -> dict[int, PipelineError]:
        # Once a run: what it reads itself from then on, the client watches.
        compared = [c for c in checkpoints if c.partition not in self._compared]
        self._compared |= {c.partition for c in compared}
        topic = self.request.topic
        comparison = LogComparison(self.connections.ports.log, self.connections.audit_ports)
        doubts = comparison.find_doubts(topic, compared, marks, self.request.config.retry_seconds)
        self._cut |= {partition: doubt.error(topic) for partition, doubt in doubts.items()}
        return self._cut

    def _committed(self) -> None:
        self.watcher.committed(self.outcome)
        if self.request.follow is not None:
            self._lifetimes.look_again()

    def _remember(self, stopped: Mapping[int, PipelineError], at: Mapping[int, int]) -> None:
        """Let looks know at once: a run that follows ends only later, and others may look then."""
        assert self.outcome.plan is not None
        checkpoints = self.outcome.plan.checkpoints
        found = {
            partition: (checkpoints[partition].epoch, offset, stopped[partition])
            for partition, offset in at.items()
            if not self._is_recorded(stopped[partition])
        }
        if found:
            request, now = self.request, datetime.now(UTC)
            retry_seconds = request.config.retry_seconds
            stops = self.connections.stops
            keep_stops(stops, request.topic, request.run, found, now, retry_seconds)

    def _who_is_ahead(self, plan: Plan) -> list[str]:
        if not (self.request.is_planned and plan.replay):
            return []
        ahead = []
        for item in plan.replay:
            entries = self.connections.ports.ledger.read_entries(
                self.request.topic, [item.partition], limit=1
            )
            # The newest entry is that of the run whose checkpoint this is.
            owner = f"run {entries[0].run_id}" if entries else "another run"
            at = plan.checkpoints[item.partition].next_offset
            ahead.append(f"partition {item.partition}: {owner} is at offset {at}")
        return ahead

    def _replay(self, plan: Plan) -> None:
        # By the present declaration alone: a run that is executed again is no way to change rows.
        choose_reading(plan, self.connections.audit_ports)
        replay(
            plan,
            self.connections.ports,
            self.connections.audit_ports,
            self.request.run,
            self.request.config,
            progress=self.outcome.replayed,
            on_progress=self.watcher.replayed,
        )

    def _drain(self, plan: Plan) -> None:
        request, config, drained = self.request, self.request.config, self.outcome.drained
        if request.follow is None:
            drained.begin(plan.ingest)
        else:
            # Past a loss it plans again, and stays no longer for it.
            now = self.clock()
            if self.stays_until is None:
                self.stays_until = now + request.follow.seconds
            left = max(0.0, self.stays_until - now)
            if self._has_silent():
                left = min(left, LOOK_AGAIN_SECONDS)
            follow = replace(request.follow, seconds=left, ends_at=self._is_recorded)
            config = replace(config, follow=follow)
            plan = open_ended(plan, request.partitions)
            drained.begin([])
        drain(
            plan,
            replace(self.connections.ports, store=self.outcome.probe),
            request.run,
            config,
            progress=drained,
            on_progress=lambda _: self._committed(),
            observe=lambda batch: self.outcome.fleet.observe(batch, time.time_ns() // 1_000_000),
            turn=self.outcome.fleet.work,
            on_stopped=lambda at: self._remember(drained.stopped, at),
        )
        self.outcome.stopped |= drained.stopped


def _is_silent(why: PipelineError) -> bool:
    return isinstance(why, TransientError)
