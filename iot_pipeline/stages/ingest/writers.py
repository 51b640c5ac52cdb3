"""Micro-batches on their way to the store: one in a drain, a few small slices when following.

A slice takes as long as its slowest answer. Following, the next ones do not wait for it: a row is
readable after its own write, not after everybody else's. They are finished in the order in which
they began, so what is committed is always all that was read up to somewhere.
"""

from collections import deque
from collections.abc import Iterator

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.refusals import Refusals
from iot_pipeline.stages.ingest.row_writer import RowWriter
from iot_pipeline.stages.ingest.throttle import Throttle
from iot_pipeline.stages.ports.readings import ReadingStore

# Slices written at once, while they are small. Those of a backlog are written one by one: each
# then has the whole window of requests, and the memory for it.
SLICES_AT_ONCE = 4
MAX_SLICE_ROWS = 2_000


class Writers:
    """Writes micro-batches, the earlier ones first to be finished.

    Args:
        at_once: how many, at most, while all of them are small.
        requests_in_flight: of a large micro-batch; small ones share them.
        give_up_after_seconds: of each writer.
        throttle: that of all of them together.
    """

    def __init__(
        self,
        store: ReadingStore,
        at_once: int,
        requests_in_flight: int,
        give_up_after_seconds: float,
        throttle: Throttle | None = None,
    ) -> None:
        self._share = max(1, requests_in_flight // at_once)
        self._free = [
            RowWriter(store, requests_in_flight, give_up_after_seconds, throttle=throttle)
            for _ in range(at_once)
        ]
        self._all = tuple(self._free)
        self._writing: deque[tuple[RowWriter, MicroBatch]] = deque()

    def note_again(self) -> None:
        """As `RowWriter.note_again`."""
        for writer in self._all:
            writer.note_again()

    @property
    def in_flight(self) -> int:
        """Requests on their way now; may be asked from another thread."""
        return sum(writer.in_flight for writer in self._all)

    @property
    def is_full(self) -> bool:
        """Whether the next micro-batch has to wait, however small it is."""
        return not self._free or (bool(self._writing) and _is_large(self._writing[-1][1]))

    @property
    def is_busy(self) -> bool:
        return bool(self._writing)

    def has_room(self, batch: MicroBatch) -> bool:
        return not self._writing or not (self.is_full or _is_large(batch))

    def begin(self, batch: MicroBatch) -> None:
        """Start writing; asked where `has_room` said yes."""
        assert self.has_room(batch)
        writer = self._free.pop()
        writer.begin(batch, None if _is_large(batch) else self._share)
        self._writing.append((writer, batch))

    def pump(self, wait_seconds: float = 0.0) -> Iterator[Refusals]:
        """Send what may leave, take in answers, and give out what is done, in order.

        Waits at most `wait_seconds`, and only when nothing else can be done. Raises what
        `RowWriter.pump` raises.

        Yields:
            What the store refused of each micro-batch all of whose other rows are acknowledged.
        """
        for writer, _ in list(self._writing)[1:]:
            writer.pump()
        while self._writing and self._writing[0][0].pump(wait_seconds):
            writer, _ = self._writing.popleft()
            self._free.append(writer)
            wait_seconds = 0.0
            yield writer.refusals


def _is_large(batch: MicroBatch) -> bool:
    return batch.rows > MAX_SLICE_ROWS
