"""Rows in the order of a micro-batch, one per key: grouped by device and day, winners found.

Which of two rows wins a key is `core.reading.write_times`'; here it is asked of many at once.
Nearly always the times of each device grow from record to record. Then no two rows have one key,
and one look at all rows proves it; only devices of which that is not true are sorted by time.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.reading.columns import Codes, Columns, Ints, all_there
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import Row, rank_columns, record_of
from iot_pipeline.core.times import MS_PER_DAY

_16_BITS = 1 << 16
_NO_PARTS: Sequence[Codes] = ()


class Lost(NamedTuple):
    """A row that has no cell of its key; whether those who have them say the same."""

    row: Row
    is_repeat: bool


@dataclass(frozen=True, slots=True)
class Losers:
    """Rows that have no cell of their key, and cells of other rows that lost; as places.

    `winners` has, per quantity, the row that each of `losers` lost that cell to at last; itself
    where it has none. `beside` has, per quantity, the rows that have another cell of their key, and
    not this one though they have a value, and the row that has it; empty where rows have all
    quantities.
    """

    columns: Columns
    losers: Codes
    winners: tuple[Codes, ...]
    beside: tuple[tuple[Codes, Codes], ...] = ()

    def are_repeats(self) -> npt.NDArray[np.bool_]:
        """Which have the values of their winners."""
        same = np.ones(len(self.losers), np.bool_)
        for column, winners in zip(self.columns.values, self.winners, strict=True):
            same &= column[self.losers] == column[winners]
        return same

    def count_cells(self) -> Ints:
        """How many cells of its key each row has, of those that have any."""
        columns = self.columns
        cells = np.zeros(columns.count, np.int64)
        for mask in columns.has:
            cells += 1 if mask is None else mask
        for places, _ in self.beside:
            cells[places] -= 1
        return cells

    def cells_beside(
        self, refused: Collection[tuple[int, int]] = ()
    ) -> set[tuple[tuple[int, int], int]]:
        """The records, and numbers of quantities, of the cells in `beside`.

        Without those that lost to a row that was refused: they are in its place.
        """
        partition, offset = self.columns.partition, self.columns.offset
        found = set()
        for number, lost in enumerate(self.beside):
            for at, winner in zip(*(places.tolist() for places in lost), strict=True):
                if (int(partition[winner]), int(offset[winner])) not in refused:
                    found.add(((int(partition[at]), int(offset[at])), number))
        return found

    def without(self, is_gone: npt.NDArray[np.bool_]) -> "Losers":
        """What is left without some losers; `is_gone` is by their place in the columns."""
        is_kept = ~is_gone[self.losers]
        winners = tuple(winners[is_kept] for winners in self.winners)
        return Losers(self.columns, self.losers[is_kept], winners, self.beside)

    def by_winner(self) -> dict[tuple[int, int], list[Lost]]:
        """The rows that lost, by the (partition, offset) of each that won a cell of theirs."""
        found: dict[tuple[int, int], list[Lost]] = {}
        rows, are_repeats = self.columns.rows(self.losers), self.are_repeats().tolist()
        partition, offset = self.columns.partition, self.columns.offset
        places = zip(*(winners.tolist() for winners in self.winners), strict=True)
        for loser, is_repeat, winners in zip(rows, are_repeats, places, strict=True):
            for at in set(winners):
                winner = int(partition[at]), int(offset[at])
                if winner != record_of(loser):
                    found.setdefault(winner, []).append(Lost(loser, is_repeat))
        return found


def group_rows(columns: Columns) -> tuple[RowGroups, Losers]:
    """Group all rows of some columns by device and day, and take out those that lost their key.

    Args:
        columns: rows in the order of their arrival.

    Returns:
        Groups by the length of the device_id, then by its code, then by day; a row that won stands
        where the first row of its key arrived. Rows that have cells of a key beside it, where
        readings need not have all quantities, follow in groups of their own: no group has two rows
        of one key. And the rows that are in none.
    """
    ranks = columns.codes.ranks()
    ms, code = columns.ms[: columns.count], columns.code[: columns.count]
    device = ranks[code]
    order = _order_by(device, len(ranks))
    device, ms = device[order], ms[order]
    is_same = device[1:] == device[:-1]
    losers = Losers(columns, order[:0], (order[:0],) * len(columns.values))
    parts = _NO_PARTS
    if (is_same & (ms[1:] <= ms[:-1])).any():
        order, losers, parts = _settle(columns, order, device, ms, is_same)
        device, ms = ranks[code[order]], columns.ms[order]
        is_same = device[1:] == device[:-1]
    starts, counts = _find_groups(ms, is_same)
    for part in parts:
        device, ms = ranks[code[part]], columns.ms[part]
        more_starts, more_counts = _find_groups(ms, device[1:] == device[:-1])
        starts = np.concatenate([starts, more_starts + len(order)])
        counts = np.concatenate([counts, more_counts])
        order = np.concatenate([order, part])
    firsts = order[starts]
    return (
        RowGroups(columns, order, starts, counts, code[firsts], columns.ms[firsts] // MS_PER_DAY),
        losers,
    )


def _find_groups(ms: Ints, is_same: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Where groups begin, and how many rows each has; `is_same` device as the row before it."""
    first_day, last_day = (int(ms.min()), int(ms.max())) if len(ms) else (0, 0)
    if first_day // MS_PER_DAY != last_day // MS_PER_DAY:
        day = ms // MS_PER_DAY
        is_same &= day[1:] == day[:-1]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(ms)), np.bool_), ~is_same]))
    return starts, np.diff(starts, append=len(ms))


def _order_by(numbers: Codes, count: int) -> Codes:
    """The places of `numbers`, each below `count`, in their order; equal ones as they stand.

    numpy sorts numbers of 16 bits by counting, several times faster than larger ones.
    """
    if count <= _16_BITS:
        order = np.argsort(numbers.astype(np.uint16), kind="stable")
    else:
        low = np.argsort((numbers % _16_BITS).astype(np.uint16), kind="stable")
        high = np.argsort((numbers // _16_BITS).astype(np.uint16)[low], kind="stable")
        order = low[high]
    return order.astype(np.int32)


def _settle(
    columns: Columns, order: Codes, device: Codes, ms: Ints, is_same: npt.NDArray[np.bool_]
) -> tuple[Codes, Losers, Sequence[Codes]]:
    """Where times do not grow: put each day together, and let one row of each key win.

    Returns:
        The order with one row of each key; those that lost; and the further rows that have cells of
        a key: the second of each key, the third, and so on, each by device, day and arrival.
    """
    cells = len(columns.values)
    is_odd = np.zeros(int(device[-1]) + 1, np.bool_)
    is_odd[device[1:][is_same & (ms[1:] <= ms[:-1])]] = True
    # Where these devices stand: their days are put together, each device in its own stretch.
    at = np.flatnonzero(is_odd[device])
    of_device, times = device[at], ms[at]
    by_day = np.lexsort((times // MS_PER_DAY, of_device))
    order = order.copy()
    order[at] = places = order[at][by_day]
    times = times[by_day]
    # Equal keys are neighbours now, in the order of their arrival; a day of theirs has one place.
    by_key = np.lexsort((times, of_device))
    times, of_device = times[by_key], of_device[by_key]
    is_equal = (times[1:] == times[:-1]) & (of_device[1:] == of_device[:-1])
    if not is_equal.any():
        return order, Losers(columns, order[:0], (order[:0],) * cells), _NO_PARTS
    begins = np.concatenate([[True], ~is_equal])
    key = np.cumsum(begins) - 1
    rivals = places[by_key]
    by_rank = rank_columns(
        columns.written_us[rivals], columns.offset[rivals], columns.partition[rivals]
    )
    ranked = np.lexsort((*by_rank, key))
    ranked_rivals = rivals[ranked]
    winner_of_key = ranked_rivals[begins]
    # The winner stands where the first of its key arrived, and the others nowhere.
    stands = at[by_key]
    order[stands[begins]] = winner_of_key
    keep = np.ones(len(order), np.bool_)
    keep[stands[~begins]] = False
    if columns.may_lack_cells:
        return order[keep], *_settle_cells(columns, ranked_rivals, begins, of_device)
    is_loser = winner_of_key[key] != rivals
    winners = (winner_of_key[key[is_loser]],) * cells
    return order[keep], Losers(columns, rivals[is_loser], winners), _NO_PARTS


def _settle_cells(
    columns: Columns, rivals: Codes, begins: npt.NDArray[np.bool_], device: Codes
) -> tuple[Losers, Sequence[Codes]]:
    """Let, for each quantity, the first row of a key win that has it.

    A cell that lost to one with the same write time is taken from its row: of two such Cassandra
    would keep the larger. Others are written, and Cassandra settles them as it does those of other
    micro-batches.

    Args:
        rivals: the rows of all keys, each key's together, those that win first.
        begins: where a key begins among them.
        device: of each, by its rank.
    """
    count, firsts = len(rivals), np.flatnonzero(begins)
    key, numbers = np.cumsum(begins) - 1, np.arange(count)
    is_kept = np.zeros(count, np.bool_)
    won_by: list[npt.NDArray[np.int64]] = []
    for mask in columns.has:
        has = np.ones(count, np.bool_) if mask is None else mask[rivals]
        first = np.minimum.reduceat(np.where(has, numbers, count), firsts)[key]
        # Its own where it has none: it did not lose it to another.
        winner = np.where(has, first, numbers)
        is_kept |= has & (winner == numbers)
        won_by.append(winner)
    is_loser = ~is_kept
    beside = []
    for at, winner in enumerate(won_by):
        lost = np.flatnonzero(is_kept & (winner != numbers))
        places, winners = rivals[lost], rivals[winner[lost]]
        is_tied = columns.written_us[places] == columns.written_us[winners]
        beside.append((places[~is_tied], winners[~is_tied]))
        if is_tied.any():
            mask = columns.has[at]
            if mask is None:
                mask = columns.has[at] = all_there(columns.count)
            mask[places[is_tied]] = False
    losers = Losers(
        columns,
        rivals[is_loser],
        tuple(rivals[winner[is_loser]] for winner in won_by),
        tuple(beside),
    )
    # How many rows of its key that are kept stand before each.
    before = np.cumsum(is_kept) - 1
    before -= before[firsts][key]
    parts = []
    for number in range(1, int(before.max()) + 1):
        found = np.flatnonzero(is_kept & (before == number))
        places, day = rivals[found], columns.ms[rivals[found]] // MS_PER_DAY
        parts.append(places[np.lexsort((places, day, device[found]))])
    return losers, parts
