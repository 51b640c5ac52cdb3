"""`iot rights`: what an administrator of Kafka and Cassandra pastes so that a user can work."""

import shlex
import textwrap

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.core.rights.grants import ALL_KEYSPACES, kafka_lines
from iot_pipeline.core.rights.needed import COMMANDS, ROLES, Needs, needs_of_role, together
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings

_FOR = sorted(name for name, needs in COMMANDS.items() if needs.kafka or needs.cassandra)
_COLUMNS = 79
_MAKER = "who makes the keyspace may do everything in it, and grant it"
_AFTER_SETUP = "after `iot setup`: what is not there cannot be granted"


@click.command("rights")
@click.option(
    "--for",
    "wanted",
    multiple=True,
    default=ROLES,
    metavar="ROLE|COMMAND",
    help=f"{', '.join(ROLES)}, or a command, such as 'dead-letters list'; repeatable. All roles "
    "unless given.",
)
@click.option("--user", metavar="NAME", help="Their user on both servers; iot_ROLE unless given.")
@json_option
def rights_command(wanted: tuple[str, ...], user: str | None, as_json: bool) -> None:
    """Print the rights that commands and jobs need, as lines to paste.

    Kafka's are commands of kafka-acls.sh, Cassandra's are CQL. Topics, group and keyspace are
    those of the settings. Nothing is contacted.
    """
    settings = Settings.from_env()
    found = {name: _needs(name).named(settings) for name in wanted}
    users = {name: user or f"iot_{name}" for name in found}
    if user is not None:
        found, users = {user: together(found.values())}, {user: user}
    elif unknown := [name for name in found if name not in ROLES]:
        raise ConfigurationError(f"--for {unknown[0]}: whose rights? Add --user NAME")
    if as_json:
        print_json({name: _as_json(needs, users[name], settings) for name, needs in found.items()})
        return
    for number, (name, needs) in enumerate(found.items()):
        if number:
            say("")
        _print(needs, users[name], settings)


def _needs(name: str) -> Needs:
    if name in ROLES:
        return needs_of_role(name)
    if name not in _FOR:
        raise ConfigurationError(
            f"--for {name}: expected one of {', '.join(ROLES)}, or a command that needs rights: "
            f"{', '.join(_FOR)}"
        )
    return COMMANDS[name]


def _print(needs: Needs, user: str, settings: Settings) -> None:
    servers = settings.bootstrap_servers
    if needs.kafka:
        _comment("#", f"Kafka, user {user}")
        needed = [right.grant for right in needs.kafka if not right.lost]
        for line in kafka_lines(needed, user, servers):
            _paste_into_shell(line)
        for right in needs.kafka:
            if right.lost:
                _comment("#", f"optional; without it {right.lost}")
                _paste_into_shell(*kafka_lines([right.grant], user, servers))
    if needs.cassandra:
        makes_it = any(right.grant.resource == ALL_KEYSPACES for right in needs.cassandra)
        _comment("--", f"Cassandra, role {user}; {_MAKER if makes_it else _AFTER_SETUP}")
        for permission in sorted(needs.cassandra, key=lambda right: bool(right.lost)):
            if permission.lost:
                _comment("--", f"optional; without it {permission.lost}")
            click.echo(permission.grant.line(user))


def _comment(mark: str, text: str) -> None:
    for part in textwrap.wrap(text, _COLUMNS - len(mark) - 1):
        click.echo(f"{mark} {part}")


def _paste_into_shell(command: str) -> None:
    """Over several lines that a shell reads as one, folded between words."""
    lines, line = [], ""
    for word in map(shlex.quote, shlex.split(command)):
        if line and len(line) + 1 + len(word) > _COLUMNS - 2:
            lines.append(line)
            line = " "
        line += f" {word}" if line else word
    click.echo(" \\\n".join([*lines, line]))


def _as_json(needs: Needs, user: str, settings: Settings) -> dict[str, object]:
    def listed(lines: list[tuple[str, str]]) -> list[dict[str, object]]:
        return [
            {"line": line, "is_needed": not lost, "without_it": lost or None}
            for line, lost in lines
        ]

    servers = settings.bootstrap_servers
    kafka = [(kafka_lines([r.grant], user, servers)[0], r.lost) for r in needs.kafka]
    cassandra = [(r.grant.line(user), r.lost) for r in needs.cassandra]
    return {"user": user, "kafka": listed(kafka), "cassandra": listed(cassandra)}
