"""What a command that sends shares: Ctrl-C as a flag, and progress on stderr."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from iot_pipeline.stages.sending import SimulationResult

LOG_EVERY_SECONDS = 5.0


class Stop:
    """Turns Ctrl-C and SIGTERM into a flag while entered; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, object] = {}

    def is_asked(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number


@contextmanager
def progress(
    count: int | None, seconds: float | None = None
) -> Iterator[Callable[[SimulationResult], None]]:
    """A bar on a terminal, else a line every few seconds; both on stderr.

    It is full at `count` messages, or where those are not known after so many `seconds`.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LogLines(count).tell
        return
    with Progress(
        TextColumn("simulating"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=count or seconds, text="")

        def tell(result: SimulationResult) -> None:
            done = result.seconds if count is None and seconds else result.produced
            bar.update(task, completed=done, text=_counts(result))

        yield tell


class _LogLines:
    def __init__(self, count: int | None) -> None:
        self._of = "" if count is None else f" of {count:,}"
        self._told_at = time.monotonic()

    def tell(self, result: SimulationResult) -> None:
        if time.monotonic() - self._told_at >= LOG_EVERY_SECONDS:
            self._told_at = time.monotonic()
            click.echo(f"simulating{self._of}: {_counts(result)}", err=True)


def _counts(result: SimulationResult) -> str:
    return (
        f"{result.produced:,} produced, {result.acknowledged:,} acknowledged, {result.rate:,.0f}/s"
    )
