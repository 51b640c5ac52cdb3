"""Rows whose records no audit can read: a log replaced, cut, or partly unreadable."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.reading.offsets import Checkpoint
from iot_pipeline.core.reading.write_times import arrived_ms, may_be_of


@dataclass(frozen=True, slots=True)
class FormerRows:
    """Which rows may be of records that were ingested and that an audit cannot read.

    `until_ms` has, by Kafka partition, the newest Kafka timestamp of the records from before a
    rebase, or from before the log was cut. `unread` has each stretch that Kafka cannot give out:
    its partition, and the timestamps between which it lies.
    """

    until_ms: Mapping[int, int]
    unread: Sequence[tuple[int, int, int]] = ()

    @classmethod
    def of(
        cls,
        entries: Iterable[LedgerEntry],
        checkpoints: Mapping[int, Checkpoint],
        cut: Collection[int],
        unread: Sequence[tuple[int, int, int]] = (),
    ) -> Self:
        """By the whole ledger of the partitions, all epochs of it; `cut` are those in doubt."""
        until: dict[int, int] = {}
        for entry in entries:
            checkpoint, last_ms = checkpoints.get(entry.partition), entry.counts.last_record_ms
            if checkpoint is None or last_ms is None:
                continue
            if entry.epoch < checkpoint.epoch or entry.partition in cut:
                until[entry.partition] = max(last_ms, until.get(entry.partition, last_ms))
        return cls(until, unread)

    def may_have_written(self, written_us: int) -> bool:
        """Whether a record of then can have this write time."""
        return any(
            arrived_ms(written_us) <= until and may_be_of(written_us, partition)
            for partition, until in self.until_ms.items()
        ) or any(
            since <= arrived_ms(written_us) <= until and may_be_of(written_us, partition)
            for partition, since, until in self.unread
        )
