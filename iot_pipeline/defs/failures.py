"""Our errors as Dagster's failures: the message, and whether a retry could help."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from iot_pipeline.errors import PipelineError, TransientError


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
