"""The local servers, as every command about them has them."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from iot_pipeline.cli.output import say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.local.jars import Advance
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings

SERVICE = click.Choice(["kafka", "cassandra"])


def local_services() -> LocalServices:
    """By the settings; what they do is said on stderr."""
    return LocalServices(Settings.from_env(), lambda text: say(text, err=True), _downloading)


@contextmanager
def _downloading(total_bytes: int) -> Iterator[Advance]:
    done = 0
    with ProgressLine("fetching jars, MB") as line:

        def advance(size: int) -> None:
            nonlocal done
            done += size
            line.show(round(done / 1e6), round(total_bytes / 1e6))

        yield advance
