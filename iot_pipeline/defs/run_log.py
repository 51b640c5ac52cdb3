"""What a run says of itself while it works, and why it fails."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from iot_pipeline.errors import PipelineError, TransientError

_EVERY_SECONDS = 2.0


@contextmanager
def failing_with_advice() -> Iterator[None]:
    """Fail the op with the message of an error we raise on purpose; others pass as they are.

    Interruptions are no `Exception` and pass too: Terminate must stay one.
    """
    try:
        yield
    except PipelineError as exc:
        raise dg.Failure(
            description=str(exc), allow_retries=isinstance(exc, TransientError)
        ) from exc


class NowAndThen:
    """Progress in the run's log, a line every two seconds at most."""

    def __init__(self, context: dg.OpExecutionContext | dg.AssetExecutionContext) -> None:
        self._log = context.log
        self._said_at = time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() - self._said_at >= _EVERY_SECONDS:
            self._said_at = time.monotonic()
            self._log.info("%s", line)
