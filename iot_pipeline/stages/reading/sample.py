"""The newest records of a topic, to be looked at; nothing moves by it."""

from iot_pipeline.core.reading.messages import Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ports.log import RecordLogReader
from iot_pipeline.stages.reading.log import read_ranges


def newest_records(
    log: RecordLogReader, topic: str, count: int, give_up_after_seconds: float
) -> list[Record]:
    """About `count` of them, as many of each Kafka partition as it has, each in order.

    Raises:
        KafkaUnavailableError: nothing came for a while.
    """
    left, ranges = count, []
    marks = sorted(log.watermarks(topic), key=lambda mark: mark.last_stable - mark.low)
    for number, mark in enumerate(marks):
        # What small partitions do not have is taken from the larger ones.
        share = -(-left // (len(marks) - number))
        start = max(mark.low, mark.last_stable - share)
        if start < mark.last_stable:
            ranges.append(OffsetRange(mark.partition, start, mark.last_stable))
            left -= mark.last_stable - start
    found: list[Record] = []
    if ranges:
        for records in read_ranges(log, topic, ranges, give_up_after_seconds):
            found += records
    return sorted(found, key=lambda record: (record.partition, record.offset))
