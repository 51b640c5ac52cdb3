"""Columns of values that are read from many messages of one schema at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.reading.columns import DTYPES, Ints, Mask, Values
from iot_pipeline.core.reading.declaration import Path
from iot_pipeline.core.reading.joined import Joined
from iot_pipeline.core.reading.quantities import QuantityType

# A number as it may be kept before its limits are known, yes or no, text; `any` is a value to be
# compared, `presence` only whether something is there.
Kind = Literal["float64", "int64", "bool", "text", "any", "presence"]
Getter = Callable[[Any], Any]
# All rows, or their numbers.
Rows = slice | Ints
ALL: Rows = slice(None)
_DTYPES: Mapping[Kind, type] = {"float64": np.float64, "int64": np.int64, "bool": np.bool_}


@dataclass(frozen=True, slots=True)
class Want:
    """One thing that is wanted, where it is; `must_be` whether it has to be there, or must not."""

    number: int
    path: Path
    kind: Kind
    must_be: bool | None


class NotTogetherError(Exception):
    """Messages of this schema are not read together: one of what is wanted is of a rare kind."""


@dataclass(slots=True)
class Budget:
    """How many types a schema may have, each where it stands, to be read together."""

    left: int = 100

    def take(self) -> None:
        """One of them."""
        self.left -= 1
        if self.left < 0:
            raise NotTogetherError


@dataclass(slots=True, eq=False)
class ToldColumns:
    """What messages tell, by the numbers of what is wanted: values, and which have one.

    A getter takes what has one number out of a list.
    """

    values: list[npt.NDArray[Any]]
    has: list[Mask]
    count: int

    def __len__(self) -> int:
        return self.count

    def listed(self, getter: Getter) -> list[Any]:
        """Values of Python; None where something is compared that is not there."""
        found: list[Any] = getter(self.values).tolist()
        return found

    def numbers(self, getter: Getter, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Values that all have."""
        return np.asarray(getter(self.values), dtype)

    def optional(self, getter: Getter, kind: QuantityType) -> tuple[Values, Mask | None]:
        """Values, and which have one; None: all."""
        has: Mask = getter(self.has)
        return self.numbers(getter, DTYPES[kind]), None if has.all() else has

    def kept(self, rows: Ints) -> "ToldColumns":
        return ToldColumns(
            [one[rows] for one in self.values], [one[rows] for one in self.has], len(rows)
        )


@dataclass(slots=True, eq=False)
class Walk:
    """One walk through messages: what was found, and which messages are not read this way."""

    joined: Joined
    told: ToldColumns
    is_bad: Mask
    ends: Ints

    @classmethod
    def through(cls, joined: Joined, wants: Sequence[Want], ends: Ints) -> "Walk":
        count = len(ends)
        values: list[npt.NDArray[Any]] = [
            np.zeros(count, _DTYPES.get(one.kind, object)) for one in wants
        ]
        for one, column in zip(wants, values, strict=True):
            if one.kind == "text":
                column[:] = ""
            elif one.kind == "any":
                column[:] = None
        has = [np.zeros(count, np.bool_) for _ in wants]
        return cls(joined, ToldColumns(values, has, count), np.zeros(count, np.bool_), ends)

    def refuse(self, rows: Rows, is_bad: Mask | None) -> None:
        if is_bad is not None:
            self.is_bad[rows] |= is_bad

    def keep(self, wants: Sequence[Want], rows: Rows, values: Any) -> None:
        """These are the values of some rows; None: something is there, whatever it is."""
        for one in wants:
            self.told.has[one.number][rows] = True
            if values is not None and one.kind != "presence":
                self.told.values[one.number][rows] = _plain(values) if one.kind == "any" else values


def _plain(values: Any) -> Any:
    """As values of Python, which compare as those of a message do."""
    plain: Any = values.tolist() if isinstance(values, np.ndarray) else values
    return plain


ReadMany = Callable[[Joined, Ints], tuple[Ints, ToldColumns, Ints]]


def read_many(
    wants: Sequence[Want], walk_through: Callable[[Walk, Ints, Ints], Ints], start: int
) -> ReadMany:
    """What reads those messages, of many, that are of one schema.

    The bytes before `start` are not the message's; `walk_through` goes from there on and says where
    each message ends by its schema. What is made gives back which messages it read, what they tell,
    and which it did not read: these are no messages of the schema, or rare ones.
    """

    def read(joined: Joined, rows: Ints) -> tuple[Ints, ToldColumns, Ints]:
        end = joined.ends[rows]
        walk = Walk.through(joined, wants, end)
        is_bad = walk.is_bad
        is_bad |= walk_through(walk, joined.starts[rows] + start, end) != end
        for one in wants:
            if one.must_be is not None:
                is_bad |= walk.told.has[one.number] != one.must_be
        if not is_bad.any():
            return rows, walk.told, rows[:0]
        good = np.flatnonzero(~is_bad)
        return rows[good], walk.told.kept(good), rows[is_bad]

    return read


def below(rows: Rows, chosen: Ints) -> Rows:
    """Those of some rows that are at these places among them."""
    return chosen if isinstance(rows, slice) else rows[chosen]
