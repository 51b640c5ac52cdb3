import sys
from pathlib import Path

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.core.fleet.quality import named_limits
from iot_pipeline.core.reading.groups import find_group
from iot_pipeline.settings import Settings
from iot_pipeline.settings_sources import env_file, injected_variables


@click.command("settings")
@click.option(
    "--device",
    metavar="DEVICE",
    help="The limits that hold for this device, its group, and how long its rows live.",
)
@json_option
def settings_command(device: str | None, as_json: bool) -> None:
    """List every setting, its value (secrets hidden), where that comes from, and what it means."""
    if device is not None:
        _print_limits(Settings.from_env(), device, as_json)
        return
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


def _print_limits(settings: Settings, device: str, as_json: bool) -> None:
    limits = settings.quality_limits
    of_device, of_all = named_limits(limits.of(device)), named_limits(limits)
    if as_json:
        print_json(of_device | {"retention_days": settings.retention.days_of(device)})
        return
    print_table(
        ("limit", device, "a device of no group"),
        [(name, _shown(value), _shown(of_all[name])) for name, value in of_device.items()],
    )
    days = settings.retention.days_of(device)
    lives = f"for {days:g} days after they arrived in Kafka" if days else "for ever"
    say(f"its rows live {lives}")
    group = find_group(limits.groups, device)
    if group is not None:
        say(f"it is of the group {group.name} ({', '.join(group.patterns)}) in {settings.reading}")
    elif limits.groups:
        say(f"no group in {settings.reading} names it")
    else:
        say("no device has limits of its own: the declaration of readings has no `groups`")


def _shown(limit: float) -> str:
    return "none" if abs(limit) == sys.float_info.max else f"{limit:g}"


def _about(path: Path) -> str:
    if path.is_file():
        return f"read: {path}"
    return (
        f"there is no {path}: a `.env` is looked for beside docker-compose.yml and services/, in "
        "this folder or above it, else in this folder"
    )
