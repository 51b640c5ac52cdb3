"""Send a scenario: each message when it is due, and a manifest of what Kafka acknowledged.

Belongs here: the order of sending, waiting and recording. Does not belong here: what is sent
(`core.simulator.scenario_fleet`), what a manifest says (`core.simulator.manifest`), where it is
kept (`local.manifests`). A plain fleet goes its own, faster way (`stages.simulator.simulation`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

from iot_pipeline.core.reading.decoding import ReadingRules
from iot_pipeline.core.simulator.manifest import Manifest, ManifestRecorder
from iot_pipeline.core.simulator.pacing import LONGEST_PAUSE_SECONDS, TICK_SECONDS
from iot_pipeline.core.simulator.scenario_fleet import Emission, ScenarioFleet
from iot_pipeline.core.simulator.scenario_plan import ScenarioPlan
from iot_pipeline.stages.simulator.sending import (
    CountingSender,
    SendingRun,
    SimulationResult,
    ignore,
    never,
)

# At most some milliseconds of work between two looks at `should_stop`.
_CHUNK = 1_000
# How often an unfinished manifest is written: a person may look at it while a fleet runs.
WRITE_SECONDS = 10.0
# Writing takes this share of the time at most, however large the manifest.
_WRITE_SHARE = 0.02


class TrackingSender(CountingSender, Protocol):
    """A sender that says where each message went."""

    def send_tracked(
        self,
        messages: Iterable[tuple[str, bytes | None, Emission]],
        on_acknowledged: Callable[[Emission, int, int], None],
    ) -> int:
        """Hand over (message key, value, emission) in order; returns how many found room.

        `on_acknowledged` gets emission, partition and offset during `poll` and `flush`.
        """


class ScenarioRun:
    """A scenario on its way: what was asked for, what was sent, and its manifest at any time."""

    def __init__(
        self, plan: ScenarioPlan, *, manifest_id: str, topic: str, run_id: str | None = None
    ) -> None:
        self.plan = plan
        self.result = SimulationResult()
        self.manifest_id = manifest_id
        self._topic = topic
        self._run_id = run_id
        self._recorder = ManifestRecorder([])
        self._began_at = datetime.now(UTC)
        self._is_complete = False

    def manifest(self, now: datetime | None = None) -> Manifest:
        """What Kafka acknowledged so far; the same at the end, however it ended."""
        result = self.result
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=result.start_us)
        return Manifest(
            manifest_id=self.manifest_id,
            topic=self._topic,
            scenario=self.plan.name,
            seed=self.plan.seed,
            speed=self.plan.speed,
            start_at=start,
            end_at=start + timedelta(microseconds=self.plan.duration_us),
            began_at=self._began_at,
            written_at=now or datetime.now(UTC),
            is_complete=self._is_complete,
            is_stopped=result.is_stopped,
            produced=result.produced,
            acknowledged=result.acknowledged,
            failed=result.failed,
            unconfirmed=result.unconfirmed,
            withheld=self._recorder.withheld,
            devices=self._recorder.devices(),
            faults=self._recorder.faults(),
            faults_left_out=self._recorder.faults_left_out,
            run_id=self._run_id,
        )

    def send(
        self,
        sender: TrackingSender,
        rules: ReadingRules,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
        should_stop: Callable[[], bool] = never,
        on_progress: Callable[[SimulationResult], None] = ignore,
        write: Callable[[Manifest], object] | None = None,
    ) -> SimulationResult:
        """Send what the plan says and wait until every message is confirmed.

        Args:
            sender: takes the messages; its counts start at zero.
            rules: those of ingestion, which malformed payloads break.
            clock: monotonic seconds; paces the messages.
            sleep: rests for so many seconds, 0.1 at most at a time.
            now: seconds since 1970; asked once, for the first event time.
            should_stop: asked at least every 0.1 s; once True, sending ends at once.
            on_progress: called about four times a second, and at the end however it ends.
            write: keeps the manifest; called about every `WRITE_SECONDS` and at the end, however
                it ends.

        Returns:
            The counts, also in `result`; the last message of a scenario that is not as fast as
            can be has its share of the time.

        Raises:
            KafkaUnavailableError: messages could not be delivered.
            PermanentError: the broker refuses them.
            BaseException: KeyboardInterrupt and Dagster's interruption pass through; the manifest
                is written, with the true count, before they do.
        """
        now_us = round(now() * 1e6)
        self._began_at = datetime.fromtimestamp(now_us / 1e6, UTC)
        fleet = self.plan.fleet(now_us, rules)
        self.result.start_us = fleet.start_us
        self._recorder = ManifestRecorder(fleet.devices)
        keeper = _Keeper(clock, self.manifest, write)

        def tell(result: SimulationResult) -> None:
            on_progress(result)
            keeper.write_when_due()

        run = SendingRun(sender, clock, should_stop, tell, self.result)
        try:
            self._send_all(run, sender, fleet, sleep)
            run.confirm()
            self._is_complete = not self.result.is_stopped
        finally:
            try:
                run.end()
            finally:
                keeper.write()
        return self.result

    def _send_all(
        self,
        run: SendingRun,
        sender: TrackingSender,
        fleet: ScenarioFleet,
        sleep: Callable[[float], None],
    ) -> None:
        speed = self.plan.speed
        upcoming = fleet.emissions()
        waiting = next(upcoming, None)
        pending: list[tuple[str, bytes | None, Emission]] = []
        while not run.must_stop():
            due_us = None if speed is None else fleet.start_us + run.elapsed() * speed * 1e6
            if not pending:
                pending, waiting = self._take(upcoming, waiting, due_us)
            if pending:
                taken = sender.send_tracked(pending, self._recorder.acknowledge)
                pending = pending[taken:]
                if pending:
                    sender.poll(LONGEST_PAUSE_SECONDS)
            run.look()
            if pending:
                continue
            next_us = fleet.end_us if waiting is None else waiting.send_us
            if due_us is None or speed is None or due_us >= next_us:
                if waiting is None:
                    return
            else:
                seconds = (next_us - fleet.start_us) / 1e6 / speed - run.elapsed()
                sleep(min(max(seconds, TICK_SECONDS), LONGEST_PAUSE_SECONDS))

    def _take(
        self, upcoming: Iterator[Emission], waiting: Emission | None, due_us: float | None
    ) -> tuple[list[tuple[str, bytes | None, Emission]], Emission | None]:
        """Messages that are due, at most `_CHUNK` looked at, and the first that is not taken."""
        taken: list[tuple[str, bytes | None, Emission]] = []
        looked_at = 0
        while waiting is not None and looked_at < _CHUNK:
            if due_us is not None and waiting.send_us > due_us:
                break
            looked_at += 1
            if waiting.is_withheld:
                self._recorder.withhold(waiting)
            else:
                taken.append((waiting.device.device_id, waiting.payload, waiting))
            waiting = next(upcoming, None)
        return taken, waiting


class _Keeper:
    """Writes the manifest now and then, never so often that sending suffers."""

    def __init__(
        self,
        clock: Callable[[], float],
        manifest: Callable[[], Manifest],
        write: Callable[[Manifest], object] | None,
    ) -> None:
        self._clock = clock
        self._manifest = manifest
        self._write = write
        self._next_at = clock() + WRITE_SECONDS

    def write_when_due(self) -> None:
        if self._clock() >= self._next_at:
            self.write()

    def write(self) -> None:
        if self._write is None:
            return
        began = self._clock()
        self._write(self._manifest())
        ended = self._clock()
        self._next_at = ended + max(WRITE_SECONDS, (ended - began) / _WRITE_SHARE)
