"""Records as they arrive: many of one Kafka partition at once, as parallel lists.

An object per record is the dearest thing on a record's way, so the drain has none: a `Record` is
made only of one that is kept whole (a dead letter).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from iot_pipeline.core.reading.messages import RECORD_OVERHEAD_BYTES, Headers, Record


@dataclass(slots=True)
class RecordChunk:
    """Records of one Kafka partition in the order of their offsets, at least one.

    Parallel lists, all of one length; what each holds is what `Record` says of it.
    """

    partition: int
    offsets: Sequence[int]
    produced_ms: Sequence[int]
    values: Sequence[bytes | None]
    message_keys: Sequence[bytes | None]
    headers: Sequence[Headers | None]

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Record]:
        return map(self.record, range(len(self.offsets)))

    def record(self, at: int) -> Record:
        return Record(
            self.partition,
            self.offsets[at],
            self.produced_ms[at],
            self.message_keys[at],
            self.values[at],
            self.headers[at],
        )

    def record_at(self, offset: int) -> Record:
        """The whole record with an offset that is in the list."""
        return self.record(bisect_left(self.offsets, offset))

    def part(self, start: int, stop: int) -> "RecordChunk":
        """Those at places [start, stop); the chunk itself when that is all of it."""
        if start <= 0 and stop >= len(self.offsets):
            return self
        return RecordChunk(
            self.partition,
            self.offsets[start:stop],
            self.produced_ms[start:stop],
            self.values[start:stop],
            self.message_keys[start:stop],
            self.headers[start:stop],
        )

    @property
    def newest_start(self) -> int:
        """Where the records begin that share the last one's millisecond, nothing else after."""
        produced_ms = self.produced_ms
        newest = produced_ms[-1]
        start = produced_ms.index(newest)
        if produced_ms.count(newest) != len(produced_ms) - start:
            # The broker's clock stepped back in between.
            start = len(produced_ms)
            while produced_ms[start - 1] == newest:
                start -= 1
        return start

    @property
    def size_bytes(self) -> int:
        """About what its records take in memory (`Record.size_bytes` of each, added up)."""
        size = len(self.offsets) * RECORD_OVERHEAD_BYTES
        size += sum(map(len, filter(None, self.values)))
        size += sum(map(len, filter(None, self.message_keys)))
        for headers in filter(None, self.headers):
            size += sum(len(name) + len(content or b"") for name, content in headers)
        return size


def chunk_records(records: Iterable[Record]) -> list[RecordChunk]:
    """Records, each partition's in the order of its offsets, as chunks of neighbours."""
    return [
        RecordChunk(
            partition,
            [record.offset for record in run],
            [record.produced_ms for record in run],
            [record.value for record in run],
            [record.message_key for record in run],
            [record.headers for record in run],
        )
        for partition, group in groupby(records, attrgetter("partition"))
        if (run := list(group))
    ]
