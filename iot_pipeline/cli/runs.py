"""A run from the command line: its name, its writer, and Ctrl-C as a question.

Commands that stay or send end when they have put things in order.
"""

import getpass
import os
import signal
import time
import uuid
from types import FrameType
from typing import Self

from iot_pipeline.stages.ports.ledger import Run

_NAP_SECONDS = 0.2


def new_cli_run() -> Run:
    """A run from the command line: `cli-<uuid>`; two in one process never share a writer."""
    writer = uuid.uuid4()
    return Run(f"cli-{writer}", writer)


def who() -> str:
    """Who runs the command, for what is remembered; a user id without a name is its number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"


class Stop:
    """Turns Ctrl-C and SIGTERM into a flag while entered; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, object] = {}

    def is_asked(self) -> bool:
        return self.signal_number is not None

    def sleep(self, seconds: float) -> bool:
        """Until then, or until it is asked for; returns whether it is."""
        until = time.monotonic() + seconds
        while not self.is_asked() and (left := until - time.monotonic()) > 0:
            time.sleep(min(_NAP_SECONDS, left))
        return self.is_asked()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
