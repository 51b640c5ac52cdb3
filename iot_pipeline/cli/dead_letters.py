"""`iot dead-letters`: list them, show one, count them, read them again."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import click

from iot_pipeline.cli.output import (
    EXIT_FOUND,
    CommandGroup,
    json_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.proof.dead_letters import StoredLetter, preview
from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.payloads import declared_line, what_it_is
from iot_pipeline.core.times import in_utc, moment_of, parse_moment
from iot_pipeline.core.words import counted, iot_command
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.dead_letters import FoundLetter, find_letter, read_newest_letters
from iot_pipeline.stages.proof.replay_dead_letters import read_letters

# Read in a second or two, whatever the topic holds.
_SAMPLED = 10_000
_LOOKED_THROUGH = 100_000
_REASONS = [reason.value for reason in Reason]
reason_option = click.option(
    "--reason",
    type=click.Choice(_REASONS),
    metavar="REASON",
    help=f"Only these: {', '.join(_REASONS)}.",
)


@click.group("dead-letters", cls=CommandGroup)
def dead_letters_command() -> None:
    """Records that could not be readings, kept whole, each with its reason."""


@dead_letters_command.command("list")
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="How many, the newest.",
)
@reason_option
@click.option("--all", "is_all", is_flag=True, help="Look through every letter for the reason.")
@json_option
def list_dead_letters_command(last: int, reason: str | None, is_all: bool, as_json: bool) -> None:
    """List the newest dead letters: source, reason, message and the beginning of the value.

    A reason is looked for among the newest 100,000 letters or so, or among all with --all.
    """
    settings = Settings.from_env()
    most = None if is_all or reason is None else _LOOKED_THROUGH
    with closing(KafkaLog(settings)) as log:
        found = read_newest_letters(log, settings.dead_letter_topic, last, reason, most)
    if as_json:
        print_json(
            {
                "topic": settings.dead_letter_topic,
                "dead_letters": [_letter_json(item) for item in found.letters],
                "foreign": found.foreign,
                "incomplete": found.incomplete,
                "is_all": found.is_all,
                "not_looked_at": found.left if len(found.letters) < last else 0,
                "unreadable": found.unreadable,
            }
        )
        return
    if not found.letters and found.is_all:
        which = "dead letters" if reason is None else f"dead letters with the reason {reason}"
        say(f"{settings.dead_letter_topic} has no {which}")
    if found.letters:
        _print_letters(found.letters, settings.dead_letter_topic)
    _say_unreadable(found.unreadable, settings.dead_letter_topic)
    if found.left and len(found.letters) < last:
        if not found.letters:
            say(f"none of the newest letters of {settings.dead_letter_topic} has this reason")
        say(f"{found.left:,} older letters were not looked at: --all looks through them too")
    if found.foreign:
        said = counted(found.foreign, "record is no dead letter", "records are no dead letters")
        say(f"{said} of ours: left out")
    if found.incomplete:
        say(f"{found.incomplete:,} letters came in parts that are not all there")


def _say_unreadable(offsets: int, topic: str) -> None:
    if offsets:
        say(
            f"{counted(offsets, 'offset')} of {topic} cannot be read, so letters may be missing",
            err=True,
        )


def _print_letters(letters: Sequence[FoundLetter], topic: str) -> None:
    print_table(
        ("delivered", "source", "reason", "bytes", "message", "value"),
        [
            (
                moment_of(item.letter.delivered_ms),
                _coordinates(item),
                item.letter.reason,
                None if item.value_bytes is None else f"{item.value_bytes:,}",
                item.letter.message,
                preview(item.letter.value, 60),
            )
            for item in letters
        ],
        title=f"{topic}, newest first",
    )
    place = letters[0].letter.source
    example = iot_command("dead-letters", "show", f"{place.partition}:{place.offset}")
    say(f"`{example}` shows the newest one whole")


def _coordinates(item: FoundLetter) -> str:
    source = item.letter.source
    return f"{source.topic} {source.partition}:{source.offset}"


def _letter_json(item: FoundLetter) -> dict[str, object]:
    letter = item.letter
    return {
        "topic": letter.source.topic,
        **_facts(letter),
        "value_bytes": item.value_bytes,
        "value": _text(letter.value, 200),
        "dlq_partition": letter.dlq_partition,
        "dlq_offset": letter.dlq_offset,
    }


def _facts(letter: StoredLetter) -> dict[str, object]:
    return {
        "topic_id": letter.source.topic_id,
        "partition": letter.source.partition,
        "offset": letter.source.offset,
        "reason": letter.reason,
        "message": letter.message,
        "produced_at": _moment(letter.produced_ms),
        "delivered_at": _moment(letter.delivered_ms),
        "message_key": _text(letter.message_key, 80),
    }


def _moment(ms: int | None) -> str | None:
    return None if ms is None else in_utc(moment_of(ms), "milliseconds")


def _text(value: bytes | None, most: int | None = None) -> str | None:
    return None if value is None else preview(value, most or len(value))


def _letters(settings: Settings) -> Iterator[StoredLetter]:
    unreadable: list[OffsetRange] = []
    topic = settings.dead_letter_topic
    with closing(KafkaLog(settings)) as log:
        yield from read_letters(
            log, topic, settings.topic, settings.retry_seconds, unreadable.append
        )
    _say_unreadable(sum(item.span for item in unreadable), topic)


@dead_letters_command.command("show")
@click.argument("place", metavar="PARTITION:OFFSET")
@click.option("--all", "is_all", is_flag=True, help="Read every letter, where order hides it.")
@json_option
def show_command(place: str, is_all: bool, as_json: bool) -> None:
    """Show one dead letter whole, by the coordinates of its source record."""
    partition, _, offset = place.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise ConfigurationError(f"{place}: expected PARTITION:OFFSET, such as 0:123")
    settings = Settings.from_env()
    wanted = (int(partition), int(offset))
    topic, letters = settings.topic, settings.dead_letter_topic
    found: Iterable[StoredLetter]
    if is_all:
        found = (
            letter
            for letter in _letters(settings)
            if (letter.source.partition, letter.source.offset) == wanted
        )
    else:
        with closing(KafkaLog(settings)) as log:
            found = find_letter(log, letters, topic, wanted)
    found = list(found)
    if not found and is_all:
        say(f"{letters} has no letter of {topic} {place}", err=True)
        sys.exit(EXIT_FOUND)
    if not found:
        say(
            f"{letters} has no letter of {topic} {place} where the order of letters puts it. One "
            "that was delivered again may lie elsewhere: "
            f"`{iot_command('dead-letters', 'show', '--all', place)}` reads all of them",
            err=True,
        )
        sys.exit(EXIT_FOUND)
    shown: list[dict[str, Any]] = [
        {
            **_facts(letter),
            "headers": [[name, preview(value)] for name, value in letter.headers],
            "value": _text(letter.value),
        }
        for letter in found
    ]
    if as_json:
        print_json(shown)
        return
    for one in shown:
        headers = [f"{name}: {value}" for name, value in one.pop("headers")]
        rows = [*one.items(), *(("header", text) for text in headers)]
        print_table(("field", "value"), rows)


@dead_letters_command.command("stats")
@reason_option
@click.option("--since", metavar="TIME", help="Delivered from this time on.")
@click.option("--all", "is_all", is_flag=True, help="Read every letter, however many there are.")
@json_option
def stats_command(reason: str | None, since: str | None, is_all: bool, as_json: bool) -> None:
    """Count dead letters by reason: of the newest 10,000, or of all with --all.

    How many records were rejected since the beginning is the ledger's count.
    """
    settings = Settings.from_env()
    since_ms = parse_moment(since).timestamp() * 1000 if since else 0
    counts: Counter[str] = Counter()
    known: Counter[str] = Counter()
    newest: dict[str, int] = {}
    oldest_ms, left = float("inf"), 0
    with open_connections(settings) as connections:
        rejected, span = _count_rejected(connections)
        if is_all:
            letters: Iterable[StoredLetter] = _letters(settings)
        else:
            found = read_newest_letters(connections.log, settings.dead_letter_topic, _SAMPLED)
            letters = [item.letter for item in found.letters]
            left = 0 if found.is_all and len(letters) < _SAMPLED else max(0, span - len(letters))
            _say_unreadable(found.unreadable, settings.dead_letter_topic)
    for letter in letters:
        oldest_ms = min(oldest_ms, letter.delivered_ms)
        is_ours = letter.source.topic == settings.topic
        if is_ours and reason in (None, letter.reason) and letter.delivered_ms >= since_ms:
            counts[letter.reason] += 1
            known[_what_would_help(letter)] += 1
            newest[letter.reason] = max(newest.get(letter.reason, 0), letter.delivered_ms)
    if oldest_ms < since_ms:
        left = 0  # those before are not asked for
    if as_json:
        print_json(
            {
                "letters": counts.total(),
                "by_reason": dict(counts),
                "recognized": {said: count for said, count in known.items() if said},
                "rejected": rejected,
                "not_looked_at": left,
            }
        )
        return
    print_table(
        ("reason", "letters", "newest"),
        [(name, f"{count:,}", moment_of(newest[name])) for name, count in counts.most_common()],
        title=f"{counted(counts.total(), 'dead letter')} of {settings.topic}",
    )
    for said, count in known.most_common():
        if said:
            say(f"{counted(count, 'letter')}: {said}")
    say(
        f"{counted(rejected, 'record was', 'records were')} rejected since the beginning, "
        "by the ledger"
    )
    if left:
        say(f"{left:,} older letters were not looked at: --all counts their reasons too")


def _what_would_help(letter: StoredLetter) -> str:
    """A sentence about what the message is, or the declaration that would take it in; or ""."""
    if letter.reason != Reason.NOT_JSON:
        line = declared_line(letter.message)
        return f"declared as {line} it would be read further" if line else ""
    return what_it_is(letter.value or b"")


def _count_rejected(connections: Connections) -> tuple[int, int]:
    """(records that the ledger says were rejected, offsets of the topic of dead letters)."""
    settings, ledger = connections.settings, connections.ledger
    partitions = ledger.partitions(settings.topic)
    rejected = sum(link.rejected for link in ledger.read_links(settings.topic, partitions))
    marks = connections.log.watermarks(settings.dead_letter_topic)
    return rejected, sum(mark.last_stable - mark.low for mark in marks)


@dead_letters_command.command("replay")
@reason_option
@json_option
def replay_command(reason: str | None, as_json: bool) -> None:
    """Read dead letters again by the present declaration, and store those that it accepts.

    What still fails is counted and stays where it is; nothing is sent again.
    """
    with open_connections(Settings.from_env()) as connections:
        result = connections.replay_letters(new_cli_run(), reason)
    if as_json:
        print_json({**result.numbers(), "still_rejected": dict(result.still_rejected)})
        return
    say(str(result))
    _say_unreadable(sum(item.span for item in result.unreadable), "the dead-letter topic")
    for name, count in result.still_rejected.most_common():
        if count:
            say(f"  {name}: {count:,}")
