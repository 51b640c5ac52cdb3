"""The write times in which an audit read every record: rows outside of them it cannot judge."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.reading.offsets import OffsetRange
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

    _ranges: list[tuple[OffsetRange, _Span]] = field(default_factory=list)

    def add(self, item: OffsetRange, first_ms: int, last_ms: int) -> None:
        """A range that was read whole."""
        self._ranges.append((item, (first_ms, last_ms)))

    @property
    def newest_ms(self) -> int:
        """Of all records; 0 where none was read."""
        return max((last for _, (_, last) in self._ranges), default=0)

    @property
    def _of_partition(self) -> dict[int, list[_Span]]:
        """In the order of the log; ranges that touch are one, whoever has read them."""
        found: dict[int, list[_Span]] = {}
        before: OffsetRange | None = None
        for item, (first, last) in sorted(self._ranges):
            spans = found.setdefault(item.partition, [])
            if spans and before is not None and before.end == item.start:
                spans[-1] = spans[-1][0], last
            else:
                spans.append((first, last))
            before = item
        return found

    def complete(self, is_from_start: bool, end_ms: int | None) -> WriteTimes:
        """Where every partition was read at once: what lies between two ranges was not.

        Args:
            is_from_start: no partition has a record before its first range.
            end_ms: none has one after its last range, as of this time; None: one may have.
        """
        read = self._of_partition.values()
        everything = [_inside(spans) for spans in read]
        if not everything:
            return WriteTimes(())
        start_ms = min(spans[0][0] for spans in read)
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
