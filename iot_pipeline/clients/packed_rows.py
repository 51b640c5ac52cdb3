"""The bytes of rows as they stand in the body of a CQL BATCH, many of them made at once.

Rows whose device_ids have one length have one length themselves, so they are the rows of a matrix
of bytes that numpy fills column by column.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from iot_pipeline.clients.cassandra_answers import DAY_ZERO
from iot_pipeline.core.reading.columns import Codes, Ints, Mask, cells_of
from iot_pipeline.core.reading.quantities import QuantityType
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import arrived_ms, first_us

_PREPARED = 1
# The length of a value that leaves its cell as it is.
_UNSET = -2
# How the values of a column are written: big-endian numbers.
_WIRE: dict[QuantityType, str] = {
    "double": ">f8",
    "float": ">f4",
    "int": ">i4",
    "bigint": ">i8",
    "boolean": ">u1",
}

_pack_head = struct.Struct(">BH").pack
_pack_short = struct.Struct(">H").pack
_pack_int = struct.Struct(">i").pack


def statement_prefix(query_id: bytes, values: int) -> bytes:
    """What every row of one prepared statement begins with in a batch."""
    return _pack_head(_PREPARED, len(query_id)) + query_id + _pack_short(values)


@dataclass(slots=True)
class PackedBlock:
    """The bytes of the groups [first, end) of some rows.

    They may be sent until `fresh_until`, of the monotonic clock.
    """

    first: int
    end: int
    body: bytes
    # Where each group begins in `body`, and where the last one ends.
    begins: list[int]
    fresh_until: float = math.inf

    def of(self, rows: RowSlice) -> bytes:
        """Those of some of its groups."""
        begins = self.begins
        return self.body[begins[rows.first - self.first] : begins[rows.end - self.first]]


def pack_groups(
    prefix: bytes,
    groups: RowGroups,
    first: int,
    end: int,
    types: Sequence[QuantityType],
    ttl_of: Callable[[Ints, RowGroups], Ints] | None = None,
) -> PackedBlock:
    """The rows of the groups [first, end), one at least.

    Args:
        prefix: that of the prepared statement.
        groups: cheapest where ids of one length are neighbours.
        types: those of the columns that the values are for, in their order.
        ttl_of: seconds to live of the rows of groups, for their Kafka timestamps in ms; None: the
            statement has no TTL.
    """
    part = groups.part(first, end)
    lengths = part.columns.codes.lengths[part.codes]
    cuts = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(part)]
    pieces: list[bytes] = []
    sizes: list[int] = []
    for start, stop in pairwise(cuts):
        of_length = part.part(start, stop)
        body, of_groups = _rows_of_length(prefix, of_length, int(lengths[start]), types, ttl_of)
        pieces.append(body)
        sizes += of_groups
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return PackedBlock(first, end, body, list(accumulate(sizes, initial=0)))


def _rows_of_length(
    prefix: bytes,
    groups: RowGroups,
    length: int,
    types: Sequence[QuantityType],
    ttl_of: Callable[[Ints, RowGroups], Ints] | None,
) -> tuple[bytes, list[int]]:
    """The rows of groups whose ids have one length, and how many bytes those of each group are."""
    columns, places = groups.columns, groups.places()
    begins = _begins_of_rows(prefix, groups.codes, groups.days, columns.codes.encoded, length)
    begin = begins.view(f"V{begins.dtype.itemsize}")
    # What every row begins with ends with the length of the first value, the timestamp.
    fields = [
        _Field(begin.dtype.str, np.repeat(begin, groups.counts), has_length=False),
        _Field(">i8", columns.ms[places], has_length=False),
    ]
    blocks: list[_Block] = []
    texts: list[list[bytes]] = []
    for cql_type, column, mask in zip(types, columns.values, columns.has, strict=True):
        has = mask if mask is None else mask[places]
        if cql_type == "text":
            blocks.append(_Block.of(fields, len(places)))
            fields = []
            texts.append(_texts(cells_of(column[places], has)))
        else:
            fields.append(_Field(_WIRE[cql_type], column[places], has))
    written_us = columns.written_us[places]
    fields.append(_Field(">i8", written_us))
    if ttl_of is not None:
        fields.append(_Field(">i4", ttl_of(arrived_ms(written_us), groups)))
    blocks.append(_Block.of(fields, len(places)))
    if not texts:
        body, sizes = blocks[0].body()
        if sizes is None:
            return body, (groups.counts * blocks[0].row_bytes).tolist()
    else:
        rows = _with_texts(blocks, texts)
        body, sizes = b"".join(rows), np.fromiter(map(len, rows), np.int64, len(rows))
    of_groups = np.add.reduceat(sizes, np.cumsum(groups.counts) - groups.counts)
    return body, of_groups.tolist()


@dataclass(frozen=True, slots=True)
class _Field:
    """A value of each row, of one length: itself, big-endian, behind that length.

    Of rows that are not in `has`, if there is one, the length says that nothing is set.
    """

    kind: str
    values: npt.NDArray[Any]
    has: Mask | None = None
    has_length: bool = True


@dataclass(frozen=True, slots=True)
class _Block:
    """Some fields of each row, one row behind the other.

    `is_sent` says of each byte of each row whether it is one of the row's; None: all are.
    """

    rows: npt.NDArray[Any]
    is_sent: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, fields: Sequence[_Field], count: int) -> Self:
        layout: list[tuple[str, str]] = []
        for number, field in enumerate(fields):
            if field.has_length:
                layout.append((f"length_{number}", ">i4"))
            layout.append((f"value_{number}", field.kind))
        rows = np.empty(count, np.dtype(layout))
        is_sent = None
        for number, field in enumerate(fields):
            size = np.dtype(field.kind).itemsize
            if field.has_length:
                rows[f"length_{number}"] = size
            rows[f"value_{number}"] = field.values
            if field.has is None or field.has.all():
                continue
            rows[f"length_{number}"][~field.has] = _UNSET
            if is_sent is None:
                is_sent = np.ones((count, rows.dtype.itemsize), np.bool_)
            start = rows.dtype.fields[f"value_{number}"][1]  # type: ignore[index]
            is_sent[:, start : start + size] = field.has[:, np.newaxis]
        return cls(rows, is_sent)

    @property
    def row_bytes(self) -> int:
        """Of each row that has all fields."""
        return self.rows.dtype.itemsize

    def body(self) -> tuple[bytes, Ints | None]:
        """All rows, and how many bytes each has; None: all have as many."""
        if self.is_sent is None:
            return self.rows.tobytes(), None
        together = self.rows.view(np.uint8).reshape(len(self.rows), self.row_bytes)
        return together[self.is_sent].tobytes(), np.count_nonzero(self.is_sent, axis=1)

    def each(self) -> list[bytes]:
        """The bytes of each row."""
        body, sizes = self.body()
        lengths = [self.row_bytes] * len(self.rows) if sizes is None else sizes.tolist()
        ends = list(accumulate(lengths, initial=0))
        return [body[start:end] for start, end in pairwise(ends)]


def _texts(cells: Sequence[str | None]) -> list[bytes]:
    """Texts behind their lengths."""
    encoded = [None if text is None else text.encode() for text in cells]
    return [_pack_int(_UNSET) if text is None else _pack_int(len(text)) + text for text in encoded]


def _with_texts(blocks: Sequence[_Block], texts: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Rows whose texts stand between the blocks: each has a length of its own."""
    parts: list[Sequence[bytes]] = []
    for number, block in enumerate(blocks):
        parts.append(block.each())
        parts += texts[number : number + 1]
    return [b"".join(row) for row in zip(*parts, strict=True)]


def _begins_of_rows(
    prefix: bytes, codes: Codes, days: Ints, encoded: list[bytes], length: int
) -> npt.NDArray[Any]:
    """What the rows of each group begin with: prefix, device_id, day, length of the timestamp."""
    # V keeps the zeros at an id's end, S would drop them.
    layout: list[tuple[str, str]] = [
        ("prefix", f"V{len(prefix)}"),
        ("length", ">i4"),
        ("device", f"V{length}"),
        ("length_of_day", ">i4"),
        ("day", ">u4"),
        ("length_of_ms", ">i4"),
    ]
    begins = np.empty(len(codes), np.dtype(layout))
    begins["prefix"] = np.void(prefix)
    begins["length"] = length
    devices = b"".join([encoded[code] for code in codes.tolist()])
    begins["device"] = np.frombuffer(devices, f"V{length}")
    begins["length_of_day"] = 4
    begins["day"] = days + DAY_ZERO
    begins["length_of_ms"] = 8
    return begins


def pack_device(
    prefix: bytes, device_id: str, day_number: int, produced_ms: int, ttl: int | None
) -> bytes:
    """One device of a day, as it stands in the body of a BATCH."""
    device = device_id.encode()
    place = struct.pack(">iIii", 4, day_number + DAY_ZERO, 4, bucket_of(device_id))
    head = prefix + place + _pack_int(len(device)) + device
    if ttl is None:
        return head + struct.pack(">iq", 8, first_us(produced_ms))
    return head + struct.pack(">iqii", 8, first_us(produced_ms), 4, ttl)


def partition_routing_key(device: bytes, day_number: int) -> bytes:
    """The token's input for (device_id, day): each component with its length and a zero."""
    day = struct.pack(">HIx", 4, day_number + DAY_ZERO)
    return _pack_short(len(device)) + device + b"\0" + day
