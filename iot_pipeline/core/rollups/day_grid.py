"""The days of readings side by side: which an audit has proven, and which only were counted."""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from iot_pipeline.core.proof.audited_days import AuditedDay
from iot_pipeline.core.rollups.days import DayFacts, DayRecord
from iot_pipeline.core.times import in_utc
from iot_pipeline.core.words import counted

SHOWN_DAYS = 60


class DayState(enum.StrEnum):
    """What is known of a day's rows; the worst first."""

    DEFECTS = "with defects"
    UNPROVEN = "proven in part"
    CHANGED = "changed since"
    NOT_LOOKED_AT = "not looked at"
    COUNTED = "counted"
    PROVEN = "proven"


_MEANS = {
    DayState.DEFECTS: "an audit found rows lost, torn or stray",
    DayState.UNPROVEN: "an audit could not compare all of it",
    DayState.CHANGED: "rows came, were written again or were deleted since the audit",
    DayState.NOT_LOOKED_AT: "no audit has covered all of it, and its rows were not counted",
    DayState.COUNTED: (
        "no audit has covered all of it; a rollup counted its rows, but for devices whose rows had "
        "begun to age out"
    ),
    DayState.PROVEN: (
        "an audit compared every reading that the ledger stored of it with its row, or saw that "
        "another reading, a deletion or age has taken it"
    ),
}


_MARKS = {
    DayState.DEFECTS: "✖",
    DayState.UNPROVEN: "◐",
    DayState.CHANGED: "↻",
    DayState.NOT_LOOKED_AT: "·",
    DayState.COUNTED: "○",
    DayState.PROVEN: "✔",
}
_WEEKDAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_MOST_IN_MARKDOWN = 20


@dataclass(frozen=True, slots=True)
class GridDay:
    """A day of readings; `stored` are the rows that the ledgers have counted by now.

    `audited` is of the newest audit that covered the day, `counted` of the newest rollup of it.
    """

    day: date
    state: DayState
    stored: int
    audited: AuditedDay | None = None
    counted: DayRecord | None = None

    @property
    def rows(self) -> int | None:
        """As the audit or else the rollup found them; None: neither has."""
        if self.audited is not None:
            return self.audited.rows
        return self.counted.readings if self.state is DayState.COUNTED and self.counted else None

    @property
    def looked_at(self) -> datetime | None:
        """When the audit began, or the rollup was made."""
        if self.audited is not None:
            return self.audited.audited_at
        counts = self.state is DayState.COUNTED and self.counted is not None
        return self.counted.rebuilt_at if counts and self.counted is not None else None


@dataclass(frozen=True, slots=True)
class DayGrid:
    """The days that have readings, newest first; `older` are those before the first one shown."""

    days: Sequence[GridDay]
    older: int
    as_of: datetime

    @property
    def states(self) -> Counter[DayState]:
        return Counter(item.state for item in self.days)

    def sentences(self) -> list[str]:
        """At least one."""
        older = f"{counted(self.older, 'older day')} with readings not shown"
        if not self.days:
            nothing = "the ledger has no readings of these days"
            return [nothing, older] if self.older else [nothing]
        states = self.states
        said = [f"{counted(states[state], 'day')} {state}: {_MEANS[state]}" for state in DayState]
        found = [text for state, text in zip(DayState, said, strict=True) if states[state]]
        if self.older:
            found.append(older)
        return found

    def table(self) -> list[tuple[str, str, str, str, str, str]]:
        """Under `HEADS`, a line a day."""
        return [
            (
                str(item.day),
                item.state.value,
                f"{item.stored:,}",
                "" if item.rows is None else f"{item.rows:,}",
                "" if item.looked_at is None else f"{item.looked_at:%Y-%m-%d %H:%M}",
                item.audited.found if item.audited is not None else "",
            )
            for item in self.days
        ]

    def calendar(self) -> list[tuple[str, ...]]:
        """A line a week, newest first: its Monday, and a mark for each day with readings."""
        marks = {item.day: _MARKS[item.state] for item in self.days}
        mondays = {day - timedelta(days=day.weekday()) for day in marks}
        return [
            (str(monday), *(marks.get(monday + timedelta(days=number), "") for number in range(7)))
            for monday in sorted(mondays, reverse=True)
        ]

    def markdown(self) -> str:
        """Sentences, the calendar, and a table of the first days that are not proven."""
        lines = [f"As of {in_utc(self.as_of)}; `iot audits` shows it as of now.", ""]
        lines += [f"- {sentence}" for sentence in self.sentences()]
        lines += ["", *_markdown(("week of", *_WEEKDAYS), map(_unbroken, self.calendar()))]
        states = self.states
        lines += ["", ", ".join(f"{_MARKS[s]} {s}" for s in DayState if states[s])]
        others = [
            (line[0], line[1], line[5])
            for line, item in zip(self.table(), self.days, strict=True)
            if item.state is not DayState.PROVEN
        ]
        if others:
            shown = map(_unbroken, others[:_MOST_IN_MARKDOWN])
            lines += ["", *_markdown(("day", "state", "found"), shown)]
        return "\n".join(lines)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _unbroken(line: Sequence[str]) -> list[str]:
    # Dagster's page gives the cell of a date so little room that it would be three lines high.
    return [line[0].replace("-", "\u2011"), *line[1:]]


HEADS = ("day", "state", "ledger", "rows", "looked at", "found")


def make_grid(
    facts: Mapping[date, DayFacts],
    audited: Mapping[date, AuditedDay],
    counts: Mapping[date, DayRecord],
    now: datetime,
    days: int = SHOWN_DAYS,
) -> DayGrid:
    """The last `days` days up to today, UTC, and what clocks that are ahead have brought.

    Args:
        facts: what the ledgers say now.
        audited: by day, the newest audit that covered it.
        counts: by day, the newest rollup of it.
    """
    first = now.date() - timedelta(days=days - 1)
    known = [day for day, found in facts.items() if found.stored or day in audited]
    shown = sorted((day for day in known if day >= first), reverse=True)
    grid = [
        GridDay(
            day,
            _state(facts[day], audited.get(day), counts.get(day)),
            facts[day].stored,
            audited.get(day),
            counts.get(day),
        )
        for day in shown
    ]
    return DayGrid(grid, len(known) - len(shown), now)


def _state(facts: DayFacts, audited: AuditedDay | None, record: DayRecord | None) -> DayState:
    if audited is not None:
        if audited.seen != facts.touched:
            return DayState.CHANGED
        if audited.defects:
            return DayState.DEFECTS
        return DayState.PROVEN if audited.is_proven else DayState.UNPROVEN
    if record is not None and record.seen == facts.seen:
        return DayState.COUNTED
    return DayState.NOT_LOOKED_AT
