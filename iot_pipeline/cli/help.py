"""Help lists each command with its whole first sentence; click would cut it at 45 letters."""

import re
from collections.abc import Iterable

import click

_FIRST_SENTENCE = re.compile(r".*?[.!?](?=\s|$)", re.DOTALL)


class CommandGroup(click.Group):
    """A group whose help lists its commands in whole sentences."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_commands(formatter, "Commands", sorted(self.commands.items()))


def write_commands(
    formatter: click.HelpFormatter, title: str, commands: Iterable[tuple[str, click.Command]]
) -> None:
    with formatter.section(title):
        formatter.write_dl([(name, first_sentence(command)) for name, command in commands])


def first_sentence(command: click.Command) -> str:
    """The first sentence of a command's help, and for a group the names of its commands."""
    text = " ".join((command.help or "").split())
    found = _FIRST_SENTENCE.match(text)
    sentence = found[0] if found else text
    if isinstance(command, click.Group):
        sentence = f"{sentence.rstrip('.')}: {', '.join(sorted(command.commands))}."
    return sentence
