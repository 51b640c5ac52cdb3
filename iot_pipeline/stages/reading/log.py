"""Read ranges of the log outside the drain: plainly, and around the edges of a millisecond."""

import time
from collections.abc import Iterator, Sequence

from iot_pipeline.core.reading.decoding import Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import KafkaUnavailableError, TransientError
from iot_pipeline.stages.ports import RecordLogReader

_POLL_SECONDS = 0.1
# The first look beside a range; each further one takes four times as much.
_FIRST_LOOK = 1_000


def read_ranges(
    log: RecordLogReader, topic: str, ranges: Sequence[OffsetRange], give_up_after_seconds: float
) -> Iterator[list[Record]]:
    """The records of ranges, at most one per partition, each partition's in order.

    Raises:
        KafkaUnavailableError: nothing came for `give_up_after_seconds`.
        OffsetsExpiredError, TopicChangedError: the range is no longer in the log.
    """
    source = log.open_ranges(topic, ranges)
    heard_at = time.monotonic()
    try:
        while len(source.finished) < len(ranges):
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
    finally:
        source.close()


def widen_to_milliseconds(
    log: RecordLogReader,
    topic: str,
    wanted: OffsetRange,
    low: int,
    last_stable: int,
    give_up_after_seconds: float,
) -> OffsetRange:
    """The range and what is beside it in the same broker milliseconds.

    Records that share a millisecond may share a write time, so whoever writes one of them has
    to know the others. Looks no further than the log's ends.
    """

    def read(start: int, end: int) -> list[Record]:
        part = OffsetRange(wanted.partition, start, end)
        batches = read_ranges(log, topic, [part], give_up_after_seconds)
        return [record for batch in batches for record in batch]

    def walk(at: int, step: int, limit: int) -> Iterator[Record]:
        """Records from `at` on, away from it; `step` is 1 or -1."""
        look = _FIRST_LOOK
        while at != limit:
            if step > 0:
                reached = min(limit, at + look)
                yield from read(at, reached)
            else:
                reached = max(limit, at - look)
                yield from reversed(read(reached, at))
            at, look = reached, look * 4

    start, end = wanted.start, wanted.end
    first = next(walk(wanted.start, 1, wanted.end), None)
    last = next(walk(wanted.end, -1, wanted.start), None)
    if first is None or last is None:
        return wanted  # holes only
    for record in walk(wanted.start, -1, low):
        if record.produced_ms != first.produced_ms:
            break
        start = record.offset
    for record in walk(wanted.end, 1, last_stable):
        if record.produced_ms != last.produced_ms:
            break
        end = record.offset + 1
    return OffsetRange(wanted.partition, start, end)
