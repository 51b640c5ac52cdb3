"""One request to Cassandra on its way, its answer, and the answer's values as we have them."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Generic, Self, TypeVar

from iot_pipeline.clients.cassandra_errors import translate
from iot_pipeline.clients.cassandra_nodes import PassedOver
from iot_pipeline.errors import PipelineError

T = TypeVar("T")

# The driver binds a day as the wire has it: days since 1970, moved up by 2^31.
DAY_ZERO = 1 << 31


class PendingAnswer(Generic[T]):
    """One request on its way; `done` once it has an answer or an error."""

    def __init__(
        self,
        wakeup: threading.Event,
        doing: str,
        find: Callable[[Sequence[Any]], T],
        passed_over: PassedOver,
    ) -> None:
        self._wakeup, self._doing, self._find = wakeup, doing, find
        self._passed_over = passed_over
        self._rows: Sequence[Any] | None = None
        self._failure: BaseException | None = None
        # By the wall clock, where latencies are measured; 0.0 until then.
        self.answered_at = 0.0
        self.done = False

    def follow(self, future: Any) -> Self:
        """Take the answer from the driver's event loop, whenever it comes."""
        future.add_callbacks(self._answered, self._refused, errback_args=(future,))
        return self

    def _refused(self, exc: BaseException, future: Any) -> None:
        self._passed_over.note(exc, future.coordinator_host)
        self.fail(exc)

    def fail(self, exc: BaseException) -> None:
        """The answer is an error, or the request could not even be sent."""
        self._failure = exc
        self.done = True
        self._wakeup.set()

    def _answered(self, rows: Sequence[Any] | None) -> None:
        self._rows = rows
        self.answered_at = time.time()
        self.done = True
        self._wakeup.set()

    @property
    def error(self) -> PipelineError | None:
        if self._failure is None:
            return None
        error = translate(self._failure, self._doing)
        error.__cause__ = self._failure
        return error

    @property
    def found(self) -> T:
        """What the first page of the answer says; asked when it is done without an error."""
        return self._find(self._rows or ())

    @property
    def applied(self) -> bool:
        """Whether a conditional statement's condition held."""
        return bool(self._rows) and bool(self._rows[0][0])  # type: ignore[index]


def all_rows(rows: Sequence[Any]) -> Sequence[Any]:
    """An answer as it came."""
    return rows


def aware(moment: datetime) -> datetime:
    """The driver's moments are UTC and do not say so."""
    return moment.replace(tzinfo=UTC)


def ms_of(moment: datetime) -> int:
    """Milliseconds since 1970 of the driver's moment."""
    return round(aware(moment).timestamp() * 1000)


def by_day(found: Mapping[Any, int] | None) -> dict[date, int]:
    """A map by day as we have it; an empty one is stored as null."""
    return {day.date(): rows for day, rows in (found or {}).items()}
