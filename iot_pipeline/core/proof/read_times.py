"""The write times in which an audit read every record: rows outside of them it cannot judge."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.reading.write_times import first_us

# Milliseconds, both inclusive.
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class WriteTimes:
    """Spans of write times in µs, both ends inclusive, disjoint and in order."""

    spans: Sequence[tuple[int, int]]

    def __contains__(self, written_us: int) -> bool:
        at = bisect_right(self.spans, (written_us, 1 << 63)) - 1
        return at >= 0 and written_us <= self.spans[at][1]


@dataclass(slots=True)
class ReadTimes:
    """Kafka timestamps of the first and the last record of each range that was read."""

    _of_partition: defaultdict[int, list[_Span]] = field(default_factory=lambda: defaultdict(list))

    def add(self, partition: int, first_ms: int, last_ms: int) -> None:
        """A range of the partition, whole; its ranges are told in their order."""
        self._of_partition[partition].append((first_ms, last_ms))

    @property
    def newest_ms(self) -> int:
        """Of all records; 0 where none was read."""
        return max((last for spans in self._of_partition.values() for _, last in spans), default=0)

    def complete(self, is_from_start: bool, end_ms: int | None) -> WriteTimes:
        """Where every partition was read at once: what lies between two ranges was not.

        Args:
            is_from_start: no partition has a record before its first range.
            end_ms: none has one after its last range, as of this time; None: one may have.
        """
        everything = [_inside(spans) for spans in self._of_partition.values()]
        if not everything:
            return WriteTimes(())
        start_ms = min(spans[0][0] for spans in self._of_partition.values())
        for inside in everything:
            if is_from_start:
                inside[0] = start_ms, inside[0][1]
            if end_ms is not None:
                inside[-1] = inside[-1][0], end_ms
        common = everything[0]
        for inside in everything[1:]:
            common = list(_common(common, inside))
        return WriteTimes(
            [(first_us(first), first_us(last + 1) - 1) for first, last in common if first <= last]
        )


def _inside(spans: Sequence[_Span]) -> list[_Span]:
    # Whole milliseconds inside: a range may begin or end within one.
    return [(first + 1, last - 1) for first, last in spans]


def _common(one: Iterable[_Span], other: Sequence[_Span]) -> Iterable[_Span]:
    for first, last in one:
        for begin, end in other:
            both = max(first, begin), min(last, end)
            if both[0] <= both[1]:
                yield both
