"""Which rows leave in one request: large groups alone and in parts, small ones together."""

import math
from collections.abc import Iterator

import numpy as np

from iot_pipeline.core.ingest.sizing import MOST_ROWS_PER_PARTITION
from iot_pipeline.core.reading.columns import Ints
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice

# Rows of one CQL batch: single-partition unlogged batches are exempt from the size guard, and
# past this many the server gains nothing (measured at 300, 600 and 1,000 rows).
MAX_ROWS_PER_BATCH = MOST_ROWS_PER_PARTITION
# And about this many bytes, which only text reaches: Cassandra takes no mutation of 16 MiB.
MAX_BATCH_BYTES = 1 << 20
# Small groups share a CQL batch: within Cassandra's guard rails for batches that span partitions:
# 10 of them, and 5 KiB as it counts rows and cells (it warns of more, and refuses 50 KiB). A
# request costs Cassandra as much as a dozen rows. No more of them than the window asks for:
# Cassandra applies the partitions of one request one after the other, each waiting for the commit
# log (one of 10 takes 10 ms, ten of one 3 ms).
MAX_MERGED_ROWS = 48
MIN_ROWS_ALONE = MAX_MERGED_ROWS // 2
MAX_MERGED_PARTITIONS = 10
MAX_MERGED_KEY_BYTES = 1024
MAX_MERGED_BYTES = 5_000
# As Cassandra 5.0.9 counts: a row with a TTL, and a cell beside its value; measured.
_ROW_BYTES = 43
_CELL_BYTES = 20
# Groups whose sizes are looked at together.
_GROUPS_AT_ONCE = 10_000


def requests_of(groups: RowGroups, at_most: int) -> Iterator[RowSlice]:
    """The requests that bring all rows in, those of large groups first.

    Args:
        groups: of one micro-batch.
        at_most: requests on their way at once: so many at least are made, as far as there are
            groups, before small ones are put together.

    Yields:
        Slices of one `RowGroups`, one after the other from its first group to its last.
    """
    sizes = _bytes_of(groups)
    is_small = (groups.counts < MIN_ROWS_ALONE) & (2 * sizes <= MAX_MERGED_BYTES)
    alone, small = np.flatnonzero(~is_small), np.flatnonzero(is_small)
    large = _in_parts(groups.select(alone), sizes[alone])
    if not len(large):
        parts = groups
    elif not len(small):
        parts = large
    else:
        parts = _joined(large, groups.select(small))
    for at in range(len(large)):
        yield RowSlice(parts, at, at + 1)
    at_once = min(MAX_MERGED_PARTITIONS, math.ceil(len(small) / at_most))
    sizes = sizes[small]
    for first in range(len(large), len(parts), _GROUPS_AT_ONCE):
        end = min(first + _GROUPS_AT_ONCE, len(parts))
        of_part = sizes[first - len(large) : end - len(large)]
        yield from _merged(parts, first, end, at_once, of_part)


def _bytes_of(groups: RowGroups) -> Ints:
    """Of each group, about what Cassandra counts its rows as."""
    columns = groups.columns.values
    each = _ROW_BYTES + sum(_CELL_BYTES + column.dtype.itemsize for column in columns)
    sizes: Ints = groups.counts * each
    texts = [column for column in columns if column.dtype.hasobject]
    if texts and len(groups):
        places = groups.places()
        lengths = np.zeros(len(places), np.int64)
        for column in texts:
            encoded = map(str.encode, column[places].tolist())
            lengths += np.fromiter(map(len, encoded), np.int64, len(places))
        sizes += np.add.reduceat(lengths, np.cumsum(groups.counts) - groups.counts)
    return sizes


def _in_parts(groups: RowGroups, sizes: Ints) -> RowGroups:
    """The same rows, no more than MAX_ROWS_PER_BATCH in a group, nor about MAX_BATCH_BYTES."""
    rows_each = np.full(len(groups), MAX_ROWS_PER_BATCH)
    by_size = -(-sizes // MAX_BATCH_BYTES)
    is_heavy = by_size > -(-groups.counts // MAX_ROWS_PER_BATCH)
    rows_each[is_heavy] = np.maximum(1, groups.counts[is_heavy] // by_size[is_heavy])
    parts = -(-groups.counts // rows_each)
    if not len(parts) or int(parts.max()) == 1:
        return groups
    group = np.repeat(np.arange(len(groups)), parts)
    number = np.arange(len(group)) - np.repeat(np.cumsum(parts) - parts, parts)
    cut = groups.select(group)
    at_most = rows_each[group]
    done = number * at_most
    return RowGroups(
        cut.columns,
        cut.order,
        cut.starts + done,
        np.minimum(cut.counts - done, at_most),
        cut.codes,
        cut.days,
    )


def _joined(first: RowGroups, second: RowGroups) -> RowGroups:
    """Two choices of the same rows, one after the other."""
    return RowGroups(
        first.columns,
        first.order,
        np.concatenate([first.starts, second.starts]),
        np.concatenate([first.counts, second.counts]),
        np.concatenate([first.codes, second.codes]),
        np.concatenate([first.days, second.days]),
    )


def _merged(
    parts: RowGroups, first: int, end: int, at_once: int, sizes: Ints
) -> Iterator[RowSlice]:
    """The groups [first, end), up to `at_once` of them in a request within the guard rails."""
    counts = parts.counts[first:end].tolist()
    keys = parts.columns.codes.lengths[parts.codes[first:end]].tolist()
    begin, rows, key_bytes, of_rows = first, 0, 0, 0
    each = zip(range(first, end), counts, keys, sizes.tolist(), strict=True)
    for at, count, key, size in each:
        if at > begin and (
            at - begin == at_once
            or rows + count > MAX_MERGED_ROWS
            or key_bytes + key > MAX_MERGED_KEY_BYTES
            or of_rows + size > MAX_MERGED_BYTES
        ):
            yield RowSlice(parts, begin, at)
            begin, rows, key_bytes, of_rows = at, 0, 0, 0
        rows += count
        key_bytes += key
        of_rows += size
    yield RowSlice(parts, begin, end)
