"""Rows in the order of a micro-batch, one per key: grouped by device and day, winners found.

Nearly always the times of each device grow from record to record. Then no two rows have one key,
and one look at all rows proves it; only devices of which that is not true are sorted by time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.reading.columns import Codes, Columns, Ints
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import Row, record_of
from iot_pipeline.core.times import MS_PER_DAY

_16_BITS = 1 << 16


@dataclass(frozen=True, slots=True)
class Losers:
    """Places of rows that lost their key, and of the row that each lost to at last."""

    columns: Columns
    losers: Codes
    winners: Codes

    def are_repeats(self) -> npt.NDArray[np.bool_]:
        """Which have the values of their winner."""
        same = np.ones(len(self.losers), np.bool_)
        for column in self.columns.values:
            same &= column[self.losers] == column[self.winners]
        return same

    def without(self, is_gone: npt.NDArray[np.bool_]) -> "Losers":
        """What is left without some losers; `is_gone` is by their place in the columns."""
        is_kept = ~is_gone[self.losers]
        return Losers(self.columns, self.losers[is_kept], self.winners[is_kept])

    def by_winner(self) -> dict[tuple[int, int], list[Row]]:
        """The rows that lost, by the (partition, offset) of the one that won."""
        found: dict[tuple[int, int], list[Row]] = {}
        rows, winners = self.columns.rows(self.losers), self.columns.rows(self.winners)
        for loser, winner in zip(rows, winners, strict=True):
            found.setdefault(record_of(winner), []).append(loser)
        return found


def group_rows(columns: Columns) -> tuple[RowGroups, Losers]:
    """Group all rows of some columns by device and day, and take out those that lost their key.

    Args:
        columns: rows in the order of their arrival.

    Returns:
        Groups by the length of the device_id, then by its code, then by day; a row that won stands
        where the first row of its key arrived. And the rows that are in none.
    """
    ranks = columns.codes.ranks()
    ms, code = columns.ms[: columns.count], columns.code[: columns.count]
    device = ranks[code]
    order = _order_by(device, len(ranks))
    device, ms = device[order], ms[order]
    is_same = device[1:] == device[:-1]
    losers = winners = order[:0]
    if (is_same & (ms[1:] <= ms[:-1])).any():
        order, losers, winners = _settle(columns, order, device, ms, is_same)
        device, ms = ranks[code[order]], columns.ms[order]
        is_same = device[1:] == device[:-1]
    first_day, last_day = (int(ms.min()), int(ms.max())) if len(ms) else (0, 0)
    if first_day // MS_PER_DAY != last_day // MS_PER_DAY:
        day = ms // MS_PER_DAY
        is_same &= day[1:] == day[:-1]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(ms)), np.bool_), ~is_same]))
    counts = np.diff(starts, append=len(ms))
    groups = RowGroups(
        columns, order, starts, counts, code[order[starts]], ms[starts] // MS_PER_DAY
    )
    return groups, Losers(columns, losers, winners)


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
) -> tuple[Codes, Codes, Codes]:
    """Where times do not grow: put each day together, and let one row of each key win.

    Returns:
        The order without the rows that lost; those, and the winner of each.
    """
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
        return order, order[:0], order[:0]
    begins = np.concatenate([[True], ~is_equal])
    key = np.cumsum(begins) - 1
    rivals = places[by_key]
    # `write_times.rank`: the lowest wins.
    ranked = np.lexsort(
        (
            columns.partition[rivals],
            columns.offset[rivals],
            -columns.written_us[rivals],
            key,
        )
    )
    winner_of_key = rivals[ranked[np.flatnonzero(begins)]]
    # The winner stands where the first of its key arrived, and the others nowhere.
    stands = at[by_key]
    order[stands[begins]] = winner_of_key
    is_loser = winner_of_key[key] != rivals
    keep = np.ones(len(order), np.bool_)
    keep[stands[~begins]] = False
    return order[keep], rivals[is_loser], winner_of_key[key[is_loser]]
