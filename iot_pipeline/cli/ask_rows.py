"""Questions about what was stored and what was not: dead letters, plain CQL."""

from collections.abc import Sequence

import click

from iot_pipeline.cli.help import CommandGroup
from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.reading_query import run_select
from iot_pipeline.core.proof.dead_letters import preview
from iot_pipeline.core.reading.cql import check_select
from iot_pipeline.core.reading.decoding import Reason
from iot_pipeline.core.times import moment_of
from iot_pipeline.core.words import iot_command
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.dead_letters import FoundLetter, read_newest_letters

_REASONS = [reason.value for reason in Reason]
reason_option = click.option(
    "--reason",
    type=click.Choice(_REASONS),
    metavar="REASON",
    help=f"Only these: {', '.join(_REASONS)}.",
)


@click.group("dead-letters", cls=CommandGroup)
def dead_letters_group() -> None:
    """Records that could not be readings, kept whole, each with its reason."""


@dead_letters_group.command("list")
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True)
@reason_option
@json_option
def list_dead_letters_command(last: int, reason: str | None, as_json: bool) -> None:
    """List the newest dead letters: source, reason, message and the beginning of the value."""
    settings = Settings.from_env()
    log = KafkaLog(settings)
    try:
        found = read_newest_letters(log, settings.dead_letter_topic, last, reason)
    finally:
        log.close()
    if as_json:
        print_json(
            {
                "topic": settings.dead_letter_topic,
                "dead_letters": [_letter_json(item) for item in found.letters],
                "foreign": found.foreign,
                "incomplete": found.incomplete,
                "is_all": found.is_all,
            }
        )
        return
    if not found.letters and found.is_all:
        which = "dead letters" if reason is None else f"dead letters with the reason {reason}"
        say(f"{settings.dead_letter_topic} has no {which}")
    if found.letters:
        _print_letters(found.letters, settings.dead_letter_topic)
    if found.foreign:
        say(f"{found.foreign:,} records are no dead letters of ours and are left out")
    if found.incomplete:
        say(f"{found.incomplete:,} letters came in parts that are not all there")


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
        "topic_id": letter.source.topic_id,
        "partition": letter.source.partition,
        "offset": letter.source.offset,
        "reason": letter.reason,
        "message": letter.message,
        "message_key": preview(letter.message_key) if letter.message_key is not None else None,
        "produced_at": None if letter.produced_ms is None else moment_of(letter.produced_ms),
        "delivered_at": moment_of(letter.delivered_ms),
        "value_bytes": item.value_bytes,
        "value": preview(letter.value, 200) if letter.value is not None else None,
        "dlq_partition": letter.dlq_partition,
        "dlq_offset": letter.dlq_offset,
    }


@click.command("cql")
@click.argument("statement", metavar='"SELECT ..."')
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@json_option
def cql_command(statement: str, limit: int, as_json: bool) -> None:
    """Run one SELECT; tables without a keyspace are the pipeline's. Nothing else is taken."""
    select = check_select(statement)
    with CassandraClient(Settings.from_env()) as client:
        answer = run_select(client, select, limit)
    if as_json:
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        print_json({"rows": rows, "is_cut": answer.is_cut})
        return
    print_table(answer.columns, answer.rows)
    if answer.is_cut:
        say(f"the first {limit:,} rows; there are more: --limit", err=True)
