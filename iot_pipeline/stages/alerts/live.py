"""What a process that follows tells of itself while it lives: a few numbers per commit."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from iot_pipeline.core.alerts import metrics
from iot_pipeline.core.alerts.metrics import Histogram, Sample
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.stages.requests import RETRIED
from iot_pipeline.stages.run_ingest import IngestOutcome

_STAGES = "iot_pipeline.stages"


class _Retries(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += vars(record).get(RETRIED, 0)


@dataclass(slots=True)
class RunMetrics:
    """Noted in the thread that follows, after each commit; read by the one that serves."""

    clock: Callable[[], float] = time.monotonic
    in_flight: Callable[[], int] = lambda: 0
    _counts: Counts = field(default_factory=Counts)
    _committed_at: float | None = None
    _rows: Histogram = field(default_factory=lambda: Histogram(metrics.BATCHES))
    _seconds: Histogram = field(default_factory=lambda: Histogram(metrics.BATCH_SECONDS))
    _latency: Histogram = field(default_factory=lambda: Histogram(metrics.LATENCY))
    _retries: _Retries = field(default_factory=_Retries)

    def measured(self, seconds: float) -> None:
        """One row could be read so long after its record arrived."""
        self._latency.add(seconds)

    def committed(self, outcome: IngestOutcome) -> None:
        now, total = self.clock(), outcome.drained.total
        moved = total.accounted - self._counts.accounted
        if moved:
            self._rows.add(moved)
            if self._committed_at is not None:
                self._seconds.add(now - self._committed_at)
        self._committed_at, self._counts = now, total

    def samples(self) -> Iterator[Sample]:
        for fate, count in self._counts.by_fate().items():
            yield Sample(metrics.RUN_OFFSETS, count, {"fate": fate})
        yield from (one.sample() for one in (self._rows, self._seconds, self._latency))
        yield Sample(metrics.RETRIES, self._retries.count)
        yield Sample(metrics.IN_FLIGHT, self.in_flight())

    def __enter__(self) -> Self:
        logging.getLogger(_STAGES).addHandler(self._retries)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger(_STAGES).removeHandler(self._retries)
