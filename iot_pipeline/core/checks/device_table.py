"""Tables of devices as markdown; device ids are free text and stay text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from iot_pipeline.core.times import moment_of
from iot_pipeline.core.words import counted, plain, printable

# What Dagster shows of a check fits on a screen.
MOST_ROWS = 20
_MOST_CHARACTERS = 64
_NAMED = 3
_TICKS = re.compile(r"`+")


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """The worst devices, worst first: `rows` hold the device (or group) and a cell per column.

    `more` says how many did not fit.
    """

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    more: int = 0

    def markdown(self) -> str:
        """A table whose first column is code, the others text; empty when there are no rows."""
        if not self.rows:
            return ""
        lines = [
            "| " + " | ".join(self.columns) + " |",
            "|:---" + "|---:" * (len(self.columns) - 1) + "|",
        ]
        lines += [
            f"| {as_code(row[0])} | " + " | ".join(map(as_cell, row[1:])) + " |"
            for row in self.rows
        ]
        if self.more:
            lines += ["", f"and {self.more:,} more"]
        return "\n".join(lines)


def as_cell(text: str) -> str:
    """A sentence inside a table, its `code` as it is: no link, no HTML, no second column."""
    return _without_bars(plain(printable(text)))


def as_code(text: str) -> str:
    """The text as markdown code inside a table: no link, no HTML, no second column, one line."""
    return _fenced(_without_bars(_visible(text)))


def as_command(text: str) -> str:
    """A command as markdown code outside of a table, whole: it is for pasting."""
    return _fenced(printable(text))


def _without_bars(shown: str) -> str:
    # Tables end a cell at a bar even inside code, and a backslash before it would free it again.
    return shown.replace("\\|", "\\\uff5c").replace("|", "\\|")


def _fenced(shown: str) -> str:
    fence = "`" * (1 + max(map(len, _TICKS.findall(shown)), default=0))
    # CommonMark takes one blank from both ends, when there is one at both.
    pad = " " if shown[:1] in "` " or shown[-1:] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def as_word(text: str) -> str:
    """The text inside a sentence: quoted where it would not read as one name."""
    shown = _visible(text)
    return shown if re.fullmatch(r"[\w.:-]+", shown) else f"'{shown}'"


def _visible(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _MOST_CHARACTERS else shown[: _MOST_CHARACTERS - 1] + "…"


def count_devices(count: int) -> str:
    """`1 device`, `2,000 devices`."""
    return counted(count, "device")


def name_some(names: Sequence[str]) -> str:
    """The first few devices inside a sentence, and how many more."""
    return some([as_word(name) for name in names], ", ")


def some(items: Sequence[object], separator: str = "; ") -> str:
    """The first few of what a sentence is about, and how many more."""
    more = len(items) - _NAMED
    shown = separator.join(map(str, items[:_NAMED]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def instant(ms: int) -> str:
    """UTC, to the second."""
    return moment_of(ms).strftime("%Y-%m-%d %H:%M:%S UTC")
