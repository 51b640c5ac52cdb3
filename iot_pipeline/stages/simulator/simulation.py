"""Send a simulation: each message when it is due, stopped at any moment with the true count."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Protocol

from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.simulator.faults import Emission
from iot_pipeline.core.simulator.manifest import Manifest, ManifestRecorder
from iot_pipeline.core.simulator.pacing import LONGEST_PAUSE_SECONDS, Pacer
from iot_pipeline.core.simulator.plan import SimulationPlan
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.times import moment_of_us

# How long an ended simulation waits for confirmations of what it has sent: a second is all that
# Terminate may take, and a live broker confirms in milliseconds.
STOP_SECONDS = 0.5
PROGRESS_SECONDS = 0.25
# How often an unfinished manifest is written: a person may look at it while a fleet runs.
WRITE_SECONDS = 10.0
# Writing takes this share of the time at most, however large the manifest.
_WRITE_SHARE = 0.02
_CALL_SECONDS = 0.1
_send_us = attrgetter("send_us")


class Sender(Protocol):
    """Where messages go. `sent` = `acknowledged` + `failed` + those not yet confirmed."""

    @property
    def sent(self) -> int: ...

    @property
    def acknowledged(self) -> int: ...

    @property
    def failed(self) -> int: ...

    def send(
        self,
        emissions: Sequence[Emission],
        on_acknowledged: Callable[[Emission, int, int], None] | None = None,
    ) -> int:
        """Hand over messages in order; returns how many found room.

        `on_acknowledged` gets emission, partition and offset during `poll` and `flush`.
        """

    def poll(self, seconds: float) -> None:
        """Serve confirmations for at most `seconds`; raises what made deliveries fail."""

    def flush(self, seconds: float) -> int:
        """Wait at most `seconds` for confirmations; returns how many are missing."""


@dataclass(slots=True)
class SimulationResult:
    """What a simulation did so far; filled in while it runs, true whenever it ends.

    `produced` is what was handed to Kafka's client, `acknowledged` what the broker confirmed.
    The rest, less `failed`, is unconfirmed: it may have arrived. `start_us` is the event time of
    the first reading, in microseconds since 1970.
    """

    produced: int = 0
    acknowledged: int = 0
    failed: int = 0
    seconds: float = 0.0
    start_us: int = 0
    is_stopped: bool = False

    @property
    def unconfirmed(self) -> int:
        return self.produced - self.acknowledged - self.failed

    @property
    def rate(self) -> float:
        """Messages per second, sending and waiting for confirmations included."""
        return self.produced / self.seconds if self.seconds > 0 else 0.0

    @property
    def start_at(self) -> datetime:
        return moment_of_us(self.start_us)


@dataclass(slots=True)
class Simulation:
    """A simulation on its way: what was asked for, what was sent, and its manifest at any time.

    Args:
        sender: its counts start at zero.
        rules: those of ingestion, which malformed payloads break.
        manifest_id: with one, each device and fault is remembered; without, counts alone.
        should_stop: asked at least every 0.1 s; once True, sending ends at once and what was sent
            has `STOP_SECONDS` to be confirmed.
        on_progress: called about four times a second, and at the end however it ends.
        write: keeps the manifest; called about every `WRITE_SECONDS` and at the end, however it
            ends.
        now: seconds since 1970; asked once, for the first event time.
    """

    plan: SimulationPlan
    sender: Sender
    rules: ReadingRules
    _: KW_ONLY
    topic: str
    manifest_id: str | None = None
    run_id: str | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[SimulationResult], None] = lambda _result: None
    write: Callable[[Manifest], object] = lambda _manifest: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time
    result: SimulationResult = field(init=False, default_factory=SimulationResult)
    _began_at: datetime = field(init=False)
    _fleet: ScenarioFleet = field(init=False)
    _recorder: ManifestRecorder = field(init=False)
    _is_complete: bool = field(init=False, default=False)
    _started: float = field(init=False)
    _told_at: float = field(init=False)
    _write_at: float = field(init=False)

    def __post_init__(self) -> None:
        now_us = round(self.now() * 1e6)
        self._began_at = moment_of_us(now_us)
        # Before the clock starts: a large fleet takes a while to make.
        self._fleet = self.plan.fleet(now_us, self.rules)
        self.result.start_us = self._fleet.start_us
        self._recorder = ManifestRecorder([] if self.manifest_id is None else self._fleet.devices)

    def manifest(self) -> Manifest:
        """What Kafka acknowledged so far; the same at the end, however it ended."""
        assert self.manifest_id is not None
        result = self.result
        return Manifest(
            manifest_id=self.manifest_id,
            topic=self.topic,
            scenario=self.plan.name,
            seed=self.plan.seed,
            speed=self.plan.speed,
            start_at=result.start_at,
            end_at=moment_of_us(result.start_us + (self.plan.duration_us or 0)),
            began_at=self._began_at,
            written_at=datetime.now(UTC),
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
            run_id=self.run_id,
        )

    def send(self) -> SimulationResult:
        """Send what the plan says and wait until every message is confirmed.

        Raises:
            KafkaUnavailableError: messages could not be delivered.
            PermanentError: the broker refuses them.
            BaseException: KeyboardInterrupt and Dagster's interruption pass through; `result`,
                `on_progress` and the manifest have the true count before they do.
        """
        self._started = self._told_at = self.clock()
        self._write_at = self._started + WRITE_SECONDS
        try:
            self._send_all()
            while self.sender.flush(_CALL_SECONDS) and not self._must_stop():
                self._look()
            self.sender.poll(0)
            self._is_complete = not self.result.is_stopped
        finally:
            try:
                self._finish()
            finally:
                self._write_manifest()
        return self.result

    def _send_all(self) -> None:
        plan, fleet = self.plan, self._fleet
        pacer = None if plan.speed is None else Pacer(plan.speed)
        upcoming = _Upcoming(fleet)
        due_us: float = fleet.end_us
        while not self._must_stop() and (plan.seconds is None or self._elapsed() < plan.seconds):
            if pacer is not None:
                due_us = fleet.start_us + pacer.due(self._elapsed()) * 1e6
            due = upcoming.take(due_us)
            if due:
                upcoming.put_back(self._hand_over(due))
            self._look()
            if due:
                continue
            if due_us >= upcoming.next_us:
                return
            if pacer is not None:
                next_seconds = (upcoming.next_us - fleet.start_us) / 1e6
                self.sleep(pacer.pause_seconds(self._elapsed(), next_seconds))

    def _hand_over(self, due: list[Emission]) -> list[Emission]:
        """Hand over what finds room, wait for room if there was none; returns the rest."""
        is_recorded = self.manifest_id is not None
        messages = []
        for emission in due:
            # The property says the same, and costs a third of making the message.
            if emission.injection is None or not emission.is_withheld:
                messages.append(emission)
            elif is_recorded:
                self._recorder.withhold(emission)
        taken = self.sender.send(messages, self._recorder.acknowledge if is_recorded else None)
        if taken < len(messages):
            self.sender.poll(LONGEST_PAUSE_SECONDS)
        return messages[taken:]

    def _finish(self) -> None:
        """Give what was sent `STOP_SECONDS` to be confirmed, and count."""
        give_up_at = self.clock() + STOP_SECONDS
        try:
            while self.sender.flush(_CALL_SECONDS) and self.clock() < give_up_at:
                pass
        finally:
            # A second interrupt ends the waiting, not the counting.
            self._tell()

    def _elapsed(self) -> float:
        return self.clock() - self._started

    def _must_stop(self) -> bool:
        self.result.is_stopped = self.result.is_stopped or self.should_stop()
        return self.result.is_stopped

    def _look(self) -> None:
        """Serve confirmations, raise what failed, and tell the progress when it is time."""
        self.sender.poll(0)
        if self.clock() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = self.clock()
            self._tell()
            if self.clock() >= self._write_at:
                self._write_manifest()

    def _tell(self) -> None:
        self.result.produced = self.sender.sent
        self.result.acknowledged = self.sender.acknowledged
        self.result.failed = self.sender.failed
        self.result.seconds = self._elapsed()
        self.on_progress(self.result)

    def _write_manifest(self) -> None:
        if self.manifest_id is None:
            return
        began = self.clock()
        self.write(self.manifest())
        ended = self.clock()
        self._write_at = ended + max(WRITE_SECONDS, (ended - began) / _WRITE_SHARE)


class _Upcoming:
    """What is not yet handed over: some messages that are made, and those that will be."""

    def __init__(self, fleet: ScenarioFleet) -> None:
        self._blocks = filter(None, fleet.blocks())
        self._made = next(self._blocks, [])
        self._end_us = fleet.end_us

    @property
    def next_us(self) -> int:
        """When the next one is to be sent; the fleet's end after the last."""
        return self._made[0].send_us if self._made else self._end_us

    def take(self, due_us: float) -> list[Emission]:
        """Some of those to be sent until then, inclusive; none when none is due."""
        due = bisect_right(self._made, due_us, key=_send_us)
        taken, self._made = self._made[:due], self._made[due:]
        if not self._made:
            self._made = next(self._blocks, [])
        return taken

    def put_back(self, rest: list[Emission]) -> None:
        if rest:
            self._made = rest + self._made
