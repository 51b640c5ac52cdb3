"""One ingest run that stays: it follows the topic, and says every ten seconds what it did.

Following happens in a thread of its own with connections of its own, so nothing that is said or
checked here makes a reading wait, and while Dagster's storage is away it goes on untold. The first
report is all checks and the run's one materialization; each later one is an observation over what
was ingested since the one before, so reports tile the run as runs tile the log, and new rows of the
checks whose verdict changed or is a minute old. Terminate, the end of the run's time and a red
blocking check end it the same way: everything acknowledged is committed within a second, and the
run's tags say which offsets that was.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from iot_pipeline.connections import Connections, ingest_request
from iot_pipeline.core.ingest.throttle import SetLimit
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.ingest_run import Events, as_results, look_and_tell
from iot_pipeline.defs.lanes import Lane, format_ranges
from iot_pipeline.defs.names import ACHIEVED, FOLLOW, MAX_RUNTIME, MODE, follow_runtime
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.storage import storage_errors
from iot_pipeline.defs.verdicts import (
    SAY_AGAIN_SECONDS,
    SAY_GREEN_AGAIN_SECONDS,
    Shown,
    Verdicts,
    is_news,
)
from iot_pipeline.metrics import run_metrics
from iot_pipeline.stages.alerts.live import RunMetrics
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.ingest.intervals import Intervals
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.run_ingest import IngestOutcome, Watcher, new_outcome, run_ingest

_log = logging.getLogger(__name__)

REPORT_SECONDS = 10.0
# The first one comes soon: a person who looks at a new run wants to see it work.
_FIRST_REPORT_SECONDS = 2.0
_LOOK_SECONDS = 0.1
# Following ends within this; when Cassandra is away it retries longer than a person waits.
_END_SECONDS = 5.0

# What a report yields, and whether a check forbids to go on.
_Report = Generator[dg.AssetCheckEvaluation | dg.MaterializeResult[None], None, bool]


@dataclass(slots=True)
class FollowRun(Watcher):
    """One run of the asset that stays, once it is its turn.

    `connections` are those of the thread that follows, `watching` those of reports and checks,
    `pass_on` takes what other threads said into the run's log.
    """

    context: dg.AssetExecutionContext
    pipeline: Pipeline
    lane: Lane
    connections: Connections
    watching: Connections
    pass_on: Callable[[], None]
    limit: SetLimit | None = None
    plan: Plan | None = None
    intervals: Intervals = field(default_factory=Intervals)
    outcome: IngestOutcome = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lines: deque[tuple[int, str]] = field(default_factory=deque)
    _end: "Future[IngestOutcome]" = field(default_factory=Future)
    _reported_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _written: dict[str, tuple[Shown, float]] = field(default_factory=dict)
    _achieved_tag: str = ""
    _says_achieved: threading.Lock = field(default_factory=threading.Lock)
    _is_first_told: bool = False
    _metrics: RunMetrics = field(default_factory=RunMetrics)

    def __post_init__(self) -> None:
        # Records that waited for this run are not measured: they would flatten every plot of
        # latencies. Reports look at the devices in Dagster's thread, so with its clients.
        self.outcome = new_outcome(
            self.connections,
            fleet_ports=self.watching.fleet_ports,
            since_seconds=time.time(),
            sees_all=self.lane.is_whole,
        )

    def events(self) -> Events:
        runtime = follow_runtime(self.connections.settings.follow_seconds)
        tags = {MODE: FOLLOW, MAX_RUNTIME: runtime}
        self.context.instance.add_run_tags(self.context.run.run_id, tags)
        # A daemon thread: a process that waits for Cassandra ends with the first kill.
        thread = threading.Thread(target=self._work, name="follow", daemon=True)
        thread.start()
        report_at = time.monotonic() + _FIRST_REPORT_SECONDS
        is_red = False
        try:
            while thread.is_alive() and not is_red:
                thread.join(_LOOK_SECONDS)
                with self._told_later():
                    self._pass_on()
                    if not self._achieved_tag:
                        # Where the storage was away when the first commit was to be told.
                        self._say_achieved()
                    if time.monotonic() < report_at or self.plan is None or not thread.is_alive():
                        continue
                    report_at = max(report_at + REPORT_SECONDS, time.monotonic())
                    is_red = yield from self._report()
        finally:
            self._stop.set()
            thread.join(_END_SECONDS)
            with self._told_later():
                self._pass_on()
                self._say_achieved()
        if not self._end.done():
            return
        self._end.result()
        if self.plan is not None:
            self.intervals.note(self.outcome.drained)
            with self._told_later():
                yield from self._report(is_last=True)
                total = self.outcome.drained.total
                self.context.log.info(
                    "in the whole run %s rows of %s offsets",
                    f"{total.stored:,}",
                    f"{total.accounted:,}",
                )

    # In the thread that follows.

    def _work(self) -> None:
        settings = self.connections.settings
        try:
            request = ingest_request(
                settings,
                Run(self.context.run.run_id),
                partitions=None if self.lane.is_whole else self.lane,
                follow=Follow(settings.follow_seconds, should_stop=self._stop.is_set),
                limit=self.limit,
            )
            with run_metrics(settings, self.outcome, self.lane.place) as self._metrics:
                run_ingest(request, self.connections, outcome=self.outcome, watcher=self)
            self._end.set_result(self.outcome)
        except BaseException as exc:  # noqa: BLE001  # raised again in Dagster's thread
            self._end.set_exception(exc)

    def planned(self, plan: Plan) -> None:
        said = f"following {plan.topic.name} from {plan.lag:,} offsets behind its end"
        self._lines.append((logging.INFO, said))
        self.plan = plan

    def committed(self, outcome: IngestOutcome) -> None:
        self.intervals.note(outcome.drained)
        self._metrics.committed(outcome)
        if not self._is_first_told and self.intervals.so_far.ranges:
            self._is_first_told = True
            # By a thread that the process waits for. Dagster's may be at work on a report, and
            # Terminate then ends it there: it does not come back to us.
            threading.Thread(target=self._say_first, name="first commit").start()

    def lost(self, ranges: Sequence[OffsetRange]) -> None:
        for item in ranges:
            said = f"LOST: {item} was not read; `iot losses` says why"
            self._lines.append((logging.ERROR, said))

    def _say_first(self) -> None:
        with self._told_later():
            self._say_achieved()

    # In Dagster's thread.

    @contextmanager
    def _told_later(self) -> Iterator[None]:
        """Go on where Dagster's storage is away: what was not told is told when it is back."""
        try:
            yield
        except storage_errors() as exc:
            said = " ".join(str(exc).split())
            _log.warning("Dagster's storage is away, following goes on: %s", said)

    def _pass_on(self) -> None:
        while self._lines:
            level, line = self._lines[0]
            self.context.log.log(level, line)
            self._lines.popleft()
        self.pass_on()

    def _say_achieved(self) -> None:
        # Said while it goes on, too: a re-execution of a run that was killed drains these.
        with self._says_achieved:
            achieved = format_ranges(self.intervals.so_far.ranges)
            if achieved != self._achieved_tag:
                self.context.instance.add_run_tags(self.context.run.run_id, {ACHIEVED: achieved})
                # Not before: Terminate interrupts at any line, and the end says what was not
                # written.
                self._achieved_tag = achieved

    def _report(self, *, is_last: bool = False) -> _Report:
        """Say what was done since the last report, and check it; True when a check forbids more."""
        since, self._reported_at = self._reported_at, datetime.now(UTC)
        so_far, part = self.intervals.take((self._reported_at - since).total_seconds())
        is_told = False
        try:
            self._say_achieved()
            # The next run waits for the end of this one, so the last report looks at free checks
            # only.
            told = look_and_tell(
                self.context,
                self.pipeline,
                self.watching,
                self.outcome,
                part,
                committed=so_far.ranges,
                since=since,
                started_at=self._started_at,
                is_growing=not is_last,
                is_quick=is_last and bool(self._written),
                lane=self.lane,
            )
            shown, metadata = told
            if not self._written:
                for event in as_results(self.context, self.pipeline, told):
                    # From the first event on: Dagster takes the materialization of a run once.
                    is_told = True
                    self._note(shown)
                    yield event
            else:
                self.context.log_event(
                    dg.AssetObservation(self.pipeline.sensor_data, metadata=metadata)
                )
                is_told = True
                yield from self._show_changes(shown)
        except storage_errors():
            if not is_told:
                self._reported_at = since
                self.intervals.give_back()
            self.outcome.fleet.save()
            raise
        self.outcome.fleet.save()
        return any(one.is_blocking and not one.passed for one in shown)

    def _show_changes(self, shown: Sequence[Shown]) -> Iterator[dg.AssetCheckEvaluation]:
        changed = [one for one in shown if self._is_news(one)]
        verdicts = Verdicts(self.context.instance, self.pipeline.sensor_data)
        verdicts.show_now(changed)
        for one in changed:
            if not one.passed:
                self.context.log.warning("%s: %s", one.check, one.description)
            if one.is_blocking and not one.passed:
                yield verdicts.as_event(one, None)  # what makes Dagster fail the run
        self._note(changed)

    def _is_news(self, one: Shown) -> bool:
        last, written_at = self._written.get(one.check, (None, 0.0))
        if last is None or is_news(one, last):
            return True
        again_seconds = SAY_GREEN_AGAIN_SECONDS if one.passed else SAY_AGAIN_SECONDS
        is_old = time.monotonic() - written_at >= again_seconds
        return is_old and one.looked_at != last.looked_at

    def _note(self, written: Sequence[Shown]) -> None:
        now = time.monotonic()
        self._written |= {one.check: (one, now) for one in written}
