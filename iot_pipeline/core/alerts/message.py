"""What a message says: what turned red or green, the worst devices, what to do, where to look."""

import hashlib
from collections.abc import Sequence

from iot_pipeline.core.alerts.changes import Change, Message, Turn
from iot_pipeline.core.alerts.conditions import Level
from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.core.words import counted, printable

# What is told in full, and how long a sentence may be; chat systems cut off what is longer.
_IN_FULL = 8
_MOST_CHARACTERS = 900
_MARKS = {Level.WARN: "WARN", Level.ERROR: "ERROR"}


def write_message(
    channel: str, changes: Sequence[Change], pipeline: str, ui_url: str, now_ms: int
) -> Message:
    """One message of all these changes, at least one, the worst first."""
    level = max((c.condition.level for c in changes), default=Level.GREEN)
    parts = [_told(change, ui_url) for change in changes[:_IN_FULL]]
    more = changes[_IN_FULL:]
    if more:
        named = ", ".join(f"{c.condition.subject} ({c.turn})" for c in more[:40])
        parts.append(f"And {len(more)} more: {named}.")
    known = "|".join([channel, str(now_ms), *(f"{c.condition.subject}:{c.turn}" for c in changes)])
    message_id = hashlib.sha256(known.encode()).hexdigest()[:12]
    parts.append(f"Pipeline {pipeline}, {in_utc(moment_of(now_ms))}, message {message_id}")
    body = printable_lines("\n\n".join(parts))
    return Message(message_id, channel, level, _title(changes, pipeline), body, now_ms)


def _title(changes: Sequence[Change], pipeline: str) -> str:
    red = [change for change in changes if change.turn is not Turn.GREEN]
    green = len(changes) - len(red)
    said = []
    if len(red) == 1:
        said.append(f"{red[0].condition.subject} is {red[0].turn}")
    elif red:
        said.append(f"{len(red)} are red, {red[0].condition.subject} first")
    if green and not red and green == 1:
        said.append(f"{changes[0].condition.subject} is green again")
    elif green:
        said.append(f"{counted(green, 'is', 'are')} green again")
    return printable(f"{pipeline}: {'; '.join(said)}")


def _told(change: Change, ui_url: str) -> str:
    item = change.condition
    if change.turn is Turn.GREEN:
        head = f"GREEN again: {item.subject}"
    else:
        worse = " (worse than before)" if change.turn is Turn.WORSE else ""
        head = f"{_MARKS[item.level]}: {item.subject}{worse}, since {_at(change)}"
    sentence = item.sentence
    if len(sentence) > _MOST_CHARACTERS:
        sentence = sentence[: _MOST_CHARACTERS - 1] + "…"
    lines = [head, sentence]
    if change.turn is not Turn.GREEN:
        lines += item.devices
        lines.append(f"What to do: docs/runbook.md, {item.kind}")
    if ui_url:
        lines.append(f"{ui_url.rstrip('/')}{item.path}")
    return "\n".join(lines)


def _at(change: Change) -> str:
    return in_utc(moment_of(change.since_ms))


def printable_lines(text: str) -> str:
    """The text with its line ends, and a sign in the place of what is not printed otherwise."""
    return "\n".join(printable(line) for line in text.split("\n"))
