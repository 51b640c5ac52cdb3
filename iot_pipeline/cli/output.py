"""How commands answer: tables, sentences and JSON on stdout, everything else on stderr; their help.

On a terminal a sentence is folded between words and a table that is too wide shows each row on
several lines; nothing is cut off, because other commands need what stands there. Elsewhere a
sentence and a row are one line each.
"""

import codecs
import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import islice
from typing import IO, Any, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console

from iot_pipeline.cli import logs
from iot_pipeline.core.times import in_utc
from iot_pipeline.core.words import is_control
from iot_pipeline.errors import ConfigurationError

# What was looked for is there, is not there, or did not work: the message says which.
EXIT_FOUND = 1
_FIRST_SENTENCE = re.compile(r".*?[.!?](?=\s|$)", re.DOTALL)
# What an encoding that lacks them gets instead; any other character is shown by its number.
_STAND_INS = {"─": "-", "━": "=", "°": "", "…": "...", "–": "-", "−": "-"}
_GAP, _INDENT = "  ", "    "
_BLOCK_ROWS = 500
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?%?")
# What a person pastes is not folded: a command in backticks stays on one line.
_UNBROKEN = re.compile(r"(?:`[^`]*`|\S)+")

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, on stdout.")
_F = TypeVar("_F", bound=Callable[..., object])


class CommandGroup(click.Group):
    """A group whose help lists its commands in whole sentences."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_commands(formatter, "Commands", sorted(self.commands.items()))


def write_commands(
    formatter: click.HelpFormatter, title: str, commands: Iterable[tuple[str, click.Command]]
) -> None:
    with formatter.section(title):
        formatter.write_dl([(name, first_sentence(command)) for name, command in commands])


def first_sentence(command: click.Command) -> str:
    """The first sentence of a command's help, and for a group the names of its commands."""
    text = " ".join((command.help or "").split())
    found = _FIRST_SENTENCE.match(text)
    sentence = found[0] if found else text
    if isinstance(command, click.Group):
        sentence = f"{sentence.rstrip('.')}: {', '.join(sorted(command.commands))}."
    return sentence


def exit_code_option(found: str) -> Callable[[_F], _F]:
    """`--exit-code`: the command ends with 1 when it found what `found` says; for scripts."""
    return click.option(
        "--exit-code", "has_exit_code", is_flag=True, help=f"Exit with 1 when {found}."
    )


def exit_as_found(has_exit_code: bool, is_found: bool) -> None:
    """End with exit code 1 when `--exit-code` was given and something was found."""
    if has_exit_code and is_found:
        sys.exit(EXIT_FOUND)


def ask_whether(question: str) -> None:
    """Ask a person; returns when the answer is yes.

    Raises:
        SystemExit: the answer is no.
        ConfigurationError: there is no terminal to ask; `--yes` answers.
    """
    say(question, err=True)
    try:
        is_meant = click.confirm("Yes?", err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise ConfigurationError("no answer, so nothing was done: say --yes") from None
    if not is_meant:
        say("nothing was done", err=True)
        sys.exit(EXIT_FOUND)


def print_json(value: Any) -> None:
    """One JSON document; instants in UTC to the millisecond, days, anything else as text."""
    click.echo(_as_json(value))


def _as_json(value: Any) -> str:
    is_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    return json.dumps(value, default=_as_text, ensure_ascii=not is_utf8)


def print_json_list(name: str, items: Iterable[Any], rest: Callable[[], dict[str, Any]]) -> None:
    """One JSON object whose first member is a list, printed as its items come, then the others."""
    click.echo(f"{{{json.dumps(name)}: [", nl=False)
    for number, item in enumerate(items):
        click.echo(", " if number else "", nl=False)
        click.echo(_as_json(item), nl=False)
    click.echo(f"], {_as_json(rest())[1:]}")


def make_writable() -> None:
    """Let stdout and stderr take any text: closed ones take all, narrow encodings a stand-in."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    codecs.register_error("iot", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "surrogateescape":
            stream.reconfigure(errors="iot")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(char, ascii(char)[1:-1]) for char in text), error.end


def say(text: str, *, err: bool = False) -> None:
    """Print sentences; on a terminal folded between words, never inside a command."""
    if err and logs.is_json():
        logs.write_sentence(text)
        return
    width = _terminal_width(sys.stderr if err else sys.stdout)
    for line in text.split("\n"):
        cleaned = _clean(line)
        for part in [cleaned] if width is None else _fold(cleaned, width):
            click.echo(part, err=err)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table under a title: columns of numbers to the right, instants in UTC to the second.

    A cell that is None is empty. Numbers are shown as they are; a count is given as `f"{n:,}"`.
    """
    if title:
        say(title)
    cells = [[_cell(value) for value in row] for row in rows]
    for line in _lay_out(list(columns), cells, _terminal_width(sys.stdout)):
        click.echo(line)


def print_long_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table of any length in bounded memory.

    It is laid out block by block, each under a heading of its own: a terminal shows but one.
    """
    left = iter(rows)
    while block := list(islice(left, _BLOCK_ROWS)):
        print_table(columns, block)


def has_colour(stream: IO[str]) -> bool:
    """Whether it is a terminal that shows colours, and NO_COLOR is not set."""
    console = Console(file=stream)
    return console.is_terminal and not console.no_color and console.color_system is not None


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return in_utc(value, "milliseconds")
    return str(value)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return in_utc(value)
    if isinstance(value, bool):
        return str(value).lower()  # as JSON has it
    return _clean(value.isoformat() if isinstance(value, date) else str(value))


def _clean(text: str) -> str:
    # A dead letter and a device id may hold anything, also what moves a terminal's cursor.
    if text.isprintable():
        return text
    return "".join(
        repr(char)[1:-1] if is_control(char) or unicodedata.category(char) == "Cs" else char
        for char in text
    )


def _terminal_width(stream: IO[str]) -> int | None:
    """None when it is no terminal."""
    return Console(file=stream).width if stream.isatty() else None


_GOES_ON = " \\"


def _fold(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells; a word that is wider has a line of its own.

    A shell's command that is wider goes on as a shell has it, so that it can be copied.
    """
    if cell_len(text) <= width:
        return [text]
    begin = text[: len(text) - len(text.lstrip())]
    line, lines = begin, []
    for word, goes_on in _words(text, width - len(begin) - 2):
        room = width if goes_on is None else width - len(_GOES_ON)
        if line.strip() and cell_len(line) + 1 + cell_len(word) > room:
            lines.append(line + (_GOES_ON if goes_on else ""))
            line = f"{begin}  "
        line += word if not line.strip() else f" {word}"
    return [*lines, line]


def _words(text: str, width: int) -> Iterator[tuple[str, bool | None]]:
    """Words and commands; what stands in backticks and is too long for a line is words again.

    Beside it, of words of a shell's command: whether it goes on from the word before.
    """
    for part in _UNBROKEN.findall(text):
        if cell_len(part) <= width:
            yield part, None
            continue
        # CQL, which is written in capitals, needs nothing to go on.
        is_for_shell = part.startswith("`") and part[1:2].islower()
        for number, word in enumerate(part.split()):
            yield word, number > 0 if is_for_shell else None


def _lay_out(columns: list[str], rows: list[list[str]], width: int | None) -> list[str]:
    """Heading, rule and rows, each on as many lines as `width` takes; None is any width."""
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    is_number = [
        all(_NUMBER.fullmatch(cell) for cell in column if cell)
        for column in zip(*rows, strict=True)
    ] or [False] * len(columns)
    whole = sum(widths) + len(_GAP) * (len(widths) - 1)
    if width is None or whole <= width:
        width = whole
    else:
        widths = [
            max(cell_len(name), _usual_width([cell_len(row[i]) for row in rows], width))
            for i, name in enumerate(columns)
        ]
    bands = _bands(widths, width)

    def lines_of(cells: Sequence[str]) -> list[str]:
        return [
            line
            for number, band in enumerate(bands)
            for line in _band_lines(
                [(cells[i], widths[i], is_number[i]) for i in band],
                _INDENT if number else "",
                width,
            )
        ]

    return [
        *lines_of(columns),
        "─" * min(width, whole),
        *(x for row in rows for x in lines_of(row)),
    ]


def _usual_width(sizes: Sequence[int], width: int) -> int:
    """The widest of a column's cells, without the few that are wider than half of a line.

    Such a value must not push its whole column to a line of its own.
    """
    usual = [size for size in sizes if size <= width // 2]
    is_few = (len(sizes) - len(usual)) * 4 <= len(sizes)
    return max(usual if is_few else sizes, default=0)


def _bands(widths: Sequence[int], width: int) -> list[list[int]]:
    """Which columns stand on which line of a row, in their order."""
    bands: list[list[int]] = [[]]
    used = 0
    for number, size in enumerate(widths):
        if bands[-1] and used + len(_GAP) + size > width:
            bands.append([])
            used = len(_INDENT) - len(_GAP)
        used += size + (len(_GAP) if bands[-1] or len(bands) > 1 else 0)
        bands[-1].append(number)
    return bands


def _band_lines(cells: Sequence[tuple[str, int, bool]], indent: str, width: int) -> list[str]:
    """One line, or more where a cell is wider than its column; none when all are empty."""
    lines: list[str] = []
    line, is_begun = indent, False
    for cell, size, is_number in cells:
        blanks = " " * max(0, size - cell_len(cell))
        padded = blanks + cell if is_number else cell + blanks
        gap = _GAP if is_begun else ""
        if cell_len(line + gap + (padded if is_number else cell)) > width:
            lines.append(line)
            *folded, line = _fold(f"{_INDENT}{cell}", width)
            lines.extend(folded)
        else:
            line += gap + padded
        is_begun = True
    return [text.rstrip() for text in (*lines, line) if text.strip()]
