"""Readings in columns: a number of each kind per row, and the device_ids behind their codes.

An object per row takes 290 to 440 bytes and as many steps of the interpreter; a row here takes
about `bytes_per_row` bytes, and what is done with many rows is done by numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from iot_pipeline.core.reading.messages import find_device_id_problem
from iot_pipeline.core.reading.quantities import Quantity, QuantityType
from iot_pipeline.core.reading.write_times import Row

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
# Values of a quantity, of the type in DTYPES; text is objects of str.
Values = npt.NDArray[Any]
# Which of some rows have a quantity; what stands in `Values` for the others means nothing.
Mask = npt.NDArray[np.bool_]

DTYPES: dict[QuantityType, np.dtype[Any]] = {
    "double": np.dtype(np.float64),
    "float": np.dtype(np.float32),
    "int": np.dtype(np.int32),
    "bigint": np.dtype(np.int64),
    "boolean": np.dtype(np.bool_),
    "text": np.dtype(object),
}
# What stands for a value that is absent.
_FILLERS: dict[QuantityType, object] = {"boolean": False, "text": "", "int": 0, "bigint": 0}
NO_DEVICE = -1
# What a device takes beside its id, which is kept twice: objects, places in a dict and in lists.
_DEVICE_BYTES = 180
# Producers that send random names must not become memory.
_MOST_DEVICES = 200_000
_FIRST_ROWS = 1024


class DeviceCodes(dict[str, int]):
    """device_id -> code, from 0 on in the order of their first readings.

    Asked for an id that no device can have (`codes[device_id]`) it answers NO_DEVICE, and keeps
    nothing. Codes stay valid as long as the object: rows that have them refer to it.
    """

    __slots__ = ("_id_bytes", "_ranks", "encoded", "ids", "lengths")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.encoded: list[bytes] = []
        # Bytes of each id.
        self.lengths: Ints = np.zeros(_FIRST_ROWS, np.int64)
        self._id_bytes = 0
        self._ranks: Codes = np.zeros(0, np.int32)

    def __missing__(self, device_id: str) -> int:
        if find_device_id_problem(device_id) is not None:
            return NO_DEVICE
        return self.add(device_id)

    def add(self, device_id: str) -> int:
        """The code of an id, whatever it looks like."""
        known = self.get(device_id)
        if known is not None:
            return known
        code = self[device_id] = len(self.ids)
        encoded = device_id.encode()
        self.ids.append(device_id)
        self.encoded.append(encoded)
        if code == len(self.lengths):
            self.lengths = np.concatenate([self.lengths, np.zeros_like(self.lengths)])
        self.lengths[code] = len(encoded)
        self._id_bytes += len(encoded)
        return code

    @property
    def size_bytes(self) -> int:
        """About what all of it takes in memory."""
        return len(self) * _DEVICE_BYTES + 2 * self._id_bytes

    def ranks(self) -> Codes:
        """By code, the place of a device among all: by the length of its id, then by its code.

        Rows whose ids have one length are rows of one length on the wire.
        """
        count = len(self.ids)
        if len(self._ranks) != count:
            by_length = np.argsort(self.lengths[:count], kind="stable")
            self._ranks = np.empty(count, np.int32)
            self._ranks[by_length] = np.arange(count, dtype=np.int32)
        return self._ranks

    def renewed(self) -> "DeviceCodes":
        """These codes; new ones when there are too many to keep."""
        return DeviceCodes() if len(self) > _MOST_DEVICES else self


def column_of(told: Sequence[Any], kind: QuantityType) -> tuple[Values, Mask | None]:
    """What readings tell of one quantity, None and UNSET being nothing, as a column.

    Returns:
        The values, and which readings have one; None: all of them.
    """
    if None not in told and UNSET not in told:
        return np.array(told, DTYPES[kind]), None
    filler = _FILLERS.get(kind, 0.0)
    is_there = [one is not None and one is not UNSET for one in told]
    values = [one if has else filler for one, has in zip(told, is_there, strict=True)]
    return np.array(values, DTYPES[kind]), np.array(is_there)


def all_there(count: int) -> Mask:
    return np.ones(count, np.bool_)


def join_masks(masks: Sequence[Mask | None], counts: Sequence[int]) -> Mask | None:
    """Those of rows that are put behind each other; None: all of them have the quantity."""
    if all(mask is None for mask in masks):
        return None
    return np.concatenate(
        [
            all_there(count) if mask is None else mask
            for mask, count in zip(masks, counts, strict=True)
        ]
    )


def bytes_per_row(quantities: Sequence[Quantity]) -> int:
    """What a row takes in `Columns`, but for texts themselves."""
    cells = sum(DTYPES[quantity.type].itemsize + quantity.optional for quantity in quantities)
    return 3 * 8 + 2 * 4 + cells


@dataclass(slots=True, eq=False)
class Columns:
    """Rows as they came, the places [0, count) of each column.

    `ms` is the device's time in milliseconds, `written_us` the write time; `values` has a column
    per quantity, in the pipeline's order, of its type, and `has` which rows have that quantity;
    None: all rows.
    """

    codes: DeviceCodes
    count: int = 0
    ms: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    written_us: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    offset: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    partition: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    code: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    values: list[Values] = field(default_factory=list)
    has: list[Mask | None] = field(default_factory=list)

    @classmethod
    def of(cls, codes: DeviceCodes, quantities: Sequence[Quantity]) -> "Columns":
        """Without rows yet."""
        return cls(
            codes,
            values=[np.empty(0, DTYPES[item.type]) for item in quantities],
            has=[np.empty(0, np.bool_) if item.optional else None for item in quantities],
        )

    @property
    def may_lack_cells(self) -> bool:
        """Whether a row need not have every quantity."""
        return any(mask is not None for mask in self.has)

    def extend(
        self,
        ms: Ints,
        written_us: Ints,
        offset: Ints,
        partition: Codes | int,
        code: Codes,
        values: Sequence[Values],
        has: Sequence[Mask | None],
    ) -> None:
        """Put rows behind those that are there."""
        start, end = self.count, self.count + len(ms)
        if end > len(self.ms):
            self._resize(max(end, _FIRST_ROWS, len(self.ms) * 5 // 4))
        self.ms[start:end] = ms
        self.written_us[start:end] = written_us
        self.offset[start:end] = offset
        self.partition[start:end] = partition
        self.code[start:end] = code
        for column, added in zip(self.values, values, strict=True):
            column[start:end] = added
        for mask, is_there in zip(self.has, has, strict=True):
            if mask is not None:
                mask[start:end] = True if is_there is None else is_there
        self.count = end

    def trim(self) -> None:
        """Give back the room that is kept for more rows."""
        if len(self.ms) > self.count:
            self._resize(self.count)

    def _resize(self, rows: int) -> None:
        # In place: a large array is moved by the kernel without a copy. Nothing refers to an array
        # before the micro-batch is built, so none is left behind (`refcheck` would count names).
        columns: list[npt.NDArray[Any]]
        columns = [self.ms, self.written_us, self.offset, self.partition, self.code, *self.values]
        columns += [mask for mask in self.has if mask is not None]
        for column in columns:
            column.resize(rows, refcheck=False)

    def rows(self, places: Codes | Ints) -> list[Row]:
        """Those at `places`, as values of Python; None is a quantity that a row does not have."""
        return list(
            zip(
                self.written_us[places].tolist(),
                self.offset[places].tolist(),
                self.partition[places].tolist(),
                *(
                    cells_of(column[places], mask if mask is None else mask[places])
                    for column, mask in zip(self.values, self.has, strict=True)
                ),
                strict=True,
            )
        )


def cells_of(column: Values, mask: Mask | None) -> list[Any]:
    """The values of a column as values of Python; None where a row has none."""
    if mask is not None and not mask.all():
        column = column.astype(object)
        column[~mask] = None
    cells: list[Any] = column.tolist()
    return cells
