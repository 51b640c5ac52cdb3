"""Rows by Cassandra partition, in columns: what a micro-batch writes and what a request carries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.reading.columns import (
    Codes,
    Columns,
    DeviceCodes,
    Ints,
    Mask,
    Values,
    column_of,
)
from iot_pipeline.core.reading.quantities import QuantityType
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import Row, RowsByTime


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RowGroups:
    """Groups of rows, those of a group of one device and one day.

    Rows of group n are at the places `order[starts[n] : starts[n] + counts[n]]` of `columns`, in
    the order of their arrival; `codes` are the devices', `days` the day numbers. No group is empty,
    and no two rows of one have one key; where readings may be told in parts, several groups may be
    of one device and day.
    """

    columns: Columns
    order: Codes
    starts: Ints
    counts: Ints
    codes: Codes
    days: Ints

    @classmethod
    def of(
        cls,
        groups: Mapping[Place, RowsByTime] | Sequence[Mapping[Place, RowsByTime]],
        codes: DeviceCodes | None = None,
    ) -> "RowGroups":
        """Of rows that are objects, or `layers` of them; `codes` may know the devices already."""
        layers = [groups] if isinstance(groups, Mapping) else groups
        # Empty ones are none.
        kept = [(place, rows) for layer in layers for place, rows in layer.items() if rows]
        codes = DeviceCodes() if codes is None else codes
        of_group = np.array([codes.add(name) for (name, _), _ in kept], np.int32)
        counts = np.fromiter((len(rows) for _, rows in kept), np.int64, len(kept))
        times = [ms for _, of_place in kept for ms in of_place]
        rows = [row for _, of_place in kept for row in of_place.values()]
        count = len(rows)
        written_us, offset, partition, *values = zip(*rows, strict=True) if rows else ((), (), ())
        columns = Columns(
            codes,
            count,
            np.fromiter(times, np.int64, count),
            np.fromiter(written_us, np.int64, count),
            np.fromiter(offset, np.int64, count),
            np.fromiter(partition, np.int32, count),
            np.repeat(of_group, counts),
            *_as_columns(values),
        )
        days = np.array([day_number for (_, day_number), _ in kept], np.int64)
        order = np.arange(count, dtype=np.int32)
        return cls(columns, order, np.cumsum(counts) - counts, counts, of_group, days)

    def __len__(self) -> int:
        """How many groups."""
        return len(self.starts)

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    def place(self, number: int) -> Place:
        """(device_id, day number) of a group."""
        return self.columns.codes.ids[self.codes[number]], int(self.days[number])

    def names(self) -> list[str]:
        """The device_id of each group."""
        ids = self.columns.codes.ids
        return [ids[code] for code in self.codes.tolist()]

    def items(self) -> Iterator[tuple[Place, RowsByTime]]:
        """Each group's rows as objects: dear, so for what is rare."""
        for number in range(len(self)):
            places = self.order[self.starts[number] : self.starts[number] + self.counts[number]]
            rows = self.columns.rows(places)
            yield self.place(number), dict(zip(self.columns.ms[places].tolist(), rows, strict=True))

    def layers(self) -> list[dict[Place, RowsByTime]]:
        """The rows as objects: each key once in the first, those told in parts in others again."""
        layers: list[dict[Place, RowsByTime]] = [{}]
        for place, rows in self.items():
            layer = next((one for one in layers if place not in one), None)
            if layer is None:
                layers.append(layer := {})
            layer[place] = rows
        return layers

    def places(self) -> Codes:
        """Where the rows are in `columns`, group after group."""
        starts, counts = self.starts, self.counts
        if not len(starts):
            return self.order[:0]
        firsts = np.cumsum(counts) - counts
        if (starts - starts[0] == firsts).all():
            return self.order[starts[0] : starts[-1] + counts[-1]]
        places: Codes = self.order[np.arange(counts.sum()) - np.repeat(firsts - starts, counts)]
        return places

    def part(self, first: int, end: int) -> "RowGroups":
        """The groups [first, end)."""
        return self._at(slice(first, end))

    def select(self, numbers: npt.ArrayLike) -> "RowGroups":
        """The groups with these numbers, in this order."""
        return self._at(np.asarray(numbers, np.int64))

    def _at(self, numbers: Ints | slice) -> "RowGroups":
        return RowGroups(
            self.columns,
            self.order,
            self.starts[numbers],
            self.counts[numbers],
            self.codes[numbers],
            self.days[numbers],
        )

    def without(self, is_gone: npt.NDArray[np.bool_]) -> "RowGroups":
        """What is left without some rows; `is_gone` is by their place in `columns`."""
        places = self.places()
        return self._kept(places, ~is_gone[places])

    def without_partitions(self, partitions: list[int]) -> "RowGroups":
        """What is left without the rows of these Kafka partitions."""
        places = self.places()
        return self._kept(places, ~np.isin(self.columns.partition[places], partitions))

    def _kept(self, places: Codes, is_kept: npt.NDArray[np.bool_]) -> "RowGroups":
        numbers = np.repeat(np.arange(len(self)), self.counts)[is_kept]
        counts = np.bincount(numbers, minlength=len(self)).astype(np.int64)
        ends = np.cumsum(counts)
        left = RowGroups(
            self.columns, places[is_kept], ends - counts, counts, self.codes, self.days
        )
        return left.select(np.flatnonzero(counts))

    def rows_of(self, device_id: str, day_number: int) -> list[Row]:
        """The rows of one Cassandra partition."""
        code = self.columns.codes.get(device_id)
        if code is None:
            return []
        found = np.flatnonzero((self.codes == code) & (self.days == day_number))
        return self.columns.rows(self.select(found).places())

    def rows_by_partition(self) -> dict[int, int]:
        """How many rows are of each Kafka partition."""
        partitions, counts = np.unique(self.columns.partition[self.places()], return_counts=True)
        return dict(zip(partitions.tolist(), counts.tolist(), strict=True))


def _as_columns(columns: Sequence[Sequence[Any]]) -> tuple[list[Values], list[Mask | None]]:
    """Values of one type each, at least one; floats as doubles, whichever column they are for."""
    found = [column_of(column, _kind_of(column)) for column in columns]
    return [values for values, _ in found], [mask for _, mask in found]


def _kind_of(values: Sequence[Any]) -> QuantityType:
    one = next((value for value in values if value is not None), 0.0)
    if isinstance(one, str):
        return "text"
    if isinstance(one, bool):
        return "boolean"
    return "bigint" if isinstance(one, int) else "double"


@dataclass(frozen=True, slots=True)
class RowSlice:
    """The groups [first, end) of some: rows that leave in one request."""

    groups: RowGroups
    first: int
    end: int

    @classmethod
    def all_of(cls, groups: RowGroups) -> "RowSlice":
        return cls(groups, 0, len(groups))

    @classmethod
    def of(cls, groups: Mapping[Place, RowsByTime]) -> "RowSlice":
        """Of rows that are objects."""
        return cls.all_of(RowGroups.of(groups))

    def __len__(self) -> int:
        """How many rows."""
        counts = self.groups.counts
        if self.end - self.first == 1:
            return int(counts[self.first])
        return int(counts[self.first : self.end].sum())

    @property
    def parts(self) -> int:
        """How many Cassandra partitions."""
        return self.end - self.first

    @property
    def device_id(self) -> str:
        """That of the first rows."""
        return self.groups.place(self.first)[0]

    def items(self) -> list[tuple[Place, RowsByTime]]:
        """The rows as objects."""
        return list(self.groups.part(self.first, self.end).items())

    def split(self) -> "list[RowSlice]":
        """Its Cassandra partitions one by one; if it is of one, two halves of its rows."""
        if self.parts > 1:
            return [RowSlice(self.groups, at, at + 1) for at in range(self.first, self.end)]
        one = self.groups.part(self.first, self.end)
        start, count = int(one.starts[0]), int(one.counts[0])
        middle = (count + 1) // 2
        return [
            RowSlice.all_of(
                RowGroups(
                    one.columns,
                    one.order,
                    np.array([at], np.int64),
                    np.array([rows], np.int64),
                    one.codes,
                    one.days,
                )
            )
            for at, rows in ((start, middle), (start + middle, count - middle))
            if rows
        ]

    def without_partitions(self, partitions: list[int]) -> "RowSlice":
        """What is left without the rows of these Kafka partitions."""
        part = self.groups.part(self.first, self.end)
        return RowSlice.all_of(part.without_partitions(partitions))
