"""An answer or a write on its way: nothing waits for it where it was asked for."""

from typing import Protocol, TypeVar

from iot_pipeline.errors import PipelineError

T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol):
    """A write on its way. `error` is set when it is done and was not acknowledged."""

    @property
    def done(self) -> bool: ...

    @property
    def error(self) -> PipelineError | None: ...


class Answer(Pending, Protocol[T_co]):
    """An answer on its way, by the wall clock when it is there; both asked when it is done."""

    @property
    def found(self) -> T_co: ...

    @property
    def answered_at(self) -> float:
        """Seconds since 1970."""


class PendingCommit(Pending, Protocol):
    """A conditional write on its way."""

    @property
    def applied(self) -> bool:
        """Whether the condition held; asked when it is done without an error."""
