"""Times what each micro-batch of a drain does, where traces are wanted; else none of this runs."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from iot_pipeline.core.ingest.micro_batch import MicroBatch, MicroBatchBuilder
from iot_pipeline.core.ingest.traces import (
    COMMIT,
    CONSUME,
    DECODE,
    LETTERS,
    WRITE,
    BatchTrace,
    Step,
)
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import TransientError
from iot_pipeline.stages.ingest.micro_batch import MicroBatches
from iot_pipeline.stages.ports.ingest import Traces

_NOT_COMMITTED = "its checkpoint was not moved"


@dataclass(slots=True)
class _Busy:
    """A step that takes turns with another one."""

    start_ns: int = 0
    end_ns: int = 0
    busy_ns: int = 0

    def add(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = self.start_ns or start_ns
        self.end_ns = end_ns
        self.busy_ns += end_ns - start_ns

    def step(self, name: str) -> list[Step]:
        return [Step(name, self.start_ns, self.end_ns, self.busy_ns)] if self.end_ns else []


@dataclass(slots=True)
class _Traced:
    batch: MicroBatch
    steps: list[Step]
    writing_ns: int = 0


@dataclass(slots=True)
class Tracing:
    """Follows the micro-batches of one drain, and exports each when its checkpoint has moved."""

    traces: Traces
    topic: str
    run_id: str
    clock_ns: Callable[[], int] = time.time_ns
    _consumed: _Busy = field(default_factory=_Busy)
    _decoded: _Busy = field(default_factory=_Busy)
    # By the identity of the micro-batch, which is held here until it is exported.
    _open: dict[int, _Traced] = field(default_factory=dict)
    _delivering_ns: int = 0
    _moving_ns: int = 0

    def gathering(self) -> None:
        self._consumed, self._decoded = _Busy(), _Busy()

    def consumed(self, since_ns: int) -> None:
        self._consumed.add(since_ns, self.clock_ns())

    def decoded(self, since_ns: int) -> None:
        self._decoded.add(since_ns, self.clock_ns())

    def gathered(self, batch: MicroBatch) -> None:
        """What was consumed and decoded since `gathering` is this micro-batch."""
        steps = [*self._consumed.step(CONSUME), *self._decoded.step(DECODE)]
        self._open[id(batch)] = _Traced(batch, steps)

    def writing(self, batch: MicroBatch) -> None:
        self._open[id(batch)].writing_ns = self.clock_ns()

    def written(self, batch: MicroBatch) -> None:
        traced = self._open[id(batch)]
        traced.steps.append(self._step(WRITE, traced.writing_ns))

    def delivering(self) -> None:
        """Dead letters are on their way, of all that is moved next."""
        self._delivering_ns = self.clock_ns()

    def moving(self, batches: Iterable[MicroBatch]) -> None:
        """Conditional writes leave now; what was delivered is."""
        self._moving_ns = self.clock_ns()
        if self._delivering_ns:
            for batch in batches:
                self._open[id(batch)].steps.append(self._step(LETTERS, self._delivering_ns))
        self._delivering_ns = 0

    def moved(self, batches: Iterable[MicroBatch]) -> None:
        for batch in batches:
            traced = self._open.pop(id(batch))
            traced.steps.append(self._step(COMMIT, self._moving_ns))
            self._export(traced)

    def close(self, error: BaseException | None) -> None:
        """Export what came to no checkpoint."""
        why = _NOT_COMMITTED if error is None else f"{type(error).__name__}: {error}"
        for traced in self._open.values():
            if traced.writing_ns and not any(step.name == WRITE for step in traced.steps):
                traced.steps.append(self._step(WRITE, traced.writing_ns))
            self._export(traced, why)
        self._open.clear()

    def _step(self, name: str, start_ns: int) -> Step:
        end_ns = self.clock_ns()
        return Step(name, start_ns, end_ns, end_ns - start_ns)

    def _export(self, traced: _Traced, error: str = "") -> None:
        batch = traced.batch
        if not traced.steps:
            return
        self.traces.export(
            BatchTrace(
                self.topic,
                self.run_id,
                [OffsetRange(p, start, batch.ends[p]) for p, start in sorted(batch.starts.items())],
                sum(counts.accounted - counts.holes for counts in batch.counts.values()),
                batch.rows,
                len(batch.dead_letters),
                traced.steps,
                error,
            )
        )


class TracedMicroBatches(MicroBatches):
    """`MicroBatches` that tell a `Tracing` what they do; the same micro-batches."""

    def __init__(self, *arguments: Any, tracing: Tracing, **options: Any) -> None:
        self._tracing = tracing
        super().__init__(*arguments, **options)

    def _gather(self) -> Generator[MicroBatch | None, None, MicroBatch | None]:
        self._tracing.gathering()
        batch = yield from super()._gather()
        if batch is not None:
            self._tracing.gathered(batch)
        return batch

    def _poll(self, timeout_seconds: float) -> tuple[list[RecordChunk], TransientError | None]:
        since_ns = self._tracing.clock_ns()
        found = super()._poll(timeout_seconds)
        if found[0]:
            self._tracing.consumed(since_ns)
        return found

    def _add(self, builder: MicroBatchBuilder, chunk: RecordChunk) -> None:
        since_ns = self._tracing.clock_ns()
        super()._add(builder, chunk)
        self._tracing.decoded(since_ns)

    def _begin(self, batch: MicroBatch) -> None:
        self._tracing.writing(batch)
        super()._begin(batch)

    def _pump(self, wait_seconds: float = 0.0) -> Iterator[MicroBatch]:
        for batch in super()._pump(wait_seconds):
            self._tracing.written(batch)
            yield batch
