"""`iot kill`: kill -9 for the curious."""

import click

from iot_pipeline.cli.output import say
from iot_pipeline.cli.services import SERVICE, local_services


@click.command("kill")
@click.argument("service", type=SERVICE)
def kill_command(service: str) -> None:
    """Kill -9 a server that `iot up` started, for the curious; `iot up` brings it back."""
    pid = local_services().kill(service)
    say(f"{service} (pid {pid}) was killed: `iot up` starts it again")
