"""Readings as columns, in groups of a bounded size: what a file of columns is written from.

Belongs here: cutting a stream of pages into groups. Does not belong here: the format
(`artifacts.parquet`), where pages come from (`stages.reading.in_order`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import Page


@dataclass(slots=True)
class ColumnGroup:
    """Rows side by side: the i-th of each list is one reading; `device_ids` repeats names.

    `values` has one list per quantity, in the order of QUANTITIES.
    """

    device_ids: list[str] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    values: list[list[float | None]] = field(default_factory=lambda: [[] for _ in QUANTITIES])

    def __len__(self) -> int:
        return len(self.times_ms)

    def append(self, page: Page) -> None:
        """Add a page's rows."""
        times, *columns = zip(*page.rows, strict=True)
        self.device_ids += [page.device_id] * len(times)
        self.times_ms += times
        for mine, more in zip(self.values, columns, strict=True):
            mine += more


class Grouping:
    """Collects pages until a group is large enough."""

    def __init__(self, group_rows: int) -> None:
        self._group_rows = group_rows
        self._group = ColumnGroup()

    def add(self, page: Page) -> Iterator[ColumnGroup]:
        """Take a page; gives a group when there is one: whole pages, group_rows at least."""
        self._group.append(page)
        if len(self._group) >= self._group_rows:
            yield from self.rest()

    def rest(self) -> Iterator[ColumnGroup]:
        """What is left, if anything."""
        group, self._group = self._group, ColumnGroup()
        if len(group):
            yield group
