"""Questions about what was stored and what was not: dead letters, plain CQL."""

from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import json_option, print_json, print_table
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.reading_query import run_select
from iot_pipeline.core.cql import check_select
from iot_pipeline.core.dead_letters import preview
from iot_pipeline.core.readings import Reason
from iot_pipeline.settings import Settings
from iot_pipeline.stages.dead_letters import FoundLetter, read_newest_letters


@click.group("dead-letters")
def dead_letters_group() -> None:
    """Records that could not be readings, kept whole, each with its reason."""


@dead_letters_group.command("list")
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option("--reason", type=click.Choice([reason.value for reason in Reason]))
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
    print_table(
        ("delivered (UTC)", "source", "reason", "message", "bytes", "value"),
        [
            (
                _iso(item.letter.delivered_ms),
                _coordinates(item),
                item.letter.reason,
                item.letter.message,
                item.value_bytes,
                preview(item.letter.value, 60),
            )
            for item in found.letters
        ],
        title=f"{settings.dead_letter_topic}, newest first",
    )
    if found.foreign:
        click.echo(f"{found.foreign} records are no dead letters of ours and are left out")
    if found.incomplete:
        click.echo(f"{found.incomplete} letters came in parts that are not all there")


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
        "produced_at": None if letter.produced_ms is None else _iso(letter.produced_ms),
        "delivered_at": _iso(letter.delivered_ms),
        "value_bytes": item.value_bytes,
        "value": preview(letter.value, 200) if letter.value is not None else None,
        "dlq_partition": letter.dlq_partition,
        "dlq_offset": letter.dlq_offset,
    }


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


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
        click.echo(f"the first {limit} rows; there are more: --limit", err=True)
