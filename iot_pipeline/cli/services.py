"""The local servers as commands use them: how their start is shown, and how they are named."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from iot_pipeline.cli.output import say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.local.jars import Advance
from iot_pipeline.local.needs import Display, LineDisplay
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings

SERVICE = click.Choice(["kafka", "cassandra"])


class _TerminalDisplay(LineDisplay):
    """The same lines, and a bar while jars arrive."""

    @contextmanager
    def downloading(self, total_bytes: int) -> Iterator[Advance]:
        done, lock = 0, threading.Lock()
        with ProgressLine("fetching jars, MB") as line:

            def advance(size: int) -> None:
                nonlocal done
                with lock:  # several jars arrive at once
                    done += size
                    line.show(round(done / 1e6), round(total_bytes / 1e6))

            yield advance


def _display() -> Display:
    display = _TerminalDisplay if sys.stderr.isatty() else LineDisplay
    return display(lambda text: say(text, err=True))


def local_services() -> LocalServices:
    return LocalServices(Settings.from_env(), _display())
