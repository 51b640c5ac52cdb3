"""What `iot drain` shows while it works, and how one that follows is asked to end."""

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import click
from rich.console import Console
from rich.status import Status

from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.core.latency import Latencies
from iot_pipeline.core.offsets import OffsetRange
from iot_pipeline.stages.following import Follow
from iot_pipeline.stages.planning import Plan
from iot_pipeline.stages.replay import ReplayProgress
from iot_pipeline.stages.run_ingest import IngestOutcome, Watcher

# Percentiles and rates of the last seconds: of a whole day they would say nothing of now.
_SHOW_SECONDS = 2.0
_LOG_SECONDS = 10.0


@contextmanager
def until_asked(seconds: float) -> Iterator[Follow]:
    """How to follow: for so long, or until the first Ctrl-C or SIGTERM.

    The second one is Python's own, and ends the process wherever it is.
    """
    is_asked = threading.Event()

    def ask(*_: object) -> None:
        is_asked.set()
        _restore(before)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield Follow(seconds, should_stop=is_asked.is_set)
    finally:
        _restore(before)


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


class RunLine(Watcher):
    """What every run from the command line says as it happens, on stderr."""

    def planned(self, plan: Plan) -> None:
        """Say that what lies below the checkpoint is a replay."""
        if plan.replay:
            ranges = ", ".join(map(str, plan.replay))
            click.echo(f"{ranges}: below the checkpoint, so this is a replay", err=True)


class DrainLine(RunLine):
    """How far a drain, or a replay, is."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def replayed(self, progress: ReplayProgress) -> None:
        """Show how much was written again and read back."""
        self._line.show(progress.done_offsets, sum(item.span for item in progress.planned))

    def committed(self, outcome: IngestOutcome) -> None:
        """Show how far the checkpoints have moved."""
        self._line.show(outcome.drained.done_offsets, outcome.drained.planned_offsets)


class FollowLine(RunLine):
    """One line that changes on a terminal, a line every ten seconds elsewhere.

    `latency` gathers what was measured and shown.
    """

    def __init__(self) -> None:
        self.latency = Latencies()
        self._status = Status("following", console=Console(stderr=True))
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._stored = 0

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._status.stop()

    def committed(self, outcome: IngestOutcome) -> None:
        """Show the rate and the latency since the line was shown last."""
        now = time.monotonic()
        seconds = now - self._shown_at
        if seconds < (_SHOW_SECONDS if self._is_terminal else _LOG_SECONDS):
            return
        recent, stored = outcome.probe.take(), outcome.drained.total.stored
        self.latency.merge(recent)
        text = (
            f"following: {stored:,} rows stored, "
            f"{(stored - self._stored) / seconds:,.0f} a second; {recent}"
        )
        self._shown_at, self._stored = now, stored
        if self._is_terminal:
            self._status.update(text)
        else:
            click.echo(text, err=True)

    def lost(self, ranges: Sequence[OffsetRange]) -> None:
        """Say it at once: a run that stays may go on for hours."""
        for item in ranges:
            self._status.console.print(lost_line(item), markup=False, highlight=False)


def lost_line(item: OffsetRange) -> str:
    """One range that Kafka deleted unread, in words."""
    return f"LOST: {item} expired unread; it is in the ledger, see `iot losses`"
