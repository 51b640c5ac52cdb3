"""Runs that only look alive: known by their process on this machine, elsewhere by signs of life.

Dagster's default launcher never notices that a process is gone, and a launcher that can be asked
says of a host that is dead that its run goes on. So a run at work gives a sign every ten seconds
(IOT_SIGN_SECONDS), in the storage that all of a Dagster share, and each sign says when to expect
the next. Silence is measured by the clock of the machine that looks, and counts while it can look;
no clock of one machine is compared with another's.
"""

import platform
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import dagster as dg

from iot_pipeline.defs.names import HAS_A_PROCESS, LANE, PROCESS, RunProcess
from iot_pipeline.defs.storage import storage_errors

# Of a sign that does not say it, for it was given by a version of before.
_SIGN_SECONDS = 10.0
# A run that misses so many, as seen by one process, is ended.
SILENT_SIGNS = 6
# From one look to the next no more than this counts as silence.
_LOOK_COUNTS_SIGNS = 2
# Between STARTED and the first tag lies a second or two of imports; far more means that the
# process died there.
_STARTING_SECONDS = 120.0
_UNNAMED = "unnamed"
_FORGET_SECONDS = 3600.0
_PLACES = 16


def name_process(
    instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str] | None = None
) -> None:
    """Note on the run which process executes it, and `tags`."""
    instance.add_run_tags(run_id, {**(tags or {}), PROCESS: str(RunProcess.current(run_id))})


@contextmanager
def signs_of_life(
    instance: dg.DagsterInstance, run_id: str, lane: str, every_seconds: float
) -> Iterator[None]:
    """Give them until the block ends, the first before it begins.

    So a run that names its process inside has given one: a machine that dies in between leaves no
    run that cannot be judged.
    """
    if instance.is_ephemeral:  # no other process can see it
        yield
        return
    is_over, key = threading.Event(), _key(lane, run_id)

    def give(number: int) -> None:
        try:
            instance.daemon_cursor_storage.set_cursor_values(
                {key: f"{run_id} {number} {every_seconds:g}"}
            )
        except storage_errors():
            # The run has no use for Dagster's storage now; it is reached again, or the run
            # says itself that it is not.
            pass

    def go_on() -> None:
        for number in count(2):
            if is_over.wait(every_seconds):
                return
            give(number)

    give(1)
    thread = threading.Thread(target=go_on, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(every_seconds)


def _key(lane: str, run_id: str) -> str:
    # Places of a lane are few, for rows of ended runs stay; and more than one, for a run that waits
    # for lanes, or steps aside, gives signs beside the one at work.
    return f"iot/sign_of_life/{lane}/{zlib.crc32(run_id.encode()) % _PLACES}"


@dataclass(frozen=True, slots=True)
class _Silence:
    """A run's newest sign, for how many seconds nothing came after it, and when that was seen."""

    sign: str
    seconds: float
    seen_at: float

    @classmethod
    def parse(cls, text: str) -> "_Silence | None":
        """As this machine kept it; None: nothing was kept, or by another machine."""
        node, _, rest = text.partition(" ")
        if node != platform.node() or rest.count(" ") not in (3, 4):
            return None
        seen_at, seconds, sign = rest.split(" ", 2)
        return cls(sign, float(seconds), float(seen_at))

    def __str__(self) -> str:
        return f"{platform.node()} {self.seen_at} {self.seconds} {self.sign}"

    @property
    def every_seconds(self) -> float:
        """How soon after its newest sign the next one was to come."""
        words = self.sign.split()
        return float(words[2]) if len(words) == 3 else _SIGN_SECONDS

    @property
    def is_too_long(self) -> bool:
        return self.seconds >= SILENT_SIGNS * self.every_seconds

    def look(self, sign: str, now: float) -> "_Silence":
        """What it is at the next look."""
        # Later than now: this machine was started anew, and its clock with it.
        if sign != self.sign or self.seen_at > now:
            return _Silence(sign, 0.0, now)
        # A storage that was away took no sign, and no look either. Counting all of that time would
        # end every run elsewhere at the first look after it.
        counts = min(now - self.seen_at, _LOOK_COUNTS_SIGNS * self.every_seconds)
        return _Silence(sign, self.seconds + counts, now)


@dataclass(slots=True)
class Watch:
    """For how long runs elsewhere are silent, by this machine's own clock.

    `is_kept`: beside the signs, for the next process on this machine. A daemon that loads the code
    by itself starts a new code server every minute, which would begin to count each time.
    """

    is_kept: bool = False
    _seen: dict[str, _Silence] = field(default_factory=dict)

    def silence_of(
        self, instance: dg.DagsterInstance, run: dg.DagsterRun, now: float, unsigned: str = ""
    ) -> _Silence | None:
        """Since the run's newest sign was first seen here; None: it never gave one.

        From one look to the next two signs are added at most: looks have to show a silence. A run
        that gave no sign is silent since it was first seen, where `unsigned` says what it did not
        do.
        """
        key = _key(run.tags.get(LANE, ""), run.run_id)
        kept_as = f"{key}/silence"
        found = instance.daemon_cursor_storage.get_cursor_values({key, kept_as})
        sign = found.get(key, "")
        if not sign.startswith(run.run_id):
            if not unsigned:
                return None
            sign = f"{run.run_id} {unsigned}"
        before = self._seen.get(run.run_id)
        if before is None and self.is_kept:
            before = _Silence.parse(found.get(kept_as, ""))
        silence = (before or _Silence(sign, 0.0, now)).look(sign, now)
        # Of a run that gives signs in time, only each new sign is written.
        if self.is_kept and not 0 < silence.seconds <= silence.every_seconds:
            instance.daemon_cursor_storage.set_cursor_values({kept_as: str(silence)})
        self._seen = {r: s for r, s in self._seen.items() if now - s.seen_at < _FORGET_SECONDS}
        self._seen[run.run_id] = silence
        return silence


# Of the sensors, which look every few seconds; and of a run, which looks at another in its way.
_SENSORS, _OWN = Watch(is_kept=True), Watch()


def why_gone(instance: dg.DagsterInstance, record: dg.RunRecord, watch: Watch = _OWN) -> str | None:
    """Why a run that claims to run does not; None when it does, or this machine cannot know."""
    run = record.dagster_run
    if run.status not in HAS_A_PROCESS:
        return None
    now = time.monotonic()
    process = RunProcess.parse(run.tags.get(PROCESS, ""))
    # A re-execution begins with its parent's tags.
    if process is None or process.run_id != run.run_id:
        # When it started is told by its own machine's clock.
        if record.start_time is None:
            return None
        silence = watch.silence_of(instance, run, now, _UNNAMED)
        if silence is None or silence.seconds < _STARTING_SECONDS:
            return None
        return f"it has started, and in {silence.seconds:.0f} s did not say which process it is"
    if process.is_here:
        return f"its process {process.pid} on {process.host} is gone" if process.is_gone else None
    silence = watch.silence_of(instance, run, now)
    if silence is None or not silence.is_too_long:
        return None
    silent = f"gave no sign of life for {silence.seconds:.0f} s"
    return f"its process {process.pid} on {process.host} {silent}"


def end_gone_runs(
    instance: dg.DagsterInstance, records: Iterable[dg.RunRecord], watch: Watch = _SENSORS
) -> list[str]:
    """End the runs whose process is gone.

    Returns:
        One sentence per run that was ended.
    """
    ended = []
    for record in records:
        why = why_gone(instance, record, watch=watch)
        if why is None:
            continue
        run = record.dagster_run
        message = f"{why}: killed, or the machine restarted. What it committed is in the ledger"
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=message)
        else:
            instance.report_run_failed(run, message=message)
        ended.append(f"run {run.run_id[:8]} was ended, {why}")
    return ended
