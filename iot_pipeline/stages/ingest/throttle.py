"""A run keeps to a limit that an operator may change while it works.

The limit that `iot throttle` keeps in Cassandra is asked for without waiting, every two seconds:
what follows the topic for hours obeys within that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from iot_pipeline.core.ingest.throttle import NO_LIMIT, Bucket, Limit, SetLimit, choose_limit
from iot_pipeline.stages.ingest.asked_again import AskedAgain
from iot_pipeline.stages.ports.ingest import Throttles
from iot_pipeline.stages.requests import retry_transient

LOOK_SECONDS = 2.0


@dataclass(slots=True)
class Throttle:
    """Asked once per request that is to leave; without a limit it does nothing else.

    Args:
        throttles: where `iot throttle` keeps its word; None: nowhere.
        by_setting: holds where nothing else was said.
        asked: what this run was asked for; None: nothing.
        clock: monotonic seconds.
    """

    topic: str
    throttles: Throttles | None = None
    by_setting: Limit = NO_LIMIT
    asked: SetLimit | None = None
    clock: Callable[[], float] = time.monotonic
    _bucket: Bucket | None = None
    _is_over: bool = False
    _again: AskedAgain[SetLimit | None] | None = None

    def __post_init__(self) -> None:
        throttles = self.throttles
        if throttles is not None:
            start = partial(throttles.start_read, self.topic)
            self._again = AskedAgain(start, LOOK_SECONDS, self.clock)
        self._obey(None)

    @property
    def limit(self) -> Limit:
        """The one that holds now."""
        return NO_LIMIT if self._bucket is None else self._bucket.limit

    def look(self, retry_seconds: float) -> None:
        """Wait for what `iot throttle` has said: before the first row is written."""
        throttles, again = self.throttles, self._again
        if throttles is not None and again is not None:
            kept = retry_transient(
                lambda: throttles.read_limit(self.topic), give_up_after_seconds=retry_seconds
            )
            self._obey(kept)
            again.just_answered()

    def look_again(self) -> None:
        """Take in what was said since; never wait. What cannot be asked holds on as it was."""
        if self._again is None or self._is_over:
            return
        if (answer := self._again.poll()) is not None:
            self._obey(answer.found)

    def lift(self) -> None:
        """Hold nothing back any more: the run is ended, and what it has read is written."""
        self._is_over, self._bucket = True, None

    def _obey(self, kept: SetLimit | None) -> None:
        limit = choose_limit(self.by_setting, self.asked, kept)
        if not limit:
            self._bucket = None
        elif self._bucket is None or self._bucket.limit != limit:
            self._bucket = Bucket(limit)

    def may_send(self) -> bool:
        return self._bucket is None or self._bucket.is_open(self.clock())

    def sent(self, rows: int, size_bytes: int) -> None:
        if self._bucket is not None:
            self._bucket.take(self.clock(), rows, size_bytes)
