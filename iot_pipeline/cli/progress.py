"""Progress of long work on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_QUIET_SECONDS = 10.0


class ProgressLine:
    """How far something is; the estimate is rich's on a terminal, and ours elsewhere."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
            transient=True,
            console=Console(stderr=True),
        )
        self._is_shown = sys.stderr.isatty()
        self._task = self._progress.add_task(doing, total=None, start=False, more="")
        self._said_at = self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_shown:
            self._progress.stop()

    def show(self, done: int, total: int, more: str = "") -> None:
        """So much of so much is done; `more` says what else a person would like to know."""
        if self._is_shown:
            if not self._progress.live.is_started:
                self._progress.start()
                self._progress.start_task(self._task)
            self._progress.update(self._task, completed=done, total=total, more=more)
            return
        now = time.monotonic()
        if now - self._said_at > _QUIET_SECONDS:
            self._said_at = now
            left = (now - self._began) / done * (total - done) if done else None
            eta = "" if left is None else f", about {left:.0f} s left"
            click.echo(
                f"{self._doing}: {done:,} of {total:,}{', ' + more if more else ''}{eta}", err=True
            )
