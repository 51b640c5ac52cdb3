"""Try again what may succeed later, with backoff and jitter, up to a limit, visibly."""

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

from iot_pipeline.errors import TransientError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0


def retry_transient(call: Callable[[], _T], *, give_up_after_seconds: float) -> _T:
    """The answer of `call`, tried again while it raises TransientError.

    Raises:
        TransientError: the last one, when the time is over; other errors at once.
    """
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_exponential_jitter(
            multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS, jitter=FIRST_WAIT_SECONDS
        ),
        stop=tenacity.stop_after_delay(give_up_after_seconds),
        before_sleep=_say,
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("tenacity ends by returning or raising")


def backoff_seconds(failures: int, jitter: float) -> float:
    """How long to wait after so many failures in a row; `jitter` in [0, 1) spreads the senders."""
    wait = FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 16)
    return min(wait, LONGEST_WAIT_SECONDS) * (0.5 + jitter / 2)


def _say(state: tenacity.RetryCallState) -> None:
    if state.outcome is not None and state.next_action is not None:
        _log.warning(
            "%s; trying again in %.1f s", state.outcome.exception(), state.next_action.sleep
        )
