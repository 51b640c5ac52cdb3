"""`iot dead-letters show|stats|replay`: beside `list`, which is in `cli.ask_rows`."""

import sys
from collections import Counter
from contextlib import closing
from typing import Any

import click

from iot_pipeline.cli.ask_rows import dead_letters_group, reason_option
from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.connections import drain_config, open_connections
from iot_pipeline.core.proof.dead_letters import preview
from iot_pipeline.core.times import in_utc, moment_of, parse_moment
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.replay_dead_letters import read_letters, replay_dead_letters


@click.command("show")
@click.argument("place", metavar="PARTITION:OFFSET")
@json_option
def show_command(place: str, as_json: bool) -> None:
    """Show one dead letter whole, by the coordinates of its source record."""
    partition, _, offset = place.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise ConfigurationError(f"{place}: expected PARTITION:OFFSET, such as 0:123")
    settings = Settings.from_env()
    wanted = (int(partition), int(offset))
    with closing(KafkaLog(settings)) as log:
        found = [
            letter
            for letter in read_letters(
                log, settings.dead_letter_topic, settings.topic, settings.retry_seconds
            )
            if (letter.source.partition, letter.source.offset) == wanted
        ]
    if not found:
        say(f"{settings.dead_letter_topic} has no letter of {settings.topic} {place}", err=True)
        sys.exit(1)
    shown: list[dict[str, Any]] = [
        {
            "topic_id": letter.source.topic_id,
            "partition": letter.source.partition,
            "offset": letter.source.offset,
            "reason": letter.reason,
            "message": letter.message,
            "produced_at": _moment(letter.produced_ms),
            "delivered_at": _moment(letter.delivered_ms),
            "message_key": None if letter.message_key is None else preview(letter.message_key),
            "headers": [[name, preview(value)] for name, value in letter.headers],
            "value": None if letter.value is None else preview(letter.value, len(letter.value)),
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


def _moment(ms: int | None) -> str | None:
    return None if ms is None else in_utc(moment_of(ms), "milliseconds")


@click.command("stats")
@reason_option
@click.option("--since", metavar="TIME", help="Delivered from this time on.")
@json_option
def stats_command(reason: str | None, since: str | None, as_json: bool) -> None:
    """Count dead letters by reason."""
    settings = Settings.from_env()
    since_ms = parse_moment(since).timestamp() * 1000 if since else 0
    counts: Counter[str] = Counter()
    newest: dict[str, int] = {}
    with closing(KafkaLog(settings)) as log:
        for letter in read_letters(
            log, settings.dead_letter_topic, settings.topic, settings.retry_seconds
        ):
            if reason in (None, letter.reason) and letter.delivered_ms >= since_ms:
                counts[letter.reason] += 1
                newest[letter.reason] = max(newest.get(letter.reason, 0), letter.delivered_ms)
    if as_json:
        print_json({"letters": counts.total(), "by_reason": dict(counts)})
        return
    print_table(
        ("reason", "letters", "newest"),
        [(name, f"{count:,}", moment_of(newest[name])) for name, count in counts.most_common()],
        title=f"{counts.total():,} dead letters of {settings.topic}",
    )


@click.command("replay")
@reason_option
@json_option
def replay_command(reason: str | None, as_json: bool) -> None:
    """Store what the rules of now accept; what still fails stays, counted; nothing is resent."""
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        result = replay_dead_letters(
            settings.topic,
            settings.dead_letter_topic,
            connections.ports,
            connections.rows,
            new_cli_run(),
            drain_config(settings),
            connections.read_deletions(),
            reason=reason,
        )
    if as_json:
        print_json(
            {
                "letters": result.letters,
                "stored": result.stored,
                "present": result.present,
                "superseded": result.superseded,
                "aged_out": result.aged_out,
                "still_rejected": dict(result.still_rejected),
            }
        )
        return
    say(
        f"{result.letters:,} dead letters = {result.stored:,} stored + {result.present:,} stored "
        f"before + {result.superseded:,} superseded + {result.aged_out:,} aged out + "
        f"{result.still_rejected.total():,} still rejected"
    )
    for name, count in result.still_rejected.most_common():
        if count:
            say(f"  {name}: {count:,}")


for _command in (show_command, stats_command, replay_command):
    dead_letters_group.add_command(_command)
