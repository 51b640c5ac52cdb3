import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import open_connections
from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.rebase import rebase, say_moves


@click.command("rebase")
@click.option(
    "--topic-id", metavar="UUID", help="The topic to accept, from the error that names it."
)
@click.option(
    "--at",
    "at",
    required=True,
    multiple=True,
    metavar="[P:]WHERE",
    help="Where ingestion goes on: earliest, latest, an offset, or a time: at the first record "
    "that arrived from then on. With P: in Kafka partition P alone; repeatable.",
)
@click.option(
    "--skip",
    "reason",
    metavar="REASON",
    help="Pass over unread records of a topic that is as it was, and say why.",
)
@json_option
def rebase_command(
    topic_id: str | None, at: tuple[str, ...], reason: str | None, as_json: bool
) -> None:
    """Go on elsewhere: in a topic that was made again or cut, or past unread records.

    In another log a new epoch begins; rows stay as they are. What is passed over is in the ledger
    as skipped: `iot losses` lists it, a check is red until it is acknowledged, and `iot replay`
    ingests it after all. Refuses where nothing needs it.
    """
    if reason is not None and not reason.strip():
        raise ConfigurationError("--skip: expected a reason")
    target, settings = parse_target(at), Settings.from_env()
    with open_connections(settings) as connections:
        moves = rebase(
            connections.log,
            connections.ledger,
            settings.topic,
            target,
            new_cli_run(),
            topic_id=topic_id,
            skip_reason=reason,
            proof=connections.audit_ports,
            retry_seconds=settings.retry_seconds,
        )
    if as_json:
        print_json(
            [
                {
                    "partition": move.after.partition,
                    "epoch": move.after.epoch,
                    "next_offset": move.after.next_offset,
                    "left_unread": [
                        {"offsets": str(item), "outcome": why.value} for item, why in move.passed
                    ],
                }
                for move in moves
            ]
        )
        return
    for sentence in say_moves(moves):
        say(sentence)
