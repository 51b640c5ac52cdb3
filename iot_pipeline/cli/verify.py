import sys
from pathlib import Path

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, print_table, say
from iot_pipeline.connections import open_connections
from iot_pipeline.core.simulator.verify import Verification
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.manifests import read_manifest
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.verify import verify

_SHOWN = 20


@click.command("verify")
@click.argument("manifest", metavar="MANIFEST")
@click.option("--all", "is_all", is_flag=True, help="Every device, not only those that differ.")
@json_option
def verify_command(manifest: str, is_all: bool, as_json: bool) -> None:
    """Compare what a simulation really sent with the table, device by device.

    MANIFEST is the file that `iot simulate --scenario` named at its end. Counted are rows of what
    arrived in Kafka while it sent, and its malformed messages among the dead letters. Two
    simulations that sent as the same devices at the same time cannot be told apart. Exit code 1:
    something differs.
    """
    settings = Settings.from_env()
    told = read_manifest(Path(manifest))
    if told.topic != settings.topic:
        raise ConfigurationError(
            f"{manifest}: it is about the topic {told.topic}; set IOT_TOPIC={told.topic}"
        )
    with open_connections(settings) as connections:
        found = verify(told, connections.audit_ports)
    if as_json:
        print_json(_as_dict(found, is_all))
    else:
        _print(found, is_all)
    if not found.passed:
        sys.exit(EXIT_FOUND)


def _print(found: Verification, is_all: bool) -> None:
    shown = found.devices if is_all else found.differing[:_SHOWN]
    if shown:
        print_table(
            ("device", "sent", "rows", "missing", "too many"),
            [
                (
                    item.device_id,
                    f"{item.sent:,}",
                    f"{item.rows:,}",
                    item.missing,
                    item.too_many,
                )
                for item in shown
            ],
        )
    if not is_all and len(found.differing) > _SHOWN:
        say(f"and {len(found.differing) - _SHOWN:,} more; --all shows each")
    for sentence in found.sentences():
        say(sentence)


def _as_dict(found: Verification, is_all: bool) -> dict[str, object]:
    return {
        "passed": found.passed,
        "devices": len(found.devices),
        "sent": sum(item.sent for item in found.devices),
        "rows": sum(item.rows for item in found.devices),
        "malformed": found.malformed,
        "dead_letters": found.letters,
        "unconfirmed": found.unconfirmed,
        "waiting": found.waiting,
        "differing": [
            {
                "device_id": item.device_id,
                "sent": item.sent,
                "rows": item.rows,
                "missing": item.missing,
                "too_many": item.too_many,
            }
            for item in (found.devices if is_all else found.differing)
        ],
    }
