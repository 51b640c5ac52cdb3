"""What another declaration tells of records beside what was told when they were ingested.

By offset, in as few numbers as there are changes from one record to the next: mostly every record
of a range gains the same quantities.
"""

from array import array
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter

from iot_pipeline.core.reading.offsets import OffsetRange

# Names of quantities that a record told no value of; None: it was no reading at all.
Added = frozenset[str] | None
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Part:
    """What begins at which offset of a range, as a number in `Additions.kinds`."""

    offsets: OffsetRange
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    kinds: "array[int]" = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class Additions:
    """What is new of each record; of ranges that were never begun nothing is."""

    _kinds: list[Added] = field(default_factory=list)
    _numbers: dict[Added, int] = field(default_factory=dict)
    _parts: defaultdict[int, list[_Part]] = field(default_factory=lambda: defaultdict(list))
    _begun: dict[int, _Part] = field(default_factory=dict)

    def begin(self, item: OffsetRange) -> None:
        """Take in a range that overlaps none before; its records are noted next."""
        part = self._begun[item.partition] = _Part(item)
        parts = self._parts[item.partition]
        parts.append(part)
        parts.sort(key=attrgetter("offsets.start"))

    def note(self, partition: int, offset: int, added: Added) -> None:
        """Say what is new of a record, of a later offset than the one before in its range."""
        number = self._numbers.get(added)
        if number is None:
            number = self._numbers[added] = len(self._kinds)
            self._kinds.append(added)
        part = self._begun[partition]
        if not part.kinds or part.kinds[-1] != number:
            part.starts.append(offset)
            part.kinds.append(number)

    def of(self, partition: int, offset: int) -> Added:
        parts = self._parts.get(partition, [])
        at = bisect_right(parts, offset, key=attrgetter("offsets.start")) - 1
        if at < 0 or offset >= parts[at].offsets.end:
            return _NOTHING
        within = bisect_right(parts[at].starts, offset) - 1
        return _NOTHING if within < 0 else self._kinds[parts[at].kinds[within]]
