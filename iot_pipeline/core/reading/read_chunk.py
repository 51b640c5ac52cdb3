"""The messages of many records become columns: the plain ones together, the others one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.columns import DTYPES, Mask, column_of, join_masks
from iot_pipeline.core.reading.declaration import IgnoreRule, TimeUnit
from iot_pipeline.core.reading.declared_times import (
    EARLIEST_MS,
    EARLIEST_SECONDS,
    LATEST_MS,
    LATEST_SECONDS,
    PER_SECOND,
    iso_ms,
    timestamp_ms,
    timestamps_ms,
)
from iot_pipeline.core.reading.decoding import UNREADABLE, ReadingDecoder, Shape, exact_ends
from iot_pipeline.core.reading.messages import Ignored, Reading, Rejection
from iot_pipeline.core.reading.quantities import QuantityType
from iot_pipeline.core.reading.told_columns import Getter, ToldColumns

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[Any]

_NO_TIME = -1
# What a number is kept as until it is known to be within its limits.
_WIDEST: dict[QuantityType, QuantityType] = {"float": "double", "int": "bigint"}


@dataclass(slots=True)
class DecodedChunk:
    """The readings of a chunk, in its order: parallel columns, all of one length; maybe none.

    `values` has a column per quantity, and `has` which readings have it; None: all of them.
    `left_out` are the places in the chunk of those that are no
    readings, ascending: each is in `rejections`, with its place, or counted in `ignored`.
    """

    devices: list[str]
    ms: Ints
    values: list[Column]
    has: list[Mask | None]
    left_out: list[int] = field(default_factory=list)
    rejections: list[tuple[int, Rejection]] = field(default_factory=list)
    ignored: int = 0


def read_chunk(decoder: ReadingDecoder, chunk: RecordChunk) -> DecodedChunk:
    """The readings of these records.

    A microsecond per record here is a third of what a drain costs, so what can be done with all
    records at once is done by functions in C; loops have what is left.
    """
    shape = decoder.shape
    work = _Work(decoder, chunk)
    if shape is None:
        for at in range(len(chunk)):
            work.read_by_path(at)
        return work.result([])
    together, left = decoder.read_together(chunk.values)
    parts = [_Plain.of(shape, work, places, told) for places, told in together]
    if left is None or len(left):
        parts.append(_Plain.of(shape, work, *work.read_plain(left)))
    return work.result(parts)


@dataclass(slots=True)
class _Work:
    """Sorts the records of a chunk; those that are not plain are read by path."""

    decoder: ReadingDecoder
    chunk: RecordChunk
    rejections: list[tuple[int, Rejection]] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    by_path: list[tuple[int, Reading]] = field(default_factory=list)

    def read_plain(self, left: Ints | None) -> tuple[Ints, "_Messages"]:
        """The plain ones of some places, or of all, and their places."""
        decoder, values = self.decoder, self.chunk.values
        assert decoder.shape is not None, "asked only where there is one"
        places = np.arange(len(values)) if left is None else left
        if left is not None:
            values = [values[at] for at in left.tolist()]
        decode = decoder.shape.decode if decoder.are_small(values) else decoder.decode_small
        found: list[Any] = []
        odd: list[int] = []
        rest = iter(values)
        while True:
            try:
                found.extend(map(decode, rest))
                return np.delete(places, odd) if odd else places, _Messages(found)
            except UNREADABLE:
                # `found` has those before it, and `rest` goes on behind it.
                at = len(found) + len(odd)
                plain = decoder.decode_among_others(values[at])
                if plain is None:
                    odd.append(at)
                    self.read_by_path(int(places[at]))
                else:
                    found.append(plain)

    def read_by_path(self, at: int) -> None:
        chunk = self.chunk
        told = self.decoder.decode(
            chunk.values[at], chunk.message_keys[at], chunk.headers[at], chunk.produced_ms[at]
        )
        if isinstance(told, Rejection):
            self.rejections.append((at, told))
        elif isinstance(told, Ignored):
            self.ignored.append(at)
        else:
            self.by_path.append((at, told))

    def result(self, plain: list["_Plain"]) -> DecodedChunk:
        left_out = sorted([*(at for at, _ in self.rejections), *self.ignored])
        rejections, ignored = sorted(self.rejections, key=itemgetter(0)), len(self.ignored)
        if self.by_path or not plain:
            plain.append(self._read_by_path())
        both = plain[0] if len(plain) == 1 else _in_order(plain)
        return DecodedChunk(
            both.devices, both.ms, both.values, both.has, left_out, rejections, ignored
        )

    def _read_by_path(self) -> "_Plain":
        readings = self.by_path
        quantities = self.decoder.rules.quantities
        told: list[Sequence[Any]] = list(
            zip(*(self.decoder.values_of(one) for _, one in readings), strict=True)
        )
        told = told or [()] * len(quantities)
        columns = [column_of(one, item.type) for one, item in zip(told, quantities, strict=True)]
        return _Plain(
            np.array([at for at, _ in readings], np.int64),
            [one.device_id for _, one in readings],
            np.array([timestamp_ms(one.timestamp) for _, one in readings], np.int64),
            [column for column, _ in columns],
            [mask for _, mask in columns],
        )


@dataclass(slots=True)
class _Messages:
    """Messages of the plain form, one by one; `ToldColumns` are those that were read together."""

    found: list[Any]

    def __len__(self) -> int:
        return len(self.found)

    def listed(self, getter: Getter) -> list[Any]:
        return list(map(getter, self.found))

    def numbers(self, getter: Getter, dtype: npt.DTypeLike) -> Column:
        return np.fromiter(map(getter, self.found), dtype, len(self.found))

    def optional(self, getter: Getter, kind: QuantityType) -> tuple[Column, Mask | None]:
        return column_of(self.listed(getter), kind)


Told = _Messages | ToldColumns


@dataclass(slots=True)
class _Plain:
    """Columns of the messages that have the plain form; `places` are theirs in the chunk."""

    places: Ints
    devices: list[str]
    ms: Ints
    values: list[Column]
    has: list[Mask | None]

    @classmethod
    def of(cls, shape: Shape, work: _Work, places: Ints, told: Told) -> "_Plain":
        decoder, chunk = work.decoder, work.chunk
        declared = decoder.rules.declaration
        is_bad = np.zeros(len(told), np.bool_)
        leaves_limits = shape.leaves_limits
        for rule, getter in shape.ignored:
            _find_known(rule, told.listed(getter), is_bad)
        if shape.device is not None:
            devices = told.listed(shape.device)
        else:
            devices = _devices_beside(declared.device.header, chunk, places, is_bad)
        if shape.time is None:
            ms = np.array(chunk.produced_ms, np.int64)[places]
            is_bad |= (ms < EARLIEST_MS) | (ms >= LATEST_MS)
        else:
            unit = declared.time.unit
            ms = _times(shape.time, unit, told, is_bad, leaves_limits=leaves_limits)
        values: list[Column] = []
        has: list[Mask | None] = []
        for quantity, getter in zip(decoder.rules.quantities, shape.columns, strict=True):
            kind: QuantityType = "double" if quantity.is_converted else quantity.type
            if leaves_limits:
                kind = _WIDEST.get(kind, kind)
            mask = None
            if quantity.optional:
                column, mask = told.optional(getter, kind)
            else:
                column = told.numbers(getter, DTYPES[kind])
            if leaves_limits and quantity.is_number and not quantity.is_converted:
                least, greatest = exact_ends(quantity)
                is_out = ~((column >= least) & (column <= greatest))
                is_bad |= is_out if mask is None else is_out & mask
                with np.errstate(over="ignore"):
                    column = column.astype(DTYPES[quantity.type])
            if quantity.is_converted:
                least, greatest = quantity.ends
                with np.errstate(over="ignore"):
                    column = column * quantity.scale + quantity.shift
                    is_out = ~((column >= least) & (column <= greatest))
                    if mask is not None:
                        is_out &= mask
                        column[~mask] = 0.0
                    is_bad |= is_out
                    column = column.astype(DTYPES[quantity.type])
            values.append(column)
            has.append(mask)
        masks = [mask for mask in has if mask is not None]
        if len(masks) == len(has):
            # A reading without any quantity is none.
            is_bad |= ~np.logical_or.reduce(masks)
        if not is_bad.any():
            return cls(places, devices, ms, values, has)
        for at in places[is_bad].tolist():
            work.read_by_path(at)
        good = ~is_bad
        kept = np.flatnonzero(good).tolist()
        return cls(
            places[good],
            [devices[at] for at in kept],
            ms[good],
            [one[good] for one in values],
            [mask if mask is None else mask[good] for mask in has],
        )


def _in_order(parts: Sequence[_Plain]) -> _Plain:
    """All of them, in the order of the log."""
    places = np.concatenate([one.places for one in parts])
    order = np.argsort(places, kind="stable")
    devices = [device for one in parts for device in one.devices]
    counts = [len(one.places) for one in parts]
    masks = [join_masks(has, counts) for has in zip(*(one.has for one in parts), strict=True)]
    return _Plain(
        places[order],
        [devices[at] for at in order.tolist()],
        np.concatenate([one.ms for one in parts])[order],
        [
            np.concatenate(columns)[order]
            for columns in zip(*(one.values for one in parts), strict=True)
        ],
        [mask if mask is None else mask[order] for mask in masks],
    )


def _times(
    getter: Getter, unit: TimeUnit, told: Told, is_bad: Column, *, leaves_limits: bool
) -> Ints:
    if unit == "seconds":
        seconds = told.numbers(getter, np.float64)
        if leaves_limits:
            is_time = (seconds >= EARLIEST_SECONDS) & (seconds < LATEST_SECONDS)
            is_bad |= ~is_time
            seconds = np.where(is_time, seconds, EARLIEST_SECONDS)
        return timestamps_ms(seconds)
    if unit == "iso8601":
        ms = np.fromiter(map(_iso_or_none, told.listed(getter)), np.int64, len(told))
        is_bad |= (ms < EARLIEST_MS) | (ms >= LATEST_MS)
        return ms
    ticks = told.numbers(getter, np.int64)
    ms = ticks if unit == "milliseconds" else ticks // (PER_SECOND[unit] // 1000)
    if leaves_limits:
        is_bad |= (ms < EARLIEST_MS) | (ms >= LATEST_MS)
    return ms


def _iso_or_none(told: str) -> int:
    try:
        return iso_ms(told)
    except ValueError:
        return _NO_TIME


def _devices_beside(header: str, chunk: RecordChunk, places: Ints, is_bad: Column) -> list[str]:
    """The device_ids that are no part of the messages; "" where there is none to be read."""
    kept = places.tolist()
    contents: list[bytes | None]
    if header:
        contents = [_last(chunk.headers[at], header) for at in kept]
    else:
        contents = [chunk.message_keys[at] for at in kept]
    devices = []
    for number, content in enumerate(contents):
        try:
            devices.append((content or b"").decode())
        except UnicodeDecodeError:
            devices.append("")
        if not devices[-1]:
            is_bad[number] = True
    return devices


def _last(headers: Any, name: str) -> bytes | None:
    return next((content for found, content in reversed(headers or []) if found == name), None)


def _find_known(rule: IgnoreRule, told: list[Any], is_bad: Column) -> None:
    """Mark what a rule may know; reading by path then says whether it does."""
    try:
        if set(told).isdisjoint(rule.equals):
            return
    except TypeError:
        pass  # a list or an object: none of them can be equal, but others may be
    for at, one in enumerate(told):
        if one is not UNSET and any(one == equal for equal in rule.equals):
            is_bad[at] = True
