"""Requests: tried again while that may help, many on their way at once, answers in order.

Belongs here: retries, backoff, and the window of small questions. Does not belong here: which
requests there are; the row writer has a window of its own, because it splits what was refused.
"""

import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tenacity

from iot_pipeline.errors import PipelineError, TransientError
from iot_pipeline.stages.ports.answers import Answer, Pending

_log = logging.getLogger(__name__)
# On a log record: how many things are sent or asked again; what counts them looks for it.
RETRIED = "retried"
_T = TypeVar("_T")
_I = TypeVar("_I")
_P = TypeVar("_P", bound=Pending)

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
_IN_FLIGHT = 32


def retry_transient(call: Callable[[], _T], give_up_after_seconds: float) -> _T:
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
    """How long to wait after `failures` in a row; `jitter` in [0, 1) spreads the senders."""
    wait = FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 16)
    return min(wait, LONGEST_WAIT_SECONDS) * (0.5 + jitter / 2)


def _say(state: tenacity.RetryCallState) -> None:
    if state.outcome is not None and state.next_action is not None:
        _log.warning(
            "%s; trying again in %.1f s",
            state.outcome.exception(),
            state.next_action.sleep,
            extra={RETRIED: 1},
        )


def wait_for(answer: Answer[_T], wait: Callable[[float], None]) -> _T:
    """What a question found.

    Raises:
        PipelineError: the answer's error.
    """
    while not answer.done:
        wait(0.1)
    if answer.error is not None:
        raise answer.error
    return answer.found


def ask_all(
    items: Iterable[_I],
    start: Callable[[_I], _P],
    wait: Callable[[float], None],
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
    *,
    is_cut_off: bool = False,
) -> Iterator[tuple[_I, _P]]:
    """Each item with its answer, in order, as far as the time suffices; nothing is asked twice.

    After `deadline` nothing more is sent, and what was sent is waited for, unless `is_cut_off`:
    then it may still take effect.

    Raises:
        PipelineError: the first failed answer's error.
    """
    return Flight(wait, give_up_after_seconds=0.0).answers(
        items, start, is_over=lambda: clock() > deadline, is_cut_off=is_cut_off
    )


@dataclass(frozen=True, slots=True)
class NotSent:
    """A request that failed on its way out, treated like any that failed."""

    error: PipelineError
    done: bool = True
    applied: bool = False


@dataclass(slots=True)
class _Request:
    send: Callable[[], Any]
    take: Callable[[Any], None]
    pending: Any


@dataclass(eq=False, slots=True)
class _Asked(Generic[_I, _P]):
    """An item, and its answer once there is one."""

    item: _I
    answer: _P | None = None

    def take(self, answer: _P) -> None:
        self.answer = answer


class Flight:
    """Requests that may be sent twice.

    Args:
        wait: the store's, until an answer has come or a time is over.
        give_up_after_seconds: how long transient errors may last without one answer; 0: none is
            sent again.
    """

    def __init__(self, wait: Callable[[float], None], give_up_after_seconds: float) -> None:
        self._wait, self._give_up = wait, give_up_after_seconds
        self._requests: deque[_Request] = deque()
        self._failing_since: float | None = None
        self._failures = 0

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

    def answers(
        self,
        items: Iterable[_I],
        start: Callable[[_I], _P],
        in_flight: int = _IN_FLIGHT,
        *,
        again: Callable[[_I, _P], Iterable[_I]] = lambda *_: (),
        in_order: bool = True,
        is_over: Callable[[], bool] = lambda: False,
        is_cut_off: bool = False,
    ) -> Iterator[tuple[_I, _P]]:
        """Each item with its answer.

        Args:
            items: taken as they are needed.
            start: asks for one.
            in_flight: at least 1.
            again: the questions that an answer leaves open; they take its place, and travel while
                the answer is given out.
            in_order: of the items; else as answers come.
            is_over: True: nothing more is taken; but the first item always is, because a look at
                nothing tells nothing.
            is_cut_off: whether answers on their way are not waited for when it is over.

        Raises:
            PipelineError: one failed for good, or none has answered for too long.
        """
        waiting = iter(items)
        sent: deque[_Asked[_I, _P]] = deque()
        has_more, is_first = True, True

        def ask(item: _I) -> _Asked[_I, _P]:
            asked = _Asked[_I, _P](item)
            self.start(lambda: start(item), asked.take)
            return asked

        while True:
            while has_more and len(sent) < in_flight:
                item = None if not is_first and is_over() else next(waiting, None)
                if item is None:
                    has_more = False
                else:
                    sent.append(ask(item))
                    is_first = False
            if not sent:
                return
            looked_at = [sent[0]] if in_order else sent
            ready = next((asked for asked in looked_at if asked.answer is not None), None)
            if ready is None or ready.answer is None:
                if not self.take_answers():
                    if is_cut_off and is_over():
                        return
                    self._wait(0.1)
                continue
            sent.remove(ready)
            sent.extendleft(reversed([ask(item) for item in again(ready.item, ready.answer)]))
            yield ready.item, ready.answer

    def feed(
        self,
        items: Iterable[_I],
        begin: Callable[[_I], None],
        in_flight: int,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin each item as soon as fewer than `in_flight` requests are on their way; finish all.

        Args:
            items: taken as they are needed.
            begin: starts the requests of an item; what takes an answer may start further ones.
            in_flight: at least 1.
            is_over: asked after each item; True leaves the others out.
        """
        for item in items:
            begin(item)
            while len(self._requests) >= in_flight:
                self._take_or_wait()
            if is_over():
                break
        self.finish()

    def finish(self) -> None:
        """Take every answer there will be."""
        while self._requests:
            self._take_or_wait()

    def _take_or_wait(self) -> None:
        if not self.take_answers():
            self._wait(0.1)

    def _back_off(self, errors: Sequence[PipelineError], answered: bool) -> None:
        for error in errors:
            if not isinstance(error, TransientError):
                raise error
        now = time.monotonic()
        if self._failing_since is None or answered:
            self._failing_since = now
        if now - self._failing_since >= self._give_up:
            raise errors[0]
        # Once for all of them: a server that stood still fails everything on its way at once, and
        # a wait for each would outlast what we are willing to wait.
        self._failures += 1
        wait = backoff_seconds(self._failures, random.random())
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        _log.warning("%s%s; asking again in %.1f s", errors[0], more, wait, extra={RETRIED: 1})
        time.sleep(wait)


def _try(send: Callable[[], Any]) -> Any:
    try:
        return send()
    except PipelineError as exc:
        return NotSent(exc)
