"""Progress of long work on stderr: a line that changes on a terminal, lines elsewhere.

No line is wider than the terminal, and no word is cut: what does not fit is left out whole.
"""

import time
from typing import Self

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from iot_pipeline.cli import logs
from iot_pipeline.core.times import in_words

_QUIET_SECONDS = 10.0
_RATE_SECONDS = 2.0
_REFRESHES_PER_SECOND = 4
_BAR_CELLS = (10, 40)
# Before that the speed is that of connecting.
_ESTIMATE_AFTER_SECONDS = 1.0


class ProgressLine:
    """How far something is, with an estimate of the time left where its end is known."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._began = self._said_at = time.monotonic()
        self._done = 0
        self._total: int | None = None
        self._more = ""
        console = Console(stderr=True)
        # A dumb terminal cannot take back what it shows: it gets lines, like a file.
        is_for_people = console.is_terminal and not logs.is_json()
        is_shown = is_for_people and not console.is_dumb_terminal
        self._live = (
            Live(self, console=console, transient=True, refresh_per_second=_REFRESHES_PER_SECOND)
            if is_shown
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def seconds_between(self) -> float:
        """How often a person sees it change; sums over less time would never be read."""
        return _QUIET_SECONDS if self._live is None else _RATE_SECONDS

    def show(self, done: int, total: int | None = None, more: str = "") -> None:
        """Say how far it is; `total` is None when the end is not known.

        `more` is what else a person would like to know, parts joined by ", ", the most important
        one first: a narrow terminal leaves out the last ones.
        """
        self._done, self._total, self._more = done, total, more
        if self._live is not None:
            if not self._live.is_started:
                self._live.start()
            return
        now = time.monotonic()
        if now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            line = ", ".join(self._parts())
            if logs.is_json():
                logs.write_sentence(line)
            else:
                click.echo(line, err=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self._line(options.max_width), no_wrap=True, overflow="crop")

    def _parts(self) -> list[str]:
        """The whole sentence in parts, the most important ones first."""
        total = "" if self._total is None else f" of {self._total:,}"
        parts = [f"{self._doing}: {self._done:,}{total}"]
        seconds_left = self._seconds_left()
        if seconds_left is not None:
            parts.append(f"about {in_words(seconds_left)} left")
        return parts + [part for part in self._more.split(", ") if part]

    def _seconds_left(self) -> float | None:
        seconds = time.monotonic() - self._began
        if self._total is None or not 0 < self._done < self._total:
            return None
        if seconds < _ESTIMATE_AFTER_SECONDS:
            return None
        return seconds / self._done * (self._total - self._done)

    def _line(self, width: int) -> str:
        parts = self._parts()
        while len(parts) > 1 and cell_len(", ".join(parts)) > width:
            parts.pop()
        line = ", ".join(parts)
        if cell_len(line) > width:
            line = line.removeprefix(f"{self._doing}: ")
        least, most = _BAR_CELLS
        cells = min(width - cell_len(line) - 1, most)
        if not self._total or cells < least:
            return line
        filled = round(cells * min(1.0, self._done / self._total))
        return f"{line} {'━' * filled}{'─' * (cells - filled)}"
