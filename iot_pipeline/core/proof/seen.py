"""How far an audit has read each partition of the log, and what it could not read."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import compress

from iot_pipeline.core.proof.stretches import RawRecords
from iot_pipeline.core.reading.offsets import OffsetRange

_FAR = 1 << 62


@dataclass(slots=True)
class Seen:
    """How far each partition was read: offsets that were jumped, first and last timestamps.

    `expected` is the next offset of each partition. `unread` has what could not be read, each with
    the Kafka timestamps of the records around it (0, and the far future, where there is none).
    """

    expected: dict[int, int]
    jumped: list[OffsetRange] = field(default_factory=list)
    first_ms: dict[int, int] = field(default_factory=dict)
    last_ms: dict[int, int] = field(default_factory=dict)
    unread: list[tuple[OffsetRange, int, int]] = field(default_factory=list)

    def pass_over(self, unreadable: Iterable[OffsetRange]) -> None:
        """What comes next in these partitions, and cannot be read."""
        self.unread += [(i, self.last_ms.get(i.partition, 0), _FAR) for i in unreadable]

    def take(self, records: RawRecords) -> None:
        partitions, offsets = records.partitions, records.offsets
        ends = dict(zip(partitions, offsets, strict=True))  # the last of each
        for at, (item, since_ms, until_ms) in enumerate(self.unread):
            if until_ms == _FAR and item.partition in ends:
                first_ms = records.produced_ms[partitions.index(item.partition)]
                self.unread[at] = item, since_ms, first_ms
        for partition, last in ends.items():
            expected = self.expected[partition]
            if partition not in self.first_ms:
                self.first_ms[partition] = records.produced_ms[partitions.index(partition)]
            # Offsets only grow, so as many records as offsets means that none was jumped.
            if last + 1 - expected != partitions.count(partition):
                for offset in compress(offsets, (p == partition for p in partitions)):
                    if offset != expected:
                        self.jumped.append(OffsetRange(partition, expected, offset))
                    expected = offset + 1
            self.expected[partition] = last + 1
        self.last_ms.update(zip(partitions, records.produced_ms, strict=True))
