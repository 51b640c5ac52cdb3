import click

from iot_pipeline.cli.output import (
    exit_as_found,
    exit_code_option,
    json_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.cli.runs import who
from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.ledger.losses import Acknowledgement, Loss, find_losses
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import in_utc
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.losses import find_expired


@click.command("losses")
@click.option("--acknowledge", "loss_id", metavar="ID", help="Note that you have seen this loss.")
@click.option("--reason", help="What happened, and what was done about it.")
@exit_code_option("a loss is not acknowledged, or not recorded yet")
@json_option
def losses_command(
    loss_id: str | None, reason: str | None, has_exit_code: bool, as_json: bool
) -> None:
    """List what was left unread (expired, skipped, unreadable), and who acknowledged it.

    A loss is acknowledged once: a second time is refused, and tells who did it first.
    """
    if (loss_id is None) != (reason is None) or (reason is not None and not reason.strip()):
        raise ConfigurationError("--acknowledge ID and --reason TEXT go together")
    settings = Settings.from_env()
    topic = settings.topic
    with open_connections(settings) as connections:
        entries = connections.ledger.read_entries(topic, connections.ledger.partitions(topic))
        if loss_id is not None and reason is not None:
            _acknowledge(connections, entries, loss_id, reason)
        losses = find_losses(entries, connections.acknowledgements.acknowledged_losses(topic))
        # The ledger has what runs recorded; only Kafka can tell what has expired since.
        unrecorded = find_expired(connections.log, connections.ledger, topic)
    if as_json:
        print_json(
            {
                "losses": [_as_dict(loss) for loss in losses],
                "unrecorded": [str(item) for item in unrecorded],
            }
        )
    else:
        _print_losses(losses, unrecorded, topic)
    is_open = any(loss.acknowledgement is None for loss in losses)
    exit_as_found(has_exit_code, is_open or bool(unrecorded))


def _acknowledge(
    connections: Connections, entries: list[LedgerEntry], loss_id: str, reason: str
) -> None:
    topic, by = connections.settings.topic, who()
    if loss_id not in {loss.loss_id for loss in find_losses(entries, {})}:
        raise ConfigurationError(f"--acknowledge {loss_id}: `iot losses` has no such ID")
    kept = connections.acknowledgements.acknowledge_loss(topic, loss_id, reason, by)
    if (kept.reason, kept.acknowledged_by) != (reason, by):
        raise ConfigurationError(
            f"--acknowledge {loss_id}: acknowledged already, by {_words(kept)}; nothing was changed"
        )


def _words(acknowledgement: Acknowledgement) -> str:
    at = in_utc(acknowledgement.acknowledged_at)
    return f"{acknowledgement.acknowledged_by} at {at}: {acknowledgement.reason}"


def _as_dict(loss: Loss) -> dict[str, object]:
    seen = loss.acknowledgement
    return {
        "loss_id": loss.loss_id,
        "partition": loss.entry.partition,
        "start_offset": loss.entry.start_offset,
        "end_offset": loss.entry.end_offset,
        "outcome": loss.entry.outcome.value,
        "cause": loss.entry.cause,
        "records_at_most": loss.entry.span,
        "run_id": loss.entry.run_id,
        "recorded_at": loss.entry.updated_at,
        "is_acknowledged": seen is not None,
        "acknowledged_by": seen.acknowledged_by if seen else None,
        "acknowledged_at": seen.acknowledged_at if seen else None,
        "reason": seen.reason if seen else None,
    }


def _print_losses(losses: list[Loss], unrecorded: list[OffsetRange], topic: str) -> None:
    if losses:
        print_table(
            ("ID", "outcome", "records at most", "recorded at", "by run", "acknowledged"),
            [
                (
                    loss.loss_id,
                    loss.entry.outcome.value,
                    f"{loss.entry.span:,}",
                    loss.entry.updated_at,
                    loss.entry.run_id,
                    _words(loss.acknowledgement) if loss.acknowledgement else "no",
                )
                for loss in losses
            ],
        )
    for loss in losses:
        if loss.entry.cause:
            say(f"{loss.loss_id}: {loss.entry.cause}")
    for item in unrecorded:
        say(
            f"{item}: Kafka has deleted these unread, and no run has recorded it yet; `iot drain` "
            "says how to go on"
        )
    if not losses and not unrecorded:
        say(f"nothing of {topic} was left unread")
