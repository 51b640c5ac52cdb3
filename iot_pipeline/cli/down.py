"""`iot down`: stop what `iot up` started."""

import click

from iot_pipeline.cli.output import ask_whether, say
from iot_pipeline.cli.services import local_services


@click.command("down")
@click.option("--wipe", is_flag=True, help="Also delete the servers' data and logs.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
def down_command(wipe: bool, yes: bool) -> None:
    """Stop what `iot up` started, and nothing else. Data stays, unless --wipe."""
    services = local_services()
    if not wipe:
        services.down()
        return
    if not yes:
        ask_whether(f"Delete every topic, every row and all logs in {services.folder}?")
    services.wipe()
    say(f"{services.folder} is empty", err=True)
