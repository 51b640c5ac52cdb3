"""States as they are kept between runs, and a kept one put before what a run has seen since.

Belongs here: the bytes, and which of two states says what. Does not belong here: the table
(`clients.device_states`). Kept states are derived: what cannot be read is made again from rows.
"""

from collections import Counter
from copy import copy
from itertools import accumulate, islice
from operator import sub

import msgspec

from iot_pipeline.core.fleet.delays import VERSION as RECORD_VERSION
from iot_pipeline.core.fleet.delays import FleetRecord
from iot_pipeline.core.fleet.evidence import WINDOW_MS, Half
from iot_pipeline.core.fleet.state import HOUR_MS, HOURS, TAIL, VERSION, DeviceState

# Kept as the time before the last arrival.
_TIMES = (
    *("begin_ms", "unchanged_since_ms", "late_at_ms", "steady_since_ms", "steady_at_ms"),
    *("clock_at_ms", "odd_at_ms", "apart_at_ms", "backfilled_at_ms", "visit_ms"),
)
_ENCODER = msgspec.msgpack.Encoder()
_STATES = msgspec.msgpack.Decoder(DeviceState)
_RECORDS = msgspec.msgpack.Decoder(FleetRecord)


def encode_state(state: DeviceState) -> bytes:
    """What `decode_state` reads back equal: times and hours by their differences, to be small."""
    kept = copy(state)
    arrived_ms, tail = state.arrived_ms, state.tail
    hour = arrived_ms // HOUR_MS
    for name in _TIMES:
        ms = getattr(kept, name)
        if ms:
            # Never 0, which says that there is none.
            setattr(kept, name, 2 * (arrived_ms - ms) + 1)
    kept.tail = [*tail[:1], *map(sub, islice(tail, 1, None), tail)]
    kept.hours = {at - hour: count for at, count in state.hours.items()}
    if state.lacking or state.unsure_hours:
        kept.lacking = {at - hour: interval for at, interval in state.lacking.items()}
        kept.unsure_hours = [at - hour for at in state.unsure_hours]
    return _ENCODER.encode(kept)


def decode_state(content: bytes) -> DeviceState | None:
    """The state; None of one that another version of us kept."""
    try:
        state = _STATES.decode(content)
    except msgspec.DecodeError:
        return None
    if state.version != VERSION:
        return None
    arrived_ms = state.arrived_ms
    hour = arrived_ms // HOUR_MS
    for name in _TIMES:
        short = getattr(state, name)
        if short:
            setattr(state, name, arrived_ms - (short - 1) // 2)
    state.tail = list(accumulate(state.tail))
    state.hours = {at + hour: count for at, count in state.hours.items()}
    if state.lacking or state.unsure_hours:
        state.lacking = {at + hour: interval for at, interval in state.lacking.items()}
        state.unsure_hours = [at + hour for at in state.unsure_hours]
    return state


def encode_record(record: FleetRecord) -> bytes:
    """What `decode_record` reads back equal."""
    return _ENCODER.encode(record)


def decode_record(content: bytes) -> FleetRecord | None:
    """The record; None of one that another version of us kept."""
    try:
        record = _RECORDS.decode(content)
    except msgspec.DecodeError:
        return None
    return record if record.version == RECORD_VERSION else None


def merge_records(older: FleetRecord | None, newer: FleetRecord) -> FleetRecord:
    """What was kept of the fleet, and what was counted since."""
    if older is None:
        return newer
    for hour, delays in newer.hours.items():
        older.add(hour, delays.counts, delays.largest_ms)
    return older


def merge(older: DeviceState, newer: DeviceState) -> DeviceState:
    """What taking the readings of `older` and then those of `newer` would have given.

    The step from the last reading of the one to the first of the other is not looked at, and what
    was learned of pauses is that of `newer` where it learned any.
    """
    if not newer.rows:
        older = older.copy()
        older.backfilled += newer.backfilled
        older.backfilled_at_ms = max(older.backfilled_at_ms, newer.backfilled_at_ms)
        return older
    merged = newer.copy()
    if not older.rows:
        merged.backfilled += older.backfilled
        return merged
    merged.begin_ms = older.begin_ms
    merged.rows += older.rows
    merged.arrived_ms = max(older.arrived_ms, newer.arrived_ms)
    merged.tail = (older.tail + newer.tail)[-TAIL:]
    is_same = (older.temperature, older.humidity) == (newer.temperature, newer.humidity)
    if newer.unchanged == newer.rows and is_same:
        merged.unchanged += older.unchanged
        merged.unchanged_since_ms = older.unchanged_since_ms
    hours = Counter(older.hours)
    hours.update(newer.hours)
    merged.hours = dict(sorted(hours.items())[-HOURS:])
    merged.unsure_hours = sorted({*older.unsure_hours, *newer.unsure_hours})[-HOURS:]
    merged.half, merged.before = _newest_halves(older, newer)
    merged.late_at_ms = max(older.late_at_ms, newer.late_at_ms)
    if newer.late_at_ms - older.late_at_ms <= WINDOW_MS:
        merged.late_most_ms = max(older.late_most_ms, newer.late_most_ms)
    if older.clock_at_ms > newer.clock_at_ms:
        merged.clock_at_ms, merged.clock_off_ms = older.clock_at_ms, older.clock_off_ms
    if older.odd is not None and newer.odd_at_ms - older.odd_at_ms <= WINDOW_MS:
        worse = newer.odd is None or (
            (older.odd.before is None, older.odd.size) > (newer.odd.before is None, newer.odd.size)
        )
        merged.odd = older.odd if worse else newer.odd
        merged.odd_at_ms = max(older.odd_at_ms, newer.odd_at_ms)
    if older.apart_at_ms > newer.apart_at_ms:
        merged.apart_at_ms, merged.apart = older.apart_at_ms, older.apart
    merged.backfilled += older.backfilled
    merged.backfilled_at_ms = max(older.backfilled_at_ms, newer.backfilled_at_ms)
    if not newer.pauses:
        merged.visit_ms, merged.pauses, merged.pause_ms = (
            older.visit_ms,
            older.pauses,
            older.pause_ms,
        )
    merged.regular_votes = newer.regular_votes or older.regular_votes
    if not newer.interval_ms:
        merged.interval_ms = older.interval_ms
        merged.long_ms = older.long_ms
    merged.lacking = {**older.lacking, **newer.lacking}
    merged.next_hour = older.next_hour
    return merged


def _newest_halves(older: DeviceState, newer: DeviceState) -> tuple[Half, Half]:
    sums: dict[int, Half] = {0: Half()}
    for half in (older.before, older.half, newer.before, newer.half):
        known = sums.get(half.number)
        if known is None or not half.number:
            sums[half.number] = msgspec.structs.replace(half)
            continue
        known.rows += half.rows
        known.late += half.late
        known.outside += half.outside
        known.jumps += half.jumps
        known.delay_most_ms = max(known.delay_most_ms, half.delay_most_ms)
    before, half = sorted([Half(), *sums.values()], key=lambda half: half.number)[-2:]
    return half, before
