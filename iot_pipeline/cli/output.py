"""How commands answer: tables and JSON on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, on stdout.")


def print_json(value: Any) -> None:
    """One JSON document; instants in ISO 8601, anything else unknown as text."""
    click.echo(json.dumps(value, default=str, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table as wide as the terminal; plain lines when stdout is no terminal."""
    # Text, not str: rich reads "[/a]" in a string as markup, and a dead letter may say anything.
    table = Table()
    for name in columns:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=200)
    if title:
        # A line of its own: a title of the table would be folded to its width.
        console.print(Text(title))
    console.print(table)


class ProgressLine:
    """A bar of offsets on a terminal's stderr, gone when it is done; nothing elsewhere."""

    def __init__(self, doing: str, total_offsets: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} offsets"),
            TimeRemainingColumn(),
            transient=True,
            console=Console(stderr=True),
        )
        self.is_shown = sys.stderr.isatty() and total_offsets > 0
        self._task = self._progress.add_task(doing, total=total_offsets)

    def __enter__(self) -> Self:
        if self.is_shown:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_shown:
            self._progress.stop()

    def update(self, done_offsets: int, doing: str | None = None) -> None:
        """Show so many offsets as done; `doing` replaces what stands before the bar."""
        self._progress.update(self._task, completed=done_offsets, description=doing)
