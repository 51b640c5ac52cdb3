"""By which declaration the offsets of the log are read: the ledger's, or that of a later replay."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.reading.offsets import OffsetRange

# Ranges of a Kafka partition, ascending and apart from each other, each with a fingerprint; empty
# where the ledger names none.
Parts = list[tuple[OffsetRange, str]]


@dataclass(frozen=True, slots=True)
class DeclaredReplay:
    """Ranges of a topic that were replayed by another declaration than they were ingested by.

    Without a topic_id: dead letters were, of which no range is known. Counted by day are the rows,
    and their cells, that the runs which ingested the ranges have not counted.
    """

    topic_id: str
    declaration: str
    ranges: Sequence[OffsetRange] = ()
    started_at: datetime | None = None
    stored_by_day: Mapping[date, int] = field(default_factory=dict)
    cells_by_day: Mapping[date, int] = field(default_factory=dict)


def declared_parts(
    entries: Iterable[LedgerEntry], replays: Iterable[DeclaredReplay]
) -> dict[int, Parts]:
    """The fingerprint of each ingested range, by Kafka partition.

    Args:
        entries: in any order; losses have no declaration.
        replays: of this topic, in the order in which they began: the latest counts.
    """
    found: defaultdict[int, Parts] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: (entry.partition, entry.start_offset)):
        if entry.outcome.is_ingested:
            _append(found[entry.partition], entry.offsets, entry.declaration)
    for replay in replays:
        for item in replay.ranges:
            if item.partition in found:
                found[item.partition] = _painted(found[item.partition], item, replay.declaration)
    return dict(found)


def split(
    parts: Mapping[int, Parts], ranges: Iterable[OffsetRange]
) -> dict[str, list[OffsetRange]]:
    """These ranges by fingerprint; by the empty one also what no entry is about."""
    found: defaultdict[str, list[OffsetRange]] = defaultdict(list)
    for item in ranges:
        at = item.start
        for part, fingerprint in parts.get(item.partition, ()):
            start, end = max(at, part.start), min(item.end, part.end)
            if end <= start:
                continue
            if start > at:
                found[""].append(OffsetRange(item.partition, at, start))
            found[fingerprint].append(OffsetRange(item.partition, start, end))
            at = end
        if at < item.end:
            found[""].append(OffsetRange(item.partition, at, item.end))
    return dict(found)


def _append(parts: Parts, item: OffsetRange, fingerprint: str) -> None:
    """Neighbours of one declaration are one range: a day of runs is thousands of entries."""
    if item.end <= item.start:
        return
    if parts and parts[-1][1] == fingerprint and parts[-1][0].end == item.start:
        item = OffsetRange(item.partition, parts.pop()[0].start, item.end)
    parts.append((item, fingerprint))


def _painted(parts: Parts, over: OffsetRange, fingerprint: str) -> Parts:
    """The same parts, those offsets of `over` that are in some by another declaration."""
    found: Parts = []
    for part, before in parts:
        start, end = max(part.start, over.start), min(part.end, over.end)
        if end <= start:
            _append(found, part, before)
            continue
        _append(found, OffsetRange(part.partition, part.start, start), before)
        _append(found, OffsetRange(part.partition, start, end), fingerprint)
        _append(found, OffsetRange(part.partition, end, part.end), before)
    return found
