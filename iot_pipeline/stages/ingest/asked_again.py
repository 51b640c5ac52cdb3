"""A question that a run asks again every few seconds, and never waits for: what an operator set."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from iot_pipeline.errors import TransientError
from iot_pipeline.stages.ports.answers import Answer

_T = TypeVar("_T")


@dataclass(slots=True)
class AskedAgain(Generic[_T]):
    """One question is on its way at a time.

    Args:
        start: sends it.
        every_seconds: from one question to the next.
        clock: monotonic seconds.
    """

    start: Callable[[], Answer[_T]]
    every_seconds: float
    clock: Callable[[], float]
    _pending: Answer[_T] | None = None
    _asked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.just_answered()

    def just_answered(self) -> None:
        """It was answered otherwise: the next question is due from now."""
        self._asked_at = self.clock()

    def poll(self) -> Answer[_T] | None:
        """A new answer, once; None: there is none, or it could not be given this time.

        Raises:
            PipelineError: what asking again does not help.
        """
        pending = self._pending
        if pending is None:
            if self.clock() - self._asked_at >= self.every_seconds:
                self._asked_at = self.clock()
                self._pending = self.start()
            return None
        if not pending.done:
            return None
        self._pending = None
        if pending.error is None:
            return pending
        if not isinstance(pending.error, TransientError):
            raise pending.error
        return None
