"""`iot losses` and `iot rebase`: what expired unread, and a topic that is another one now."""

import getpass

import click

from iot_pipeline.cli.output import json_option, print_json, print_table
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import open_connections
from iot_pipeline.core.losses import find_losses
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.loss import rebase


@click.command("losses")
@click.option("--acknowledge", "loss_id", metavar="ID", help="Note that this loss was seen.")
@click.option("--reason", help="What happened, and what was done about it.")
@json_option
def losses_command(loss_id: str | None, reason: str | None, as_json: bool) -> None:
    """List ranges that Kafka deleted before they were read, and whether somebody has seen them."""
    if (loss_id is None) != (reason is None) or (reason is not None and not reason.strip()):
        raise ConfigurationError("--acknowledge ID and --reason TEXT go together")
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        store = connections.audit_store
        entries = connections.ledger.read_entries(
            settings.topic, connections.ledger.partitions(settings.topic)
        )
        losses = find_losses(entries, store.acknowledged_losses(settings.topic))
        if loss_id is not None and reason is not None:
            if loss_id not in {loss.loss_id for loss in losses}:
                raise ConfigurationError(f"--acknowledge {loss_id}: `iot losses` has no such ID")
            store.acknowledge_loss(settings.topic, loss_id, reason, getpass.getuser())
            losses = find_losses(entries, store.acknowledged_losses(settings.topic))
    if as_json:
        print_json(
            [
                {
                    "loss_id": loss.loss_id,
                    "partition": loss.entry.partition,
                    "start_offset": loss.entry.start_offset,
                    "end_offset": loss.entry.end_offset,
                    "records_at_most": loss.entry.span,
                    "run_id": loss.entry.run_id,
                    "recorded_at": loss.entry.updated_at,
                    "is_acknowledged": loss.acknowledgement is not None,
                    "reason": loss.acknowledgement.reason if loss.acknowledgement else None,
                }
                for loss in losses
            ]
        )
        return
    if not losses:
        click.echo("nothing expired unread")
        return
    print_table(
        ("ID", "records at most", "recorded at", "by run", "acknowledged"),
        [
            (
                loss.loss_id,
                loss.entry.span,
                loss.entry.updated_at,
                loss.entry.run_id,
                loss.acknowledgement.reason if loss.acknowledgement else "no",
            )
            for loss in losses
        ],
    )


@click.command("rebase")
@click.option("--topic-id", required=True, metavar="UUID", help="The new topic's, from the error.")
@click.option(
    "--at", "at", required=True, metavar="earliest|latest|N", help="Where ingestion goes on."
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
        click.echo(
            f"partition {new.partition}: {ended}, epoch {new.epoch} begins at {new.next_offset}"
        )
