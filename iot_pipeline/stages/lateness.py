"""A sample of what arrived in Kafka lately, by arrival: late readings are in it as they come.

Rows would not do: the newest rows of a device are its newest readings, and late ones are not.
"""

import time
from collections.abc import Sequence
from datetime import datetime

from iot_pipeline.core.lateness import Arrival
from iot_pipeline.core.offsets import OffsetRange
from iot_pipeline.core.readings import ReadingDecoder, ReadingRules, Rejection
from iot_pipeline.stages.ports import RecordLogReader

_POLL_SECONDS = 0.05


def sample_arrivals(
    log: RecordLogReader,
    topic: str,
    rules: ReadingRules,
    since: datetime,
    *,
    spots: int = 10,
    records: int = 100,
    budget_seconds: float = 5.0,
) -> list[Arrival]:
    """Readings that arrived since then, at equally distant spots of each Kafka partition.

    Args:
        log: Kafka.
        topic: its name.
        rules: what a reading is; other records are left out.
        since: aware; what arrived before is not looked at.
        spots: per partition.
        records: at each spot.
        budget_seconds: what was read by then is the sample.
    """
    deadline = time.monotonic() + budget_seconds
    marks = {mark.partition: mark for mark in log.watermarks(topic)}
    firsts = log.offsets_at(topic, since)
    decoder = ReadingDecoder(rules)
    arrivals: list[Arrival] = []
    spans = [
        OffsetRange(partition, max(firsts.get(partition, mark.last_stable), mark.low), end)
        for partition, mark in marks.items()
        if (end := mark.last_stable) > max(firsts.get(partition, end), mark.low)
    ]
    for spot in range(spots):
        if time.monotonic() > deadline:
            break
        ranges = [found for span in spans if (found := _spot(span, spot, spots, records))]
        if ranges:
            _read(log, topic, ranges, decoder, arrivals, deadline)
    return arrivals


def _spot(span: OffsetRange, spot: int, spots: int, records: int) -> OffsetRange | None:
    """The spot's part of a partition's span, the newest spot first; None when there is none."""
    width = max(records, -(-span.span // spots))
    end = span.end - spot * width
    start = max(span.start, end - records)
    return OffsetRange(span.partition, start, end) if end > start else None


def _read(
    log: RecordLogReader,
    topic: str,
    ranges: Sequence[OffsetRange],
    decoder: ReadingDecoder,
    arrivals: list[Arrival],
    deadline: float,
) -> None:
    source = log.open_ranges(topic, ranges)
    try:
        while len(source.finished) < len(ranges) and time.monotonic() < deadline:
            for record in source.poll(_POLL_SECONDS):
                reading = decoder.decode(record.value)
                if not isinstance(reading, Rejection):
                    late = record.produced_ms / 1000 - reading.timestamp
                    arrivals.append(Arrival(reading.device_id, late))
    finally:
        source.close()
