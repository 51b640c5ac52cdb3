"""Receipts of devices that were forgotten: what was there, how far it is, what is not reached.

A receipt is a deletion of all times: whatever asks what was deleted on purpose (replays, audits,
mends) knows it for good.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from iot_pipeline.core.proof.deletions import Deletion

MOST_FILES = 20


class Progress(enum.StrEnum):
    """How far it is."""

    BEGUN = "begun"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a device; everything but `letters` can be removed."""

    rows_by_day: Mapping[date, int] = field(default_factory=dict)
    cells_by_day: Mapping[date, int] = field(default_factory=dict)
    days: int = 0
    rollups: int = 0
    states: int = 0
    mends: int = 0
    manifests: int = 0

    @property
    def rows(self) -> int:
        return sum(self.rows_by_day.values())

    def by_kind(self) -> dict[str, int]:
        """Each kind with how many there are, in the order in which they go."""
        return {
            "readings": self.rows,
            "days in the index": self.days,
            "rollups": self.rollups,
            "kept states": self.states,
            "mended rows": self.mends,
            "manifests": self.manifests,
        }


@dataclass(frozen=True, slots=True)
class Receipt:
    """One device that was forgotten, at a moment: of what arrived in Kafka later it says nothing.

    `deletion.deleted_us` is that moment; `found` is what there was, by kind.
    """

    deletion: Deletion
    forgotten_at: datetime
    progress: Progress
    rows_by_day: Mapping[date, int]
    found: Mapping[str, int]
    cells_by_day: Mapping[date, int]

    @property
    def device_id(self) -> str:
        return self.deletion.device_id


@dataclass(frozen=True, slots=True)
class ForgottenRows:
    """Rows by day, or cells, that the ledger stored and that are not there for that reason.

    Of those that are `going`, some may be there still.
    """

    gone: Mapping[date, int] = field(default_factory=dict)
    going: Mapping[date, int] = field(default_factory=dict)


def forgotten_rows(receipts: Iterable[Receipt], *, of_cells: bool = False) -> ForgottenRows:
    """Of all receipts together."""
    sums: dict[Progress, Counter[date]] = {Progress.DONE: Counter(), Progress.BEGUN: Counter()}
    for receipt in receipts:
        sums[receipt.progress].update(receipt.cells_by_day if of_cells else receipt.rows_by_day)
    return ForgottenRows(sums[Progress.DONE], sums[Progress.BEGUN])


def not_reached(device_id: str, gc_grace: str, files: Iterable[str], topic: str) -> list[str]:
    """What still has something of a device, in sentences."""
    said = [
        f"Kafka: its records in {topic} and its dead letters, until their retention deletes them",
        f"Cassandra's disks: until {gc_grace} s (gc_grace_seconds) are over and compaction passed",
        "snapshots and backups of Cassandra, and mirrors of the topic",
        "logs, findings of audits, and what Dagster keeps of runs: they may name it",
        "what a run that is at work keeps of it: its state may be written once more, and expires",
    ]
    named = sorted(files)
    said += [f"the file {name} names it" for name in named[:MOST_FILES]]
    if len(named) > MOST_FILES:
        said.append(f"and {len(named) - MOST_FILES:,} more files")
    return [*said, f"this receipt, which keeps the name {device_id!r}, the counts and the reason"]
