"""Many small questions at once, until the time is over."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from iot_pipeline.errors import PipelineError

_IN_FLIGHT = 32

_I = TypeVar("_I")


class Answer(Protocol):
    """One answer on its way."""

    @property
    def done(self) -> bool: ...
    @property
    def error(self) -> PipelineError | None: ...


_A = TypeVar("_A", bound=Answer)


def ask_all(
    items: Iterable[_I],
    start: Callable[[_I], _A],
    wait: Callable[[float], None],
    deadline: float,
    clock: Callable[[], float],
) -> Iterator[tuple[_I, _A]]:
    """Each item with its answer, in order, as far as the time suffices.

    After `deadline` nothing more is sent, and what was sent is waited for. The first question is
    always sent: a look at nothing tells nothing.

    Raises:
        PipelineError: the first failed answer's error.
    """
    waiting = iter(items)
    sent: deque[tuple[_I, _A]] = deque()
    is_over = False
    has_sent = False
    while True:
        while not is_over and len(sent) < _IN_FLIGHT:
            if has_sent and clock() > deadline:
                is_over = True
                break
            item = next(waiting, None)
            if item is None:
                is_over = True
            else:
                sent.append((item, start(item)))
                has_sent = True
        if not sent:
            return
        item, answer = sent[0]
        if not answer.done:
            wait(0.1)
            continue
        sent.popleft()
        if answer.error is not None:
            raise answer.error
        yield item, answer
