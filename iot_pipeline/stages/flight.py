"""Requests on their way: what answers is taken, what fails for a while is sent again."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from iot_pipeline.errors import PipelineError, TransientError
from iot_pipeline.stages.ports import Pending
from iot_pipeline.stages.retry import backoff_seconds

_log = logging.getLogger(__name__)
_P = TypeVar("_P", bound=Pending)


@dataclass(frozen=True, slots=True)
class _NotSent:
    """A request that failed on its way out: sent again like any that failed."""

    error: PipelineError
    done: bool = True


@dataclass(slots=True)
class _Request:
    send: Callable[[], Any]
    take: Callable[[Any], None]
    pending: Any


class Flight:
    """Requests that may be sent twice.

    Args:
        wait: the store's, until an answer has come or a time is over.
        give_up_after_seconds: how long transient errors may last without one answer.
    """

    def __init__(self, wait: Callable[[float], None], give_up_after_seconds: float) -> None:
        self._wait, self._give_up = wait, give_up_after_seconds
        self._requests: deque[_Request] = deque()
        self._failing_since: float | None = None
        self._failures = 0

    @property
    def size(self) -> int:
        return len(self._requests)

    def start(self, send: Callable[[], _P], take: Callable[[_P], None]) -> None:
        """Send now; `take` gets the answer, once, when `take_answers` finds it without an error."""
        self._requests.append(_Request(send, take, _try(send)))

    def take_answers(self) -> bool:
        """Look at each request once; whether any had an answer.

        Raises:
            PipelineError: one failed for good, or none has answered for too long.
        """
        answered = False
        failed: list[tuple[_Request, PipelineError]] = []
        for _ in range(len(self._requests)):
            request = self._requests.popleft()
            if not request.pending.done:
                self._requests.append(request)
                continue
            error = request.pending.error
            if error is not None:
                failed.append((request, error))
                continue
            answered = True
            self._failing_since, self._failures = None, 0
            request.take(request.pending)
        if failed:
            self._back_off([error for _, error in failed], answered)
            for request, _ in failed:
                request.pending = _try(request.send)
                self._requests.append(request)
        return answered or bool(failed)

    def finish(self) -> None:
        """Take every answer there will be."""
        while self._requests:
            if not self.take_answers():
                self._wait(0.1)

    def _back_off(self, errors: Sequence[PipelineError], answered: bool) -> None:
        for error in errors:
            if not isinstance(error, TransientError):
                raise error
        now = time.monotonic()
        if self._failing_since is None or answered:
            self._failing_since = now
        if now - self._failing_since > self._give_up:
            raise errors[0]
        # Once for all of them: a server that stood still fails everything on its way at once, and
        # a wait for each would outlast what we are willing to wait.
        self._failures += 1
        wait = backoff_seconds(self._failures, random.random())
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        _log.warning("%s%s; asking again in %.1f s", errors[0], more, wait)
        time.sleep(wait)


def _try(send: Callable[[], Any]) -> Any:
    try:
        return send()
    except PipelineError as exc:
        return _NotSent(exc)
