"""`iot up`: make both servers answer."""

import click

from iot_pipeline.cli.output import say
from iot_pipeline.cli.services import SERVICE, local_services


@click.command("up")
@click.option("--only", type=SERVICE, multiple=True, help="This service alone.")
def up_command(only: tuple[str, ...]) -> None:
    """Start Kafka and Cassandra on this machine, unless they answer already."""
    statuses = local_services().up(only)
    say(", ".join(f"{s.name} {s.addresses[0]} {s.state}" for s in statuses))
