import click

from iot_pipeline.cli.output import json_option, print_json, print_table
from iot_pipeline.settings import Settings


@click.command("settings")
@json_option
def settings_command(as_json: bool) -> None:
    """List every setting, its value (secrets hidden) and what it means."""
    rows = list(Settings.from_env().rows())
    if as_json:
        print_json({name: value for name, value, _, _ in rows})
        return
    print_table(
        ("variable", "value", "", "meaning"),
        [(name, value, "" if default else "set", text) for name, value, text, default in rows],
    )
