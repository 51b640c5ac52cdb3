"""What of the past is kept: which ledger entries become one, which Dagster runs go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from iot_pipeline.core.ledger.chain import LedgerEntry, Outcome, sum_counts

FOLDED_RUN_ID = "folded"


@dataclass(frozen=True, slots=True)
class Fold:
    """One entry in the place of `replaced` others, at least two."""

    folded: LedgerEntry
    replaced: int


def fold_entries(
    entries: Sequence[LedgerEntry], now: datetime, detail_days: float = 1.0
) -> list[Fold]:
    """One entry per UTC day in the place of neighbours that are older than `detail_days`.

    Args:
        entries: of any number of Kafka partitions and epochs, in any order.
        now: aware; an entry counts as of the day of its last update.
        detail_days: at least 1; a day is folded only when all of it is older.

    Returns:
        The new entries, each over at least two old ones that tile it without gap or overlap and
        whose sums add up. Never one over a gap, a loss or a rebased range, or the newest entry
        of a chain: a run may still extend that one.
    """
    chains: dict[tuple[str, int, int], list[LedgerEntry]] = {}
    for entry in entries:
        chains.setdefault((entry.topic, entry.partition, entry.epoch), []).append(entry)
    before = (now - timedelta(days=max(1.0, detail_days))).date()
    folds: list[Fold] = []
    for chain in chains.values():
        chain.sort(key=lambda entry: entry.start_offset)
        group: list[LedgerEntry] = []
        for entry in chain[:-1]:
            if group and not (_is_foldable(entry, before) and _belong_together(group[-1], entry)):
                folds += _fold(group)
                group = []
            if _is_foldable(entry, before):
                group.append(entry)
        folds += _fold(group)
    return folds


def _is_foldable(entry: LedgerEntry, before: date) -> bool:
    return (
        entry.outcome.is_ingested
        and entry.counts.accounted == entry.span
        and entry.updated_at is not None
        and entry.updated_at.date() < before
    )


def _belong_together(left: LedgerEntry, right: LedgerEntry) -> bool:
    assert left.updated_at is not None
    assert right.updated_at is not None
    return (
        left.end_offset == right.start_offset
        and left.updated_at.date() == right.updated_at.date()
        and left.declaration == right.declaration
    )


def _fold(group: list[LedgerEntry]) -> list[Fold]:
    if len(group) < 2:
        return []
    first, last = group[0], group[-1]
    folded = LedgerEntry(
        topic=first.topic,
        partition=first.partition,
        epoch=first.epoch,
        start_offset=first.start_offset,
        end_offset=last.end_offset,
        outcome=Outcome.FOLDED,
        run_id=FOLDED_RUN_ID,
        writer_id=None,
        counts=sum_counts(entry.counts for entry in group),
        updated_at=max(entry.updated_at for entry in group if entry.updated_at is not None),
        declaration=first.declaration,
    )
    assert folded.counts.accounted == folded.span == sum(entry.span for entry in group)
    return [Fold(folded, len(group))]


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A Dagster run that has ended, whatever way."""

    run_id: str
    ended_at: datetime
    is_success: bool


def choose_runs_to_delete(
    runs: Iterable[FinishedRun],
    now: datetime,
    *,
    keep_days: float,
    keep_failed_days: float,
    keep_runs: int,
) -> list[str]:
    """The run ids that are not kept any longer, oldest first.

    `keep_failed_days` is for runs that failed or were ended; of all that are young enough the
    newest `keep_runs` stay.
    """
    newest_first = sorted(runs, key=lambda run: run.ended_at, reverse=True)
    kept = 0
    deleted = []
    for run in newest_first:
        days = keep_days if run.is_success else keep_failed_days
        if kept >= keep_runs or now - run.ended_at > timedelta(days=days):
            deleted.append(run.run_id)
        else:
            kept += 1
    return deleted[::-1]
