"""The bytes of rows as they stand in the body of a CQL BATCH, many of them made at once.

Rows whose device_ids have one length have one length themselves, so they are the rows of a matrix
of bytes that numpy fills column by column.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from iot_pipeline.clients.cassandra import DAY_ZERO
from iot_pipeline.core.reading.columns import Codes, Ints
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import arrived_ms, first_us

_PREPARED = 1

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
    ttl_of: Callable[[Ints], Ints] | None = None,
) -> PackedBlock:
    """The rows of the groups [first, end), one at least.

    Args:
        prefix: that of the prepared statement.
        groups: cheapest where ids of one length are neighbours.
        ttl_of: seconds to live for Kafka timestamps in ms; None: the statement has no TTL.
    """
    part = groups.part(first, end)
    lengths = part.columns.codes.lengths[part.codes]
    cuts = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(part)]
    pieces: list[bytes] = []
    sizes: list[int] = []
    for start, stop in pairwise(cuts):
        of_length = part.part(start, stop)
        rows = _rows_of_length(prefix, of_length, int(lengths[start]), ttl_of)
        pieces.append(rows.tobytes())
        sizes += (of_length.counts * rows.dtype.itemsize).tolist()
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return PackedBlock(first, end, body, list(accumulate(sizes, initial=0)))


def _rows_of_length(
    prefix: bytes, groups: RowGroups, length: int, ttl_of: Callable[[Ints], Ints] | None
) -> npt.NDArray[Any]:
    columns, places = groups.columns, groups.places()
    begins = _begins_of_rows(prefix, groups.codes, groups.days, columns.codes.encoded, length)
    fields: list[tuple[str, Ints | npt.NDArray[np.float64], int]] = []
    written_us = columns.written_us[places]
    fields += [(">f8", column[places], 8) for column in columns.values]
    fields.append((">i8", written_us, 8))
    if ttl_of is not None:
        fields.append((">i4", ttl_of(arrived_ms(written_us)), 4))
    # Each value is its length and itself, big-endian. The length of the first, the timestamp,
    # stands at the end of what every row begins with.
    layout: list[tuple[str, str]] = [("begin", f"V{begins.dtype.itemsize}"), ("ms", ">i8")]
    for number, (kind, _, _) in enumerate(fields):
        layout += [(f"length_{number}", ">i4"), (f"value_{number}", kind)]
    rows = np.empty(len(places), np.dtype(layout))
    rows["begin"] = np.repeat(begins.view(f"V{begins.dtype.itemsize}"), groups.counts)
    rows["ms"] = columns.ms[places]
    for number, (_, values, size) in enumerate(fields):
        rows[f"length_{number}"] = size
        rows[f"value_{number}"] = values
    return rows


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
