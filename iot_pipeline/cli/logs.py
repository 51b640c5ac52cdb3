"""`iot logs`: what the servers say."""

import time
from pathlib import Path

import click

from iot_pipeline.cli.output import say
from iot_pipeline.cli.services import SERVICE, local_services

FOLLOW_SECONDS = 0.2


@click.command("logs")
@click.argument("service", type=SERVICE, required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines arrive, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 100_000),
    default=50,
    show_default=True,
    help="How many of each log.",
)
def logs_command(service: str | None, follow: bool, lines: int) -> None:
    """Print the end of the servers' logs."""
    services = local_services()
    names = [service] if service else ["kafka", "cassandra"]
    for name in names:
        prefix = "" if service else f"{name}: "
        server = services.server(name)
        if not server.log.exists():
            say(f"{name} has no log in {services.folder}: `iot up` never started it", err=True)
        for line in server.last_lines(lines):
            say(prefix + line)
    if follow:
        _follow({name: services.server(name).log for name in names}, bool(service))


def _follow(logs: dict[str, Path], is_alone: bool) -> None:
    positions = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
    while True:
        for name, log in logs.items():
            if not log.exists():
                continue
            if log.stat().st_size < positions[name]:
                positions[name] = 0  # the log was begun anew
            with log.open("rb") as file:
                file.seek(positions[name])
                for line in file:
                    # A line that is still being written is read whole the next time.
                    if not line.endswith(b"\n"):
                        break
                    positions[name] += len(line)
                    text = line.decode(errors="replace").rstrip()
                    say(text if is_alone else f"{name}: {text}")
        time.sleep(FOLLOW_SECONDS)
