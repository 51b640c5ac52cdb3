"""How commands answer: tables and JSON on stdout, everything else on stderr."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
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
