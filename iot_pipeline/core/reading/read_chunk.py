"""The messages of many records become columns: the plain ones together, the others one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
)
from iot_pipeline.core.reading.decoding import UNREADABLE, ReadingDecoder, Shape, exact_ends
from iot_pipeline.core.reading.messages import Ignored, Reading, Rejection
from iot_pipeline.core.reading.quantities import QuantityType

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


def timestamps_ms(seconds: npt.NDArray[np.float64]) -> Ints:
    """`timestamp_ms` of each: numpy, too, rounds halves to the even one."""
    return np.rint(seconds * 1e6).astype(np.int64) // 1000


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
        return work.result(None)
    plain = work.read_plain()
    return work.result(_Plain.of(shape, decoder, chunk, plain, work))


@dataclass(slots=True)
class _Work:
    """Sorts the records of a chunk; those that are not plain are read by path."""

    decoder: ReadingDecoder
    chunk: RecordChunk
    rejections: list[tuple[int, Rejection]] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    by_path: list[tuple[int, Reading]] = field(default_factory=list)
    # The places of all that are not plain.
    odd: list[int] = field(default_factory=list)

    def read_plain(self) -> list[Any]:
        decoder, values = self.decoder, self.chunk.values
        assert decoder.shape is not None, "asked only where there is one"
        decode = decoder.shape.decode if decoder.are_small(values) else decoder.decode_small
        found: list[Any] = []
        left = iter(values)
        while True:
            try:
                found.extend(map(decode, left))
                return found
            except UNREADABLE:
                # `found` has those before it, and `left` goes on behind it.
                at = len(found) + len(self.odd)
                plain = decoder.decode_among_others(values[at])
                if plain is None:
                    self.read_by_path(at)
                else:
                    found.append(plain)

    def read_by_path(self, at: int) -> None:
        chunk = self.chunk
        told = self.decoder.decode(
            chunk.values[at], chunk.message_keys[at], chunk.headers[at], chunk.produced_ms[at]
        )
        self.odd.append(at)
        if isinstance(told, Rejection):
            self.rejections.append((at, told))
        elif isinstance(told, Ignored):
            self.ignored.append(at)
        else:
            self.by_path.append((at, told))

    def result(self, plain: "_Plain | None") -> DecodedChunk:
        left_out = sorted([*(at for at, _ in self.rejections), *self.ignored])
        rejections, ignored = sorted(self.rejections, key=_place_of), len(self.ignored)
        if plain is not None and not self.by_path:
            return DecodedChunk(
                plain.devices, plain.ms, plain.values, plain.has, left_out, rejections, ignored
            )
        readings = sorted(self.by_path, key=_place_of)
        times = np.array([timestamp_ms(one.timestamp) for _, one in readings], np.int64)
        devices = [one.device_id for _, one in readings]
        quantities = self.decoder.rules.quantities
        told: list[Sequence[Any]] = list(
            zip(*(self.decoder.values_of(one) for _, one in readings), strict=True)
        )
        told = told or [()] * len(quantities)
        columns = [column_of(one, item.type) for one, item in zip(told, quantities, strict=True)]
        values, has = [column for column, _ in columns], [mask for _, mask in columns]
        if plain is None:
            return DecodedChunk(devices, times, values, has, left_out, rejections, ignored)
        # Back into the order of the log.
        places = np.concatenate([plain.places, np.array([at for at, _ in readings], np.int64)])
        order = np.argsort(places, kind="stable")
        both = [*plain.devices, *devices]
        return DecodedChunk(
            [both[at] for at in order.tolist()],
            np.concatenate([plain.ms, times])[order],
            [np.concatenate(both)[order] for both in zip(plain.values, values, strict=True)],
            [
                mask if mask is None else mask[order]
                for mask in (
                    join_masks(both, [len(plain.ms), len(times)])
                    for both in zip(plain.has, has, strict=True)
                )
            ],
            left_out,
            rejections,
            ignored,
        )


@dataclass(slots=True)
class _Plain:
    """Columns of the messages that have the plain form; `places` are theirs in the chunk."""

    places: Ints
    devices: list[str]
    ms: Ints
    values: list[Column]
    has: list[Mask | None]

    @classmethod
    def of(
        cls,
        shape: Shape,
        decoder: ReadingDecoder,
        chunk: RecordChunk,
        found: list[Any],
        work: _Work,
    ) -> "_Plain":
        places = np.arange(len(chunk))
        if work.odd:
            places = np.delete(places, work.odd)
        declared = decoder.rules.declaration
        is_bad = np.zeros(len(found), np.bool_)
        leaves_limits = shape.leaves_limits
        for rule, getter in shape.ignored:
            _find_known(rule, list(map(getter, found)), is_bad)
        if shape.device is not None:
            devices = list(map(shape.device, found))
        else:
            devices = _devices_beside(declared.device.header, chunk, places, is_bad)
        if shape.time is None:
            ms = np.array(chunk.produced_ms, np.int64)[places]
            is_bad |= (ms < EARLIEST_MS) | (ms >= LATEST_MS)
        else:
            unit = declared.time.unit
            ms = _times(shape.time, unit, found, is_bad, leaves_limits=leaves_limits)
        values: list[Column] = []
        has: list[Mask | None] = []
        for quantity, getter in zip(decoder.rules.quantities, shape.columns, strict=True):
            kind: QuantityType = "double" if quantity.is_converted else quantity.type
            if leaves_limits:
                kind = _WIDEST.get(kind, kind)
            mask = None
            if quantity.optional:
                column, mask = column_of(list(map(getter, found)), kind)
            else:
                column = np.fromiter(map(getter, found), DTYPES[kind], len(found))
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


def _times(
    getter: Any, unit: TimeUnit, found: Sequence[Any], is_bad: Column, *, leaves_limits: bool
) -> Ints:
    if unit == "seconds":
        seconds = np.fromiter(map(getter, found), np.float64, len(found))
        if leaves_limits:
            is_time = (seconds >= EARLIEST_SECONDS) & (seconds < LATEST_SECONDS)
            is_bad |= ~is_time
            seconds = np.where(is_time, seconds, EARLIEST_SECONDS)
        return timestamps_ms(seconds)
    if unit == "iso8601":
        ms = np.fromiter(map(_iso_or_none, map(getter, found)), np.int64, len(found))
        is_bad |= (ms < EARLIEST_MS) | (ms >= LATEST_MS)
        return ms
    ticks = np.fromiter(map(getter, found), np.int64, len(found))
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


_place_of: Callable[[tuple[int, Any]], int] = lambda item: item[0]  # noqa: E731
