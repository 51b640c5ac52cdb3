"""What a device's readings say of it, folded as they pass: a few numbers per device.

Belongs here: counting what is late, ahead, implausible or unchanged, cheaply enough for the hot
path of ingestion. Does not belong here: which counts are a problem (`core.data_quality`), where
rows come from (a finished micro-batch, or the table: `stages.data_quality`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import sub

from iot_pipeline.core.ingest import MicroBatch
from iot_pipeline.core.quality_limits import QualityLimits

# More devices than this are not kept one by one: random device ids must not become memory.
MOST_DEVICES = 50_000
_MOST_GROUPS = 1_000
_MOST_SAMPLES = 4_096
# The cost of folding in µs, measured and rounded up: a row's, and what each group of rows adds.
_ROW_COST_US = 0.3
_GROUP_COST_US = 4.0
# What folding may cost: so much per row of a micro-batch, and a little for each micro-batch, so
# that small ones, as a run that follows the topic makes them, are always looked at whole.
_ALLOWED_PER_ROW_US = 0.4
_ALLOWED_PER_BATCH_US = 1_000.0
_NUMBER_AT_END = re.compile(r"[\W_]*\d+$")


@dataclass(slots=True)
class Spread:
    """Percentiles of many values from a bounded sample of them, evenly spread over time."""

    values: list[int] = field(default_factory=list)
    largest: int | None = None
    _every: int = 1
    _skipped: int = 0

    def extend(self, values: Sequence[int], largest: int) -> None:
        """Take values in; `largest` is the largest of those that these are a sample of."""
        if self.largest is None or largest > self.largest:
            self.largest = largest
        if self._every == 1:
            self.values += values
        else:
            start = -self._skipped % self._every
            self.values += values[start :: self._every]
            self._skipped = (self._skipped + len(values)) % self._every
        while len(self.values) > _MOST_SAMPLES:
            self.values = self.values[::2]
            self._every *= 2
            self._skipped = 0

    def percentile(self, share: float) -> int:
        """The value that this share of values does not exceed; 0 when there are none."""
        if not self.values:
            return 0
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Jump:
    """Two neighbouring readings that are too far apart."""

    quantity: str
    before: float
    after: float
    measured_ms: int

    @property
    def size(self) -> float:
        return abs(self.after - self.before)


@dataclass(slots=True)
class DeviceTally:
    """One device: what was counted among its readings, and the last of them.

    Times are milliseconds since 1970: `measured` by the device's clock, `arrived` by the broker's.
    `backfilled` readings arrived so long after they were measured that nobody expected them
    sooner; they are neither late nor a sign of life. `unchanged` counts the readings at the end
    that have equal values in both quantities.
    """

    device_id: str
    rows: int = 0
    backfilled: int = 0
    late: int = 0
    late_least_ms: int = 0
    late_most_ms: int = 0
    late_first_ms: int = 0
    late_last_ms: int = 0
    ahead: int = 0
    ahead_most_ms: int = 0
    outside: int = 0
    furthest: tuple[str, float] | None = None
    jumps: int = 0
    worst_jump: Jump | None = None
    last_ms: int = 0
    last_arrived_ms: int = 0
    temperature: float = 0.0
    humidity: float = 0.0
    unchanged: int = 0
    unchanged_since_ms: int = 0

    def take(
        self,
        times_ms: Sequence[int],
        delays_ms: Sequence[int],
        temperatures: Sequence[float],
        humidities: Sequence[float],
        limits: QualityLimits,
    ) -> None:
        """Fold readings in, at least one, about in the order of their times.

        All sums here run in C over whole columns. Only what looks suspicious there is walked
        reading by reading: a clean fleet never is.
        """
        coldest, warmest = min(temperatures), max(temperatures)
        driest, dampest = min(humidities), max(humidities)
        least, most = min(delays_ms), max(delays_ms)
        if most > limits.late_seconds * 1000:
            self._count_late(times_ms, delays_ms, least, limits)
        else:
            self.last_arrived_ms = max(self.last_arrived_ms, times_ms[-1] + delays_ms[-1])
        if -least > limits.clock_ahead_seconds * 1000:
            self.ahead += sum(-delay > limits.clock_ahead_seconds * 1000 for delay in delays_ms)
            self.ahead_most_ms = max(self.ahead_most_ms, -least)
        if coldest < limits.temperature_low or warmest > limits.temperature_high:
            low, high = limits.temperature_low, limits.temperature_high
            self._count_outside("temperature", temperatures, low, high)
        if driest < limits.humidity_low or dampest > limits.humidity_high:
            self._count_outside("humidity", humidities, limits.humidity_low, limits.humidity_high)
        if self.rows:
            coldest, warmest = min(coldest, self.temperature), max(warmest, self.temperature)
            driest, dampest = min(driest, self.humidity), max(dampest, self.humidity)
        if warmest - coldest > limits.jump_celsius:
            limit = (limits.jump_celsius, limits.jump_celsius_per_minute)
            self._count_jumps("temperature", times_ms, temperatures, self.temperature, limit)
        if dampest - driest > limits.jump_humidity:
            limit = (limits.jump_humidity, limits.jump_humidity_per_minute)
            self._count_jumps("humidity", times_ms, humidities, self.humidity, limit)
        self._count_unchanged(times_ms, temperatures, humidities)
        self.rows += len(times_ms)
        self.last_ms = times_ms[-1]
        self.temperature, self.humidity = temperatures[-1], humidities[-1]

    def _count_late(
        self,
        times_ms: Sequence[int],
        delays_ms: Sequence[int],
        least: int,
        limits: QualityLimits,
    ) -> None:
        backfill_ms = limits.backfill_hours * 3_600_000
        if least > backfill_ms:
            self.backfilled += len(times_ms)
            return
        late_ms = limits.late_seconds * 1000
        for at, delay in zip(times_ms, delays_ms, strict=True):
            if delay > backfill_ms:
                self.backfilled += 1
                continue
            self.last_arrived_ms = max(self.last_arrived_ms, at + delay)
            if delay <= late_ms:
                continue
            if not self.late:
                self.late_least_ms = self.late_most_ms = delay
                self.late_first_ms = self.late_last_ms = at
            self.late += 1
            self.late_least_ms = min(self.late_least_ms, delay)
            self.late_most_ms = max(self.late_most_ms, delay)
            self.late_first_ms = min(self.late_first_ms, at)
            self.late_last_ms = max(self.late_last_ms, at)

    def _count_outside(
        self, quantity: str, values: Sequence[float], low: float, high: float
    ) -> None:
        outside = [value for value in values if not low <= value <= high]
        self.outside += len(outside)
        furthest = max(outside, key=lambda value: max(low - value, value - high))
        if self.furthest is None or abs(furthest) > abs(self.furthest[1]):
            self.furthest = (quantity, furthest)

    def _count_jumps(
        self,
        quantity: str,
        times_ms: Sequence[int],
        values: Sequence[float],
        before: float,
        limit: tuple[float, float],
    ) -> None:
        base, per_minute = limit
        steps = map(sub, values, islice(values, 1, None))
        if max(map(abs, steps), default=0.0) <= base and (
            not self.rows or abs(values[0] - before) <= base
        ):
            return
        readings = sorted(zip(times_ms, values, strict=True))
        if self.rows:
            readings.insert(0, (self.last_ms, before))
        for (at, value), (then, after) in zip(readings, islice(readings, 1, None), strict=False):
            allowed = base + per_minute * abs(then - at) / 60_000
            if abs(after - value) > allowed:
                self.jumps += 1
                jump = Jump(quantity, value, after, then)
                if self.worst_jump is None or jump.size > self.worst_jump.size:
                    self.worst_jump = jump

    def _count_unchanged(
        self,
        times_ms: Sequence[int],
        temperatures: Sequence[float],
        humidities: Sequence[float],
    ) -> None:
        rows = len(times_ms)
        same = count_unchanged(temperatures, humidities)
        last = (temperatures[-1], humidities[-1])
        if same == rows and self.rows and last == (self.temperature, self.humidity):
            self.unchanged += rows
        else:
            self.unchanged = same
            self.unchanged_since_ms = times_ms[-same]


def count_unchanged(temperatures: Sequence[float], humidities: Sequence[float]) -> int:
    """How many readings at the end have equal values; at least 1."""
    rows, warm, damp = len(temperatures), temperatures[-1], humidities[-1]
    same = 1
    while same < rows and temperatures[-1 - same] == warm and humidities[-1 - same] == damp:
        same += 1
    return same


def group_of(device_id: str) -> str:
    """The kind or place a device's name tells: what is left of it without the number at its end."""
    return _NUMBER_AT_END.sub("", device_id) or device_id


@dataclass(slots=True)
class FleetTally:
    """The devices of a fleet, folded micro-batch by micro-batch or from rows of the table.

    Folding costs at most half a microsecond per row of a micro-batch: where a micro-batch holds
    many devices with few rows each, some of them are left out, others in the next one.
    `rows_seen` of `rows` were folded. `ingested` are the delays from the broker to the
    acknowledged row, `delays` those from the event to the broker.
    """

    limits: QualityLimits
    devices: dict[str, DeviceTally] = field(default_factory=dict)
    delays: Spread = field(default_factory=Spread)
    delays_by_group: dict[str, Spread] = field(default_factory=dict)
    ingested: Spread = field(default_factory=Spread)
    rows: int = 0
    rows_seen: int = 0
    _turn: int = 0

    def observe(self, batch: MicroBatch, now_ms: int) -> None:
        """Take in a micro-batch whose rows are acknowledged.

        Args:
            batch: rows grouped by device and day.
            now_ms: when they were, by our clock.
        """
        groups = batch.groups
        if not groups:
            return
        rows = sum(map(len, groups.values()))
        self.rows += rows
        for counts in batch.counts.values():
            if counts.stored and counts.first_record_ms and counts.last_record_ms:
                waited = (now_ms - counts.last_record_ms, now_ms - counts.first_record_ms)
                self.ingested.extend(waited, waited[1])
        places = list(groups)
        allowed_us = _ALLOWED_PER_BATCH_US + _ALLOWED_PER_ROW_US * rows
        start = self._turn % len(places)
        taken = 0
        for place in chain(islice(places, start, None), islice(places, start)):
            group = groups[place]
            allowed_us -= _GROUP_COST_US + _ROW_COST_US * len(group)
            if allowed_us < 0:
                break
            taken += 1
            written, _, _, temperatures, humidities = zip(*group.values(), strict=True)
            times = list(group)
            delays = [at // 1000 - ms for at, ms in zip(written, times, strict=True)]
            self._fold(place[0], times, delays, temperatures, humidities)
        self._turn += taken

    def add_rows(self, device_id: str, rows: Iterable[tuple[int, int, float, float]]) -> None:
        """Take in rows of the table, oldest first: (measured, arrived, temperature, humidity)."""
        columns = list(zip(*rows, strict=True))
        if not columns:
            return
        times, arrived, temperatures, humidities = columns
        self.rows += len(times)
        delays = list(map(sub, arrived, times))
        self._fold(device_id, times, delays, temperatures, humidities)

    def _fold(
        self,
        device_id: str,
        times: Sequence[int],
        delays: Sequence[int],
        temperatures: Sequence[float],
        humidities: Sequence[float],
    ) -> None:
        tally = self.devices.get(device_id)
        if tally is None:
            if len(self.devices) >= MOST_DEVICES:
                return
            tally = self.devices[device_id] = DeviceTally(device_id)
        self.rows_seen += len(times)
        backfilled = tally.backfilled
        tally.take(times, delays, temperatures, humidities, self.limits)
        if tally.backfilled > backfilled:
            return  # they say nothing of how fast readings arrive today
        most = max(delays)
        sample = delays[:: 1 + len(delays) // 16]
        self.delays.extend(sample, most)
        group = group_of(device_id)
        spread = self.delays_by_group.get(group)
        if spread is None:
            if len(self.delays_by_group) >= _MOST_GROUPS:
                return
            spread = self.delays_by_group[group] = Spread()
        spread.extend(sample, most)
