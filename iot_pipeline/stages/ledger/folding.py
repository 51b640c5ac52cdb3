"""Fold the ledger: a year of runs every five seconds stays readable in a second.

Safe at any time, twice at once, and beside running drains: only entries that no run can extend
are folded, and each fold is one batch on one Cassandra partition. Every sum stays what it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.ledger.folding import fold_entries
from iot_pipeline.stages.ports.ledger import LedgerStore


@dataclass(frozen=True, slots=True)
class FoldReport:
    """How many entries there were, and how many there are now."""

    before: int
    after: int


def fold_ledger(
    ledger: LedgerStore,
    topic: str,
    partitions: Sequence[int],
    now: datetime,
    detail_days: float = 1.0,
) -> FoldReport:
    """Make one entry per day of what is older than `detail_days`, per Kafka partition.

    Raises:
        CassandraUnavailableError: some partitions may be folded, the others are not; run again.
    """
    before = after = 0
    for partition in partitions:
        entries = ledger.read_entries(topic, [partition])
        folds = fold_entries(entries, now, detail_days)
        for fold in folds:
            ledger.write_fold(fold.folded)
        before += len(entries)
        after += len(entries) - sum(fold.replaced - 1 for fold in folds)
    return FoldReport(before, after)
