"""The newest reading of every device, asked of the rows themselves: right however late they came.

One question of one row per device, for rows lie newest first; devices without a row on their
newest day are asked about the day before. In bounded memory, and nothing is kept for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice, repeat
from operator import itemgetter
from typing import Any

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.proof.read_back import newest_us, values_in
from iot_pipeline.core.reading.spans import Span
from iot_pipeline.core.reading.write_times import arrived_ms
from iot_pipeline.core.times import MS_PER_DAY, day_number, day_of
from iot_pipeline.stages.ports.readings import DeviceDays, SensorData
from iot_pipeline.stages.requests import ask_all

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Newest:
    """A device's reading with the highest time of its own clock, and when it arrived."""

    device_id: str
    measured_ms: int
    arrived_ms: int
    values: tuple[Any, ...]


def newest_readings(
    rows: SensorData,
    known: DeviceDays,
    limits: QualityLimits,
    as_of_ms: int,
    days_back: int,
    devices: Sequence[str] = (),
) -> Iterator[Newest]:
    """By name, each device that has a reading of the last days.

    Args:
        as_of_ms: now; a reading further ahead than a right clock may be is passed over.
        days_back: how many days are looked at, today's first.
        devices: only these; empty: all.

    Raises:
        TransientError: Cassandra did not answer.
    """
    # A clock that is right may be ahead of midnight.
    last = (as_of_ms + round(limits.ahead_ms)) // MS_PER_DAY
    first = as_of_ms // MS_PER_DAY - days_back
    days = [n for day in reversed(known.days()) if first < (n := day_number(day)) <= last]
    named: Iterator[tuple[str, list[int]]]
    if devices:
        chosen = ((name, {day_number(day) for day in known.days_of(name)}) for name in devices)
        named = ((name, [day for day in days if day in has]) for name, has in chosen)
    else:
        named = _by_name(known, days)
    while part := dict(islice(named, _AT_ONCE)):
        yield from _newest_of(rows, limits, as_of_ms, part)


def _by_name(known: DeviceDays, days: Iterable[int]) -> Iterator[tuple[str, list[int]]]:
    """Each device with its days, newest first."""
    walks = [zip(known.walk(day_of(day)), repeat(-day)) for day in days]
    for name, found in groupby(merge(*walks), key=itemgetter(0)):
        yield name, [-day for _, day in found]


def _newest_of(
    rows: SensorData, limits: QualityLimits, as_of_ms: int, days_of: dict[str, list[int]]
) -> Iterator[Newest]:
    found: dict[str, Newest] = {}
    left = {name: days for name, days in days_of.items() if days}
    while left:
        spans = []
        for name, days in left.items():
            end = min((days[0] + 1) * MS_PER_DAY - 1, as_of_ms + round(limits.of(name).ahead_ms))
            spans.append(Span(name, days[0], days[0] * MS_PER_DAY, end))
        for span, answer in ask_all(spans, lambda span: rows.start_range(span, 1), rows.wait):
            for ms, stored in answer.found:
                at = arrived_ms(newest_us(stored))
                found[span.device_id] = Newest(span.device_id, ms, at, values_in(stored))
        left = {name: days[1:] for name, days in left.items() if name not in found and days[1:]}
    yield from (found[name] for name in days_of if name in found)
