"""Ask the ledger for sums without reading its past each time.

What is older than some entry was summed once and is kept (`core.ledger.sums`); newer entries are
asked for. A kept sum is only believed while the entry that it ends at is there, and the losses that
it lists are: folding may put another in the place of the one, and a loss may be ingested later.
Then the whole ledger is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from iot_pipeline.core.ledger.chain import LOSSES, ChainLink, LedgerEntry
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum, extend_sum, place_of
from iot_pipeline.stages.ports.ledger import LedgerStore, LedgerSums

# A run moves a kept sum on when 200 entries are newer, and leaves it to a scheduled check where
# more than 2,000 would have to be read.
_WORTH_KEEPING = 200
_READ_IN_PASSING = 2_000


class KeptSums:
    """Answers like the ledger's own sums, for the price of what is new."""

    def __init__(self, ledger: LedgerStore, sums: LedgerSums) -> None:
        self._ledger, self._sums = ledger, sums

    def stored_by_day(
        self,
        topic: str,
        partitions: Sequence[int],
        days: Sequence[date],
        *,
        of_cells: bool = False,
    ) -> Iterator[Mapping[date, int]]:
        """As `LedgerStore.stored_by_day` of the whole ledger."""
        kept, ledger = self._read(topic, partitions), self._ledger
        newer = list(ledger.stored_by_day(topic, partitions, days, _ends(kept), of_cells=of_cells))
        if not self._hold(topic, kept):
            yield from ledger.stored_by_day(topic, partitions, days, of_cells=of_cells)
            return
        yield from newer
        for older in kept.values():
            summed = older.cells_by_day if of_cells else older.stored_by_day
            yield {day: summed.get(day, 0) for day in days}

    def read_losses(self, topic: str, partitions: Sequence[int]) -> list[LedgerEntry]:
        """The entries of the whole ledger that are losses."""
        kept = self._read(topic, partitions)
        newer = self._ledger.read_entries(topic, partitions, places=_ends(kept), outcomes=LOSSES)
        # What is at the places: losses, and the newest entry, which `newer` has if it is one.
        older = self._find(topic, kept)
        if older is None:
            return self._ledger.read_entries(topic, partitions, outcomes=LOSSES)
        return newer + [e for e in older if place_of(e) != kept[e.partition].until]

    def _read(self, topic: str, partitions: Sequence[int]) -> dict[int, LedgerSum]:
        return {p: kept for p, kept in self._sums.read_sums(topic).items() if p in partitions}

    def _hold(self, topic: str, kept: Mapping[int, LedgerSum]) -> bool:
        return self._find(topic, kept) is not None

    def _find(self, topic: str, kept: Mapping[int, LedgerSum]) -> list[LedgerEntry] | None:
        """What the sums stand on; None where one does not hold.

        Asked after the newer part was: what was folded since is in neither.
        """
        entries: list[LedgerEntry] = []
        for partition, older in kept.items():
            found = self._ledger.read_at(topic, partition, older.places)
            if not older.holds(found):
                return None
            entries += found
        return entries


def keep_sums(
    ledger: LedgerStore,
    sums: LedgerSums,
    topic: str,
    partitions: Sequence[int],
    *,
    is_afresh: bool = False,
) -> None:
    """Move the kept sums on to the newest entries, and make those that there are not yet.

    Args:
        is_afresh: believe none that is kept: read the whole ledger.
    """
    kept = {} if is_afresh else sums.read_sums(topic)
    for partition in partitions:
        older = kept.get(partition)
        moved = None
        if older is not None and older.holds(ledger.read_at(topic, partition, older.places)):
            newer = ledger.read_entries(topic, [partition], places={partition: older.until})
            moved = extend_sum(older, newer)
        if moved is None:
            moved = extend_sum(None, ledger.read_entries(topic, [partition]))
        if moved is not None and moved != older:
            sums.write_sum(topic, moved)


def keep_sums_in_passing(
    ledger: LedgerStore,
    sums: LedgerSums,
    topic: str,
    partitions: Sequence[int],
    recent: Sequence[ChainLink],
) -> None:
    """Move those on that are worth it and near; `recent` are the ledger's links of the last hour.

    Never the whole past: a run has no time for it.
    """
    for partition, older in sums.read_sums(topic).items():
        places = [place_of(link) for link in recent if link.partition == partition]
        newer = sum(place > older.until for place in places)
        if partition not in partitions or (older.until in places and newer < _WORTH_KEEPING):
            continue
        entries = ledger.read_entries(
            topic, [partition], places={partition: older.until}, limit=_READ_IN_PASSING
        )
        moved = extend_sum(older, entries)
        # One whose losses are none any more is left to a check on its own.
        if (
            moved is not None
            and moved != older
            and older.holds(ledger.read_at(topic, partition, older.places))
        ):
            sums.write_sum(topic, moved)


def _ends(kept: Mapping[int, LedgerSum]) -> dict[int, EntryPlace]:
    return {partition: older.until for partition, older in kept.items()}
