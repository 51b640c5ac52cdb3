"""A bounded number of messages of the topic: the newest, those of a day before, and between.

Where something began is found by halves: each look reads a few hundred messages, and rules out
half of what is left. So it is the first place only if what began has stayed since.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property

from iot_pipeline.core.checks.messages_seen import Kind, MessagesSeen
from iot_pipeline.core.checks.unit_changes import UnitChange, is_after
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.unknown_fields import FieldSeen
from iot_pipeline.errors import OffsetsExpiredError
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.reading.log import read_ranges
from iot_pipeline.stages.reading.schemas import learn_schemas

# At one end of the log, of all Kafka partitions together, and of one of them.
MOST_MESSAGES, _MOST_OF_ONE, _LEAST_OF_ONE = 4_000, 500, 20
EARLIER = timedelta(days=1)
# At one place between the ends.
_PROBE = 200


class LogLooks:
    """Looks at the topic until `seconds` are over; the newest end is looked at in any case."""

    def __init__(
        self, facts: Facts, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._facts, self._clock, self._until = facts, clock, clock() + seconds
        self._topic = facts.settings.topic
        self._rules: ReadingRules = facts.settings.reading_rules
        marks = facts.ports.log.watermarks(self._topic)
        each = max(_LEAST_OF_ONE, min(_MOST_OF_ONE, MOST_MESSAGES // max(1, len(marks))))
        # With more Kafka partitions than fit, every n-th of them.
        step = max(1, -(-len(marks) * each // MOST_MESSAGES))
        chosen = marks[::step]
        self._each = each
        self._low = {mark.partition: mark.low for mark in chosen}
        self._newest = [
            OffsetRange(mark.partition, max(mark.low, mark.last_stable - each), mark.last_stable)
            for mark in chosen
            if mark.last_stable > mark.low
        ]
        self._probes: dict[tuple[int, int, int], MessagesSeen] = {}

    @property
    def has_time(self) -> bool:
        return self._clock() < self._until

    @cached_property
    def newest(self) -> MessagesSeen:
        """The end of the log."""
        return self._look(self._newest)

    @cached_property
    def earlier(self) -> MessagesSeen:
        """As many messages of a day before, or from the beginning of a log that is younger."""
        starts = self._facts.ports.log.offsets_at(self._topic, self._facts.now - EARLIER)
        ranges = []
        for item in self._newest:
            start = max(self._low[item.partition], starts.get(item.partition, 0))
            end = min(start + self._each, item.start)
            if end > start:
                ranges.append(OffsetRange(item.partition, start, end))
        self._earlier_end = {item.partition: item.end for item in ranges}
        return self._look(ranges)

    def first_of(self, kind: Kind, name: str) -> tuple[FieldSeen, int]:
        """The first message of its partition that has this, and when it arrived, in ms.

        The first of those that were looked at, where the time did not suffice.
        """
        seen = self.newest.found(kind)[name]
        found = seen, self.newest.arrived_ms[seen.partition, seen.offset]

        def is_there(looked: MessagesSeen) -> int | None:
            nonlocal found
            one = looked.found(kind).get(name)
            if one is None:
                return None
            found = one, looked.arrived_ms[one.partition, one.offset]
            return one.offset

        self._bisect(seen.partition, self._low[seen.partition], seen.offset, is_there)
        return found

    def where_changed(self, quantity: str, change: UnitChange) -> tuple[int, int, int] | None:
        """Partition, offset and arrival of about the first message in the new unit.

        None: the devices changed at different times, or the time did not suffice to say that they
        did not.
        """
        before, newest = self.earlier.values[quantity], self.newest
        devices = set(change.devices)
        counts = dict.fromkeys(self._earlier_end, 0)
        for device, partition in newest.parts:
            if device in devices and partition in counts:
                counts[partition] += 1
        partition = max(counts, key=lambda one: (counts[one], -one))
        (end,) = (item for item in self._newest if item.partition == partition)

        def is_new(looked: MessagesSeen) -> int | None:
            of_partition = [offset for _, offset in looked.arrived_ms]
            is_one = is_after(change, before, looked.values[quantity])
            return min(of_partition) if is_one and of_partition else None

        at = self._bisect(partition, self._earlier_end[partition], end.start, is_new)
        if not self.has_time:
            return None
        older = self._probe(OffsetRange(partition, max(self._low[partition], at - _PROBE), at))
        newer = self._probe(OffsetRange(partition, at, min(end.end, at + _PROBE)))
        sides = [is_after(change, before, side.values[quantity]) for side in (older, newer)]
        if sides != [False, True]:
            return None
        offset, arrived = min((offset, ms) for (_, offset), ms in newer.arrived_ms.items())
        return partition, offset, arrived

    def _bisect(
        self, partition: int, low: int, high: int, is_there: Callable[[MessagesSeen], int | None]
    ) -> int:
        """Where it begins: nothing was found below, and `high` is where it was found."""
        while low < high and self.has_time:
            middle = low if high - low <= _PROBE else (low + high) // 2
            item = OffsetRange(partition, middle, min(high, middle + _PROBE))
            at = is_there(self._probe(item))
            if at is None:
                low = item.end
            else:
                high = at
                if middle == low:
                    break
        return high

    def _probe(self, item: OffsetRange) -> MessagesSeen:
        """What began together is found by the same looks."""
        key = (item.partition, item.start, item.end)
        if key not in self._probes:
            self._probes[key] = self._look([item] if item.span else [])
        return self._probes[key]

    def _look(self, ranges: Sequence[OffsetRange]) -> MessagesSeen:
        seen = MessagesSeen(self._rules)
        ports, retry_seconds = self._facts.ports, self._facts.settings.retry_seconds
        # What Kafka cannot give out is the matter of other checks.
        passed_over: list[OffsetRange] = []
        if not ranges:
            return seen
        read = read_ranges(ports.log, self._topic, ranges, retry_seconds, passed_over.append)
        # Retention that deletes meanwhile leaves less to look at: the rest was read to its end.
        with suppress(OffsetsExpiredError):
            for records in read:
                values = [one.value for one in records]
                learn_schemas(self._rules, ports.audit_ports.schemas, values, retry_seconds)
                seen.add(records)
        seen.unread = sum(item.span for item in passed_over)
        return seen
