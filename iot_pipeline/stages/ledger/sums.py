"""Ask the ledger for sums without reading its past each time.

What is older than some entry was summed once and is kept (`core.ledger.sums`); newer entries are
asked for. A kept sum is only believed while the entry that it ends at is there: folding may put
another in its place, and then the whole ledger is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from iot_pipeline.core.ledger.chain import ChainLink, LedgerEntry, Outcome
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum, extend_sum, place_of
from iot_pipeline.stages.ports import LedgerStore, LedgerSums

# A run moves a kept sum on when 200 entries are newer, and leaves it to a scheduled check where
# more than 2,000 would have to be read.
_WORTH_KEEPING = 200
_READ_IN_PASSING = 2_000


class KeptSums:
    """Answers like the ledger's own sums, for the price of what is new."""

    def __init__(self, ledger: LedgerStore, sums: LedgerSums) -> None:
        self._ledger, self._sums = ledger, sums

    def stored_by_day(
        self, topic: str, partitions: Sequence[int], days: Sequence[date]
    ) -> Iterator[Mapping[date, int]]:
        """As `LedgerStore.stored_by_day` of the whole ledger."""
        kept = self._read(topic, partitions)
        newer = list(self._ledger.stored_by_day(topic, partitions, days, _ends(kept)))
        if not self._hold(topic, kept):
            yield from self._ledger.stored_by_day(topic, partitions, days)
            return
        yield from newer
        for older in kept.values():
            yield {day: older.stored_by_day.get(day, 0) for day in days}

    def read_expired(self, topic: str, partitions: Sequence[int]) -> list[LedgerEntry]:
        """The entries of the whole ledger with the outcome `expired`."""
        kept, expired = self._read(topic, partitions), Outcome.EXPIRED
        found = self._ledger.read_entries(topic, partitions, places=_ends(kept), outcome=expired)
        older = [
            self._ledger.read_at(topic, partition, place)
            for partition, known in kept.items()
            for place in known.expired
        ]
        if None in older or not self._hold(topic, kept):
            return self._ledger.read_entries(topic, partitions, outcome=expired)
        return found + [entry for entry in older if entry is not None]

    def _read(self, topic: str, partitions: Sequence[int]) -> dict[int, LedgerSum]:
        return {p: kept for p, kept in self._sums.read_sums(topic).items() if p in partitions}

    def _hold(self, topic: str, kept: Mapping[int, LedgerSum]) -> bool:
        # Asked after the newer part was: what was folded since is in neither.
        return all(self._ledger.read_at(topic, p, older.until) for p, older in kept.items())


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
        if older is not None:
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
        if moved is not None and moved != older:
            sums.write_sum(topic, moved)


def _ends(kept: Mapping[int, LedgerSum]) -> dict[int, EntryPlace]:
    return {partition: older.until for partition, older in kept.items()}
