"""Which rows leave in one request: large groups alone and in parts, small ones together."""

import math
from collections.abc import Iterator

import numpy as np

from iot_pipeline.core.ingest.sizing import MOST_ROWS_PER_PARTITION
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice

# Rows of one CQL batch: single-partition unlogged batches are exempt from the size guard, and
# past this many the server gains nothing (measured at 300, 600 and 1,000 rows).
MAX_ROWS_PER_BATCH = MOST_ROWS_PER_PARTITION
# Small groups share a CQL batch: within Cassandra's guard rails for batches that span partitions:
# 10 of them and 5 KiB, which these rows and keys are below. A request costs Cassandra as much as a
# dozen rows. No more of them than the window asks for: Cassandra applies the partitions of one
# request one after the other, each waiting for the commit log (one of 10 takes 10 ms, ten of one
# 3 ms).
MAX_MERGED_ROWS = 48
MIN_ROWS_ALONE = MAX_MERGED_ROWS // 2
MAX_MERGED_PARTITIONS = 10
MAX_MERGED_KEY_BYTES = 1024
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
    is_small = groups.counts < MIN_ROWS_ALONE
    alone, small = np.flatnonzero(~is_small), np.flatnonzero(is_small)
    large = _in_parts(groups.select(alone))
    if not len(large):
        parts = groups
    elif not len(small):
        parts = large
    else:
        parts = _joined(large, groups.select(small))
    for at in range(len(large)):
        yield RowSlice(parts, at, at + 1)
    at_once = min(MAX_MERGED_PARTITIONS, math.ceil(len(small) / at_most))
    for first in range(len(large), len(parts), _GROUPS_AT_ONCE):
        yield from _merged(parts, first, min(first + _GROUPS_AT_ONCE, len(parts)), at_once)


def _in_parts(groups: RowGroups) -> RowGroups:
    """The same rows, no more than MAX_ROWS_PER_BATCH in a group."""
    parts = -(-groups.counts // MAX_ROWS_PER_BATCH)
    if not len(parts) or int(parts.max()) == 1:
        return groups
    group = np.repeat(np.arange(len(groups)), parts)
    number = np.arange(len(group)) - np.repeat(np.cumsum(parts) - parts, parts)
    cut = groups.select(group)
    done = number * MAX_ROWS_PER_BATCH
    return RowGroups(
        cut.columns,
        cut.order,
        cut.starts + done,
        np.minimum(cut.counts - done, MAX_ROWS_PER_BATCH),
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


def _merged(parts: RowGroups, first: int, end: int, at_once: int) -> Iterator[RowSlice]:
    """The groups [first, end), up to `at_once` of them in a request within the guard rails."""
    counts = parts.counts[first:end].tolist()
    sizes = parts.columns.codes.lengths[parts.codes[first:end]].tolist()
    begin, rows, key_bytes = first, 0, 0
    for at, count, size in zip(range(first, end), counts, sizes, strict=True):
        if at > begin and (
            at - begin == at_once
            or rows + count > MAX_MERGED_ROWS
            or key_bytes + size > MAX_MERGED_KEY_BYTES
        ):
            yield RowSlice(parts, begin, at)
            begin, rows, key_bytes = at, 0, 0
        rows += count
        key_bytes += size
    yield RowSlice(parts, begin, end)
