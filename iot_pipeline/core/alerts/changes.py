"""Which changes are told, once each, and what is still on its way to whom.

All of it is one value, `Memory`, that is kept between looks: after a restart nothing is told again
and nothing is forgotten. Pure: the time comes in as an argument.
"""

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from iot_pipeline.core.alerts.conditions import Condition, Level

# Of each channel; then the oldest message makes room, and the next that arrives says so.
MOST_WAITING = 20
_FIRST_RETRY_SECONDS = 15.0
_LONGEST_RETRY_SECONDS = 900.0


class Turn(enum.StrEnum):
    """What happened to a condition since it was told."""

    RED = "red"
    WORSE = "worse"
    GREEN = "green again"


@dataclass(frozen=True, slots=True)
class Change:
    """A condition that is not as it was told, since `since_ms`."""

    condition: Condition
    turn: Turn
    since_ms: int
    # How red it is, or was.
    level: Level


@dataclass(frozen=True, slots=True)
class Message:
    """What one channel is to be told; `message_id` is the same when it is sent again."""

    message_id: str
    channel: str
    level: Level
    title: str
    body: str
    made_ms: int


@dataclass(frozen=True, slots=True)
class Retry:
    """A channel that did not take a message: how often, and when it is tried again."""

    attempts: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What was told, what is about to be, and what no channel has taken yet.

    `told` has the level of each red subject as it was told; what is not in it was told as green, or
    never. `dropped` counts by channel the messages that made room for newer ones. `away_ms` is when
    a server was last seen to be away.
    """

    told: Mapping[str, Level] = field(default_factory=dict)
    pending: Mapping[str, Change] = field(default_factory=dict)
    outbox: Sequence[Message] = ()
    retries: Mapping[str, Retry] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    away_ms: int | None = None

    def as_text(self) -> str:
        """It as JSON, for what keeps it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of_text(cls, text: str | None) -> "Memory":
        """The memory; a new one where there is none, or one that another version wrote."""
        try:
            return msgspec.json.decode(text, type=cls) if text else cls()
        except msgspec.DecodeError:
            return cls()


def note(
    memory: Memory,
    conditions: Iterable[Condition],
    now_ms: int,
    *,
    settle_seconds: float,
    is_quiet: bool = False,
) -> tuple[Memory, list[Change]]:
    """Compare how things stand with what was told.

    A change is told when it has stood for `settle_seconds`; whatever else has changed by then is
    told with it, in one message. What turns back before is never told. A red condition that gets
    better without being green stays told as it is, so that what swings between warning and error is
    told once.

    Args:
        conditions: at most one per subject; of others nothing is known now, and nothing changes.
        is_quiet: only what is or was an error is told; the rest waits, and is told as it stands
            when the quiet hours are over.

    Returns:
        The memory with these changes as told, and the changes; empty: nothing is to be told now.
    """
    pending = dict(memory.pending)
    for item in conditions:
        turn = _turn(item.level, memory.told.get(item.subject, Level.GREEN))
        if turn is None:
            pending.pop(item.subject, None)
            continue
        before = pending.get(item.subject)
        is_same = before is not None and (before.turn is Turn.GREEN) == (turn is Turn.GREEN)
        since_ms = before.since_ms if before is not None and is_same else now_ms
        level = max(item.level, memory.told.get(item.subject, Level.GREEN))
        pending[item.subject] = Change(item, turn, since_ms, level)
    may_be_told = {
        subject: change
        for subject, change in pending.items()
        if change.level is Level.ERROR or not is_quiet
    }
    if not any(
        now_ms - change.since_ms >= settle_seconds * 1000 for change in may_be_told.values()
    ):
        return replace(memory, pending=pending), []
    told = dict(memory.told)
    for subject, change in may_be_told.items():
        del pending[subject]
        told.pop(subject, None)
        if change.turn is not Turn.GREEN:
            told[subject] = change.condition.level
    changes = sorted(
        may_be_told.values(),
        key=lambda change: (
            change.turn is Turn.GREEN,
            -change.level,
            change.since_ms,
            change.condition.subject,
        ),
    )
    return replace(memory, told=told, pending=pending), changes


def _turn(level: Level, told: Level) -> Turn | None:
    if level > told:
        return Turn.WORSE if told else Turn.RED
    return Turn.GREEN if told and not level else None


def put(memory: Memory, messages: Iterable[Message]) -> Memory:
    """The memory with these messages on their way."""
    outbox, dropped = [*memory.outbox, *messages], dict(memory.dropped)
    for channel in {message.channel for message in outbox}:
        waiting = [message for message in outbox if message.channel == channel]
        for message in waiting[: max(0, len(waiting) - MOST_WAITING)]:
            outbox.remove(message)
            dropped[channel] = dropped.get(channel, 0) + 1
    return replace(memory, outbox=tuple(outbox), dropped=dropped)


def send_due(
    memory: Memory,
    now_ms: int,
    channels: Collection[str],
    send: Callable[[Message, int], str],
) -> tuple[Memory, list[tuple[str, str]]]:
    """Send what is due, each channel's messages in their order; one that fails keeps the others.

    Args:
        channels: those that there are; what waits for another is dropped, for it was taken away.
        send: takes a message and how many before it were dropped; returns why it was not taken,
            empty when it was.

    Returns:
        The memory after it, and for each channel that did not take its message: its name, and why.
    """
    outbox = [message for message in memory.outbox if message.channel in channels]
    retries = {name: retry for name, retry in memory.retries.items() if name in channels}
    dropped = {name: count for name, count in memory.dropped.items() if name in channels}
    failures: list[tuple[str, str]] = []
    for channel in dict.fromkeys(message.channel for message in outbox):
        retry = retries.get(channel, Retry(0, 0))
        if retry.at_ms > now_ms:
            continue
        for message in [one for one in outbox if one.channel == channel]:
            why = send(message, dropped.get(channel, 0))
            if why:
                wait = min(_FIRST_RETRY_SECONDS * 2**retry.attempts, _LONGEST_RETRY_SECONDS)
                at_ms = now_ms + round(wait * 1000)
                retries[channel] = Retry(min(retry.attempts + 1, 10), at_ms)
                failures.append((channel, why))
                break
            outbox.remove(message)
            retries.pop(channel, None)
            dropped.pop(channel, None)
    after = replace(memory, outbox=tuple(outbox), retries=retries, dropped=dropped)
    return after, failures
