"""Read ranges of the log outside the drain: plainly, and back to the start of a millisecond."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from iot_pipeline.core.ingest.stopped import sum_up
from iot_pipeline.core.reading.chunks import RecordChunk, chunk_records
from iot_pipeline.core.reading.messages import Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import (
    KafkaUnavailableError,
    OffsetsExpiredError,
    TransientError,
    UnreadableError,
)
from iot_pipeline.stages.ports.log import RecordLogReader

_POLL_SECONDS = 0.1
# Offsets of the first look before a range; each further one takes four times as many.
_FIRST_LOOK = 1_000


def read_ranges(
    log: RecordLogReader,
    topic: str,
    ranges: Sequence[OffsetRange],
    give_up_after_seconds: float,
    on_unreadable: Callable[[OffsetRange], None] | None = None,
) -> Iterator[list[Record]]:
    """The records of ranges, at most one per partition, each partition's in order.

    Args:
        on_unreadable: gets what cannot be read, and it is jumped over; None: it raises.

    Raises:
        KafkaUnavailableError: nothing came for `give_up_after_seconds`.
        OffsetsExpiredError, TopicChangedError: a range is no longer in the log. The others were
            read to their ends.
    """
    source = log.open_ranges(topic, ranges)
    heard_at = time.monotonic()
    try:
        while len(source.finished) + len(source.stopped) < len(ranges):
            trouble: TransientError | None = None
            try:
                records = source.poll(_POLL_SECONDS)
            except TransientError as exc:
                records, trouble = [], exc
            if records:
                yield records
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > give_up_after_seconds:
                raise KafkaUnavailableError(
                    f"reading {topic} {', '.join(map(str, ranges))}: nothing came for "
                    f"{give_up_after_seconds:g} s; {trouble or 'is Kafka up? (`iot status`)'}"
                ) from trouble
        stopped = dict(source.stopped)
    finally:
        source.close()
    behind: list[OffsetRange] = []
    for partition, why in list(stopped.items()):
        if on_unreadable is not None and isinstance(why, UnreadableError):
            (asked,) = (item for item in ranges if item.partition == partition)
            end = min(why.end, asked.end) or asked.end
            on_unreadable(OffsetRange(partition, why.start, end))
            behind.append(OffsetRange(partition, end, asked.end))
            del stopped[partition]
    if stopped:
        raise sum_up(topic, stopped)
    left = [item for item in behind if item.span]
    if left:
        yield from read_ranges(log, topic, left, give_up_after_seconds, on_unreadable)


def read_millisecond_before(
    log: RecordLogReader,
    topic: str,
    ranges: Collection[OffsetRange],
    known_from: Mapping[int, int],
    give_up_after_seconds: float,
) -> list[RecordChunk]:
    """The records before each range that share the millisecond of the last one of them.

    Records of one millisecond may have one write time, so who writes one of them has to know those
    before it. Looks no further back than `known_from`, and than Kafka has records that can be read:
    a batch that went bad after it was ingested hides only itself.
    """
    if all(known_from[item.partition] == item.start for item in ranges):
        return []
    while True:
        low = {marks.partition: marks.low for marks in log.watermarks(topic, only=known_from)}
        limits = {p: max(low.get(p, start), start) for p, start in known_from.items()}
        try:
            return _walk_back(log, topic, ranges, limits, give_up_after_seconds)
        except OffsetsExpiredError:
            continue  # deleted while it was read: there is less to know now


def _newest_of(records: list[Record]) -> list[Record]:
    """Those at the end that share one millisecond."""
    at = len(records)
    while at and records[at - 1].produced_ms == records[-1].produced_ms:
        at -= 1
    return records[at:]


def _walk_back(
    log: RecordLogReader,
    topic: str,
    ranges: Iterable[OffsetRange],
    limits: Mapping[int, int],
    give_up_after_seconds: float,
) -> list[RecordChunk]:
    found: defaultdict[int, list[Record]] = defaultdict(list)
    reached = {r.partition: r.start for r in ranges if r.start > limits[r.partition]}
    look = _FIRST_LOOK
    readable_from: dict[int, int] = {}

    def pass_over(bad: OffsetRange) -> None:
        readable_from[bad.partition] = max(bad.end, readable_from.get(bad.partition, 0))

    while reached:
        parts = [OffsetRange(p, max(limits[p], at - look), at) for p, at in reached.items()]
        read: defaultdict[int, list[Record]] = defaultdict(list)
        for records in read_ranges(log, topic, parts, give_up_after_seconds, pass_over):
            for record in records:
                read[record.partition].append(record)
        for part in parts:
            first = readable_from.get(part.partition, 0)
            read_here = [record for record in read[part.partition] if record.offset >= first]
            known = read_here + found[part.partition]
            found[part.partition] = _newest_of(known)
            reached[part.partition] = part.start
            is_end = part.start == limits[part.partition] or part.partition in readable_from
            if is_end or len(found[part.partition]) < len(known):
                del reached[part.partition]
        look *= 4
    return chunk_records(chain.from_iterable(found.values()))
