"""Requests on their way: what answers is taken, what fails for a while is sent again."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from iot_pipeline.errors import PipelineError, TransientError
from iot_pipeline.stages.ports import Pending
from iot_pipeline.stages.retry import backoff_seconds

_log = logging.getLogger(__name__)
_P = TypeVar("_P", bound=Pending)


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
        self._requests.append(_Request(send, take, send()))

    def take_answers(self) -> bool:
        """Look at each request once; whether any had an answer.

        Raises:
            PipelineError: one failed for good, or none has answered for too long.
        """
        answered = False
        for _ in range(len(self._requests)):
            request = self._requests.popleft()
            if not request.pending.done:
                self._requests.append(request)
                continue
            answered = True
            error = request.pending.error
            if error is not None:
                self._back_off(error)
                request.pending = request.send()
                self._requests.append(request)
                continue
            self._failing_since, self._failures = None, 0
            request.take(request.pending)
        return answered

    def finish(self) -> None:
        """Take every answer there will be."""
        while self._requests:
            if not self.take_answers():
                self._wait(0.1)

    def _back_off(self, error: PipelineError) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if not isinstance(error, TransientError) or now - self._failing_since > self._give_up:
            raise error
        self._failures += 1
        wait = backoff_seconds(self._failures, random.random())
        _log.warning("%s; asking again in %.1f s", error, wait)
        time.sleep(wait)
