"""Dagster's storage may be away while a run works: what the run says then waits, or is left out.

A run's log, its tags and its events raise where the storage cannot be reached, after twelve
seconds of trying. Readings need nothing of it, so a run that ingests does not end for that.
"""

import copy
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

# Each attempt to reach one that is away takes twelve seconds or more of the run's time.
_REST_SECONDS = 60.0
# Loggers whose lines Dagster takes into the run's log (`python_logs` of its dagster.yaml).
_OURS = "iot_pipeline."
_MOST_KEPT = 1000


def storage_errors() -> tuple[type[Exception], ...]:
    """What Dagster raises where its storage does not answer."""
    postgres = sys.modules.get("dagster_postgres.utils")
    return (SQLAlchemyError, *([postgres.DagsterPostgresException] if postgres else []))


@dataclass(slots=True)
class Unheard:
    """Says what a run can do without; where the storage was away, nothing for a minute."""

    _quiet_until: float = 0.0

    def __call__(self, say: Callable[[], object]) -> None:
        if time.monotonic() < self._quiet_until:
            return
        try:
            say()
        except storage_errors():
            self._quiet_until = time.monotonic() + _REST_SECONDS


@contextmanager
def spared(log: logging.Logger) -> Iterator[Callable[[], None]]:
    """Until the block ends, no stage and no client fails by what it says in the run's log.

    `log` is the run's own, which raises as before. Lines of the block's thread are left out while
    the storage is away. Those of other threads wait, so that no reading waits for them.

    Yields:
        What passes on the lines that wait; for the block's thread. It raises `storage_errors`, and
        keeps what was not heard.
    """
    here, unheard, waiting = threading.get_ident(), Unheard(), deque[logging.LogRecord]()
    # The same one that Dagster gives to the loggers of `python_logs`.
    handlers = log.handlers[:1]
    for handler in handlers:
        to_dagster = handler.emit

        def emit(record: logging.LogRecord, to_dagster: Callable[..., None] = to_dagster) -> None:
            if not record.name.startswith(_OURS):
                to_dagster(record)
            elif threading.get_ident() == here:
                unheard(partial(to_dagster, record))
            elif len(waiting) < _MOST_KEPT:
                waiting.append(record)

        handler.emit = emit  # type: ignore[method-assign]

    def pass_on() -> None:
        while waiting:
            # Dagster changes the text of what it is given.
            to_dagster(copy.copy(waiting[0]))
            waiting.popleft()

    try:
        yield pass_on
    finally:
        for handler in handlers:
            del handler.emit
        unheard(pass_on)
