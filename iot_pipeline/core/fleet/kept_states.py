"""States as they are kept between runs, and a kept one put before what a run has seen since.

Kept states are derived: what cannot be read is made again from rows.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from iot_pipeline.core.fleet.clocks import RESET, went_back, why_off
from iot_pipeline.core.fleet.delays import FleetRecord
from iot_pipeline.core.fleet.evidence import KEPT_HOURS, WINDOW_MS, Half
from iot_pipeline.core.fleet.state import TAIL, DeviceState, with_known
from iot_pipeline.core.reading.quantities import Quantity

_ENCODER = msgspec.msgpack.Encoder()
_T = TypeVar("_T", DeviceState, FleetRecord)


def encode(kept: DeviceState | FleetRecord, form: bytes = b"") -> bytes:
    """What `decode` reads back equal, halved by compressing it.

    Args:
        form: `form_of` the quantities whose values are in it; empty: there are none.
    """
    return form + zlib.compress(_ENCODER.encode(kept), 1)


def decode(kind: type[_T], content: bytes, form: bytes = b"") -> _T | None:
    """What was kept; None of what another version kept, or of other quantities."""
    if not content.startswith(form):
        return None
    try:
        return msgspec.msgpack.decode(zlib.decompress(content[len(form) :]), type=kind)
    except (msgspec.DecodeError, zlib.error):
        return None


def form_of(quantities: Sequence[Quantity]) -> bytes:
    """Differs where a kept value would be taken for one of another quantity."""
    names = [(quantity.name, quantity.type) for quantity in quantities]
    return zlib.crc32(repr(names).encode()).to_bytes(4)


def merge_records(older: FleetRecord | None, newer: FleetRecord) -> FleetRecord:
    """What was kept of the fleet, and what was counted since."""
    if older is None:
        return newer
    for hour, delays in newer.hours.items():
        older.add(hour, delays)
    return older


def merge(older: DeviceState, newer: DeviceState) -> DeviceState:
    """What taking the readings of `older` and then those of `newer` would have given.

    The step from the last reading of the one to the first of the other is not looked at, and what
    was learned of pauses is that of `newer` where it learned any.
    """
    merged = (newer if newer.rows else older).copy()
    merged.backfilled = older.backfilled + newer.backfilled
    merged.backfilled_at_ms = max(older.backfilled_at_ms, newer.backfilled_at_ms)
    if not newer.rows or not older.rows:
        return merged
    merged.begin_ms = older.begin_ms
    merged.rows += older.rows
    merged.arrived_ms = max(older.arrived_ms, newer.arrived_ms)
    merged.tail = (older.tail + newer.tail)[-TAIL:]
    if None in newer.values:
        merged.values = with_known(newer.values, older.values)
    if newer.unchanged == newer.rows and older.values == merged.values:
        merged.unchanged += older.unchanged
        merged.unchanged_since_ms = older.unchanged_since_ms
    hours = Counter(older.hours)
    hours.update(newer.hours)
    merged.hours = dict(sorted(hours.items())[-KEPT_HOURS:])
    merged.unsure_hours = sorted({*older.unsure_hours, *newer.unsure_hours})[-KEPT_HOURS:]
    merged.half, merged.before = _newest_halves(older, newer)
    merged.late_at_ms = max(older.late_at_ms, newer.late_at_ms)
    if newer.late_at_ms - older.late_at_ms <= WINDOW_MS:
        merged.late_most_ms = max(older.late_most_ms, newer.late_most_ms)
    if older.clock_at_ms > newer.clock_at_ms:
        merged.clock_at_ms, merged.clock_off_ms = older.clock_at_ms, older.clock_off_ms
    merged.restarts = older.restarts + newer.restarts
    if why_off(newer.begin_ms, newer.arrived_ms) == RESET:
        merged.restarts += went_back(older.measured_ms, newer.begin_ms)
    if older.odd is not None and newer.odd_at_ms - older.odd_at_ms <= WINDOW_MS:
        if newer.odd is None or older.odd.badness > newer.odd.badness:
            merged.odd = older.odd
        merged.odd_at_ms = max(older.odd_at_ms, newer.odd_at_ms)
    if older.apart_at_ms > newer.apart_at_ms:
        merged.apart_at_ms, merged.apart = older.apart_at_ms, older.apart
    if not newer.pauses:
        for name in ("visit_ms", "visit_event_ms", "pauses", "pause_ms"):
            setattr(merged, name, getattr(older, name))
    if newer.nights <= 1:
        _continue_nights(older, newer, merged)
    merged.regular_votes = newer.regular_votes or older.regular_votes
    if not newer.interval_ms:
        merged.interval_ms, merged.long_ms = older.interval_ms, older.long_ms
    merged.lacking = {**older.lacking, **newer.lacking}
    merged.next_hour = older.next_hour
    return merged


def _continue_nights(older: DeviceState, newer: DeviceState, merged: DeviceState) -> None:
    """The nights that `newer` has seen go on from those of `older`."""
    for name in ("nights", "night_ms", "night_at_ms"):
        setattr(merged, name, getattr(older, name))
    if newer.nights:
        merged.note_night(newer.night_at_ms, newer.night_ms)


def _newest_halves(older: DeviceState, newer: DeviceState) -> tuple[Half, Half]:
    sums: dict[int, Half] = {}
    for half in (older.before, older.half, newer.before, newer.half):
        if half.number:
            sums.setdefault(half.number, Half(half.number)).add(half)
    before, half = ([Half(), Half()] + [sums[number] for number in sorted(sums)])[-2:]
    return half, before
