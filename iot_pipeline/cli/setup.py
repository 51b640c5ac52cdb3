import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.connections import open_connections
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import acknowledged_is_durable


@click.command("setup")
@json_option
def setup_command(as_json: bool) -> None:
    """Make topics, keyspace and tables where they are missing, and check all of them."""
    with open_connections(Settings.from_env()) as connections:
        report = connections.set_up(lambda step: say(f"setup: {step}", err=True))
    if as_json:
        print_json(
            {
                "created": report.created,
                "differences": [str(difference) for difference in report.differences],
                acknowledged_is_durable.CHECK.name: report.is_durable,
                "durability": report.durability,
                "notes": report.notes,
            }
        )
        return
    for sentence in report.sentences():
        say(sentence)
