"""Readings that were told in parts, each as one row: for those who look at readings, not cells."""

import numpy as np

from iot_pipeline.core.ingest.winners import group_rows
from iot_pipeline.core.reading.columns import Columns
from iot_pipeline.core.reading.row_groups import RowGroups


def join_parts(groups: RowGroups) -> RowGroups:
    """The rows of each key as one: of each quantity the value that wins, the latest write time.

    It stands where the first of them arrived. Where no key has several rows, the same groups.
    """
    columns, places = groups.columns, groups.places()
    if not columns.may_lack_cells or len({*zip(groups.codes, groups.days, strict=True)}) == len(
        groups
    ):
        return groups
    written_us = columns.written_us[places]
    order = np.lexsort((-written_us, columns.ms[places], columns.code[places]))
    places = places[order]
    ms, code = columns.ms[places], columns.code[places]
    begins = np.flatnonzero(np.concatenate([[True], (ms[1:] != ms[:-1]) | (code[1:] != code[:-1])]))
    # Where the first of each key stands: rows come as they arrived.
    arrived = np.argsort(np.minimum.reduceat(places, begins))
    firsts, count = places[begins][arrived], len(places)
    joined = Columns(
        columns.codes,
        len(firsts),
        columns.ms[firsts],
        columns.written_us[firsts],
        columns.offset[firsts],
        columns.partition[firsts],
        columns.code[firsts],
    )
    for values, mask in zip(columns.values, columns.has, strict=True):
        if mask is None:
            joined.values.append(values[firsts])
            joined.has.append(None)
            continue
        numbers = np.where(mask[places], np.arange(count), count)
        first = np.minimum.reduceat(numbers, begins)[arrived]
        has = first < count
        joined.values.append(values[places[np.where(has, first, 0)]])
        joined.has.append(has)
    return group_rows(joined)[0]
