"""The older part of a ledger as one sum: a look at it need not read a year again.

All entries but the newest of a Kafka partition are final, losses apart: a run extends only the
newest, and folding keeps every sum. A sum covers all entries before an offset, and is valid as long
as the ledger has an entry that starts there and the losses that it lists are losses.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from iot_pipeline.core.ledger.chain import ChainLink, LedgerEntry, find_flaws

# Losses are looked up one by one; where there are more of them, no sum is kept.
MAX_LOSSES = 100


class EntryPlace(NamedTuple):
    """Where an entry of a Kafka partition's ledger begins; later ones compare greater."""

    epoch: int
    start_offset: int


class LossPlace(NamedTuple):
    """Where a loss is; its end too, because a part of it may have been ingested since."""

    epoch: int
    start_offset: int
    end_offset: int


def place_of(entry: LedgerEntry | ChainLink) -> EntryPlace:
    return EntryPlace(entry.epoch, entry.start_offset)


@dataclass(frozen=True, slots=True)
class LedgerSum:
    """What all entries before the one at `until` come to; rows and cells by UTC day, and losses.

    It is not true any more when one of its losses is not in the ledger as it was (`holds`).
    """

    partition: int
    until: EntryPlace
    stored_by_day: Mapping[date, int]
    cells_by_day: Mapping[date, int] = field(default_factory=dict)
    losses: tuple[LossPlace, ...] = ()

    @property
    def places(self) -> list[EntryPlace]:
        """What has to be in the ledger for this to hold."""
        return [self.until, *(EntryPlace(*loss[:2]) for loss in self.losses)]

    def holds(self, found: Iterable[LedgerEntry]) -> bool:
        """Whether the entries at `places` are those that were summed."""
        entries = {place_of(entry): entry for entry in found}
        return self.until in entries and all(
            (entry := entries.get(EntryPlace(*loss[:2]))) is not None
            and entry.outcome.is_loss
            and entry.end_offset == loss.end_offset
            for loss in self.losses
        )


def extend_sum(kept: LedgerSum | None, entries: Sequence[LedgerEntry]) -> LedgerSum | None:
    """Move a sum on to the newest entry, which stays out of it.

    Args:
        kept: None begins one.
        entries: of one Kafka partition, in any order: all from `kept.until` on, or all there are.

    Returns:
        None where nothing can be kept: no entry, none that begins where `kept` ends, a chain that
        does not hold, or too many losses.
    """
    ordered = sorted(entries, key=place_of)
    if not ordered or find_flaws(ordered, []):
        return None
    if kept is not None and place_of(ordered[0]) != kept.until:
        return None
    stored: Counter[date] = Counter(kept.stored_by_day if kept else {})
    cells: Counter[date] = Counter(kept.cells_by_day if kept else {})
    losses = list(kept.losses if kept else ())
    for entry in ordered[:-1]:
        stored.update(entry.counts.stored_by_day)
        cells.update(entry.counts.cells_by_day)
        if entry.outcome.is_loss:
            losses.append(LossPlace(entry.epoch, entry.start_offset, entry.end_offset))
    if len(losses) > MAX_LOSSES:
        return None
    newest = ordered[-1]
    return LedgerSum(newest.partition, place_of(newest), dict(stored), dict(cells), tuple(losses))
