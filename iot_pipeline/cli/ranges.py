"""How commands are told which part of the log: the same words everywhere."""

from collections.abc import Callable
from typing import TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., object])


def offsets_option(required: bool = False) -> Callable[[_F], _F]:
    """`--offsets P:START-END`, repeatable: the one way to say a range."""
    return click.option(
        "--offsets",
        "offsets",
        multiple=True,
        required=required,
        metavar="P:START-END",
        help="Exactly these offsets of Kafka partition P, END excluded; repeatable.",
    )
