import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import open_connections
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.losses import rebase


@click.command("rebase")
@click.option("--topic-id", required=True, metavar="UUID", help="The new topic's, from the error.")
@click.option(
    "--at",
    "at",
    required=True,
    metavar="earliest|latest|N",
    help="Where ingestion goes on: at the beginning of the new topic, its end, or an offset.",
)
@json_option
def rebase_command(topic_id: str, at: str, as_json: bool) -> None:
    """Accept a topic that was deleted and made again: a new epoch begins, rows stay as they are."""
    if at not in ("earliest", "latest") and not at.isdecimal():
        raise ConfigurationError(f"--at {at}: expected earliest, latest or an offset")
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        moved = rebase(
            connections.log, connections.ledger, settings.topic, topic_id, at, new_cli_run()
        )
    if as_json:
        print_json(
            [
                {"partition": new.partition, "epoch": new.epoch, "next_offset": new.next_offset}
                for _, new in moved
            ]
        )
        return
    for old, new in moved:
        ended = f"epoch {old.epoch} ended at {old.next_offset}" if old else "is new"
        say(f"partition {new.partition}: {ended}, epoch {new.epoch} begins at {new.next_offset}")
