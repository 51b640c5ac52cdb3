from pathlib import Path

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.settings import Settings
from iot_pipeline.settings_sources import env_file, injected_variables


@click.command("settings")
@json_option
def settings_command(as_json: bool) -> None:
    """List every setting, its value (secrets hidden), where that comes from, and what it means."""
    rows = list(Settings.from_env().rows())
    if as_json:
        print_json({name: value for name, value, _, _ in rows})
        return
    print_table(
        ("variable", "value", "from", "meaning"),
        [(name, value, origin, text) for name, value, text, origin in rows],
    )
    say(_about(env_file()))
    if injected := injected_variables():
        say(
            f"ignored: {', '.join(injected)}: an orchestrator puts these there for its service of "
            "that name, they are no settings. In Kubernetes `enableServiceLinks: false` keeps them "
            "away"
        )


def _about(path: Path) -> str:
    if path.is_file():
        return f"read: {path}"
    return (
        f"there is no {path}: a `.env` is looked for beside docker-compose.yml and services/, in "
        "this folder or above it, else in this folder"
    )
