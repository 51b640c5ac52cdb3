"""What `iot drain` shows while it works."""

import time
from collections.abc import Sequence

from iot_pipeline.cli.output import say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.core.ingest.latency import Latencies
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.proof.replay import ReplayProgress
from iot_pipeline.stages.run_ingest import IngestOutcome, Watcher


class RunLine(Watcher):
    """What every run from the command line says as it happens, on stderr.

    `latency` gathers what was measured and shown.
    """

    def __init__(self, line: ProgressLine) -> None:
        self.latency = Latencies()
        self._line = line

    def planned(self, plan: Plan) -> None:
        """Say that what lies below the checkpoint is a replay."""
        if plan.replay:
            ranges = ", ".join(map(str, plan.replay))
            say(f"{ranges}: below the checkpoint, so this is a replay", err=True)

    def lost(self, ranges: Sequence[OffsetRange]) -> None:
        """Say it at once: a run that stays may go on for hours."""
        for item in ranges:
            say(f"LOST: {item} expired unread; it is in the ledger, see `iot losses`", err=True)


class DrainLine(RunLine):
    """How far a drain, or a replay, is."""

    def replayed(self, progress: ReplayProgress) -> None:
        """Show how much was written again and read back."""
        self._line.show(progress.done_offsets, sum(item.span for item in progress.planned))

    def committed(self, outcome: IngestOutcome) -> None:
        """Show how far the checkpoints have moved."""
        self._line.show(outcome.drained.done_offsets, outcome.drained.planned_offsets)


class FollowLine(RunLine):
    """Rates and latencies of the last seconds, one after the other."""

    def __init__(self, line: ProgressLine) -> None:
        super().__init__(line)
        self._shown_at = time.monotonic()
        self._stored = 0

    def committed(self, outcome: IngestOutcome) -> None:
        """Show the rate and the latency since they were shown last."""
        now = time.monotonic()
        seconds = now - self._shown_at
        if seconds < self._line.seconds_between:
            return
        recent, stored = outcome.probe.take(), outcome.drained.total.stored
        self.latency.merge(recent)
        rate = (stored - self._stored) / seconds
        self._line.show(stored, more=f"{rate:,.0f} a second, {recent}")
        self._shown_at, self._stored = now, stored
