"""Logs of some partitions, the micro-batches made of them, and who should win in one."""

from collections import defaultdict

from hypothesis import strategies as st

from iot_pipeline.core.ingest.micro_batch import MicroBatchBuilder
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.declared_times import (
    timestamp_ms,
)
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import Reading, ReadingRules, Record
from iot_pipeline.core.reading.write_times import record_of
from iot_pipeline_tests.core.reading.encoded import encode_reading

T0 = 1_735_444_918.0  # 2024-12-29
PRODUCED_MS = 1_735_444_920_000


def record(
    partition: int,
    offset: int,
    produced_ms: int = PRODUCED_MS,
    *,
    device: str = "d",
    at: float = T0,
    temperature: float = 20.0,
    value: bytes | None = None,
) -> Record:
    if value is None:
        value = encode_reading(Reading(device, at, temperature, 50.0))
    return Record(partition, offset, produced_ms, device.encode(), value)


def bad_record(partition: int, offset: int, produced_ms: int = PRODUCED_MS) -> Record:
    return record(partition, offset, produced_ms, value=b"not json")


def add(builder, records):
    for chunk in chunk_records(records):
        builder.add(chunk)


def build(starts, ends, records, **options):
    builder = MicroBatchBuilder(dict(starts), ReadingDecoder(ReadingRules()), **options)
    add(builder, records)
    return builder.build(dict(ends))


_RECORDS = st.integers(0, 10 * 5 * 3 * 2 * 11 - 1)


@st.composite
def logs(draw, partitions: int = 3, length: int = 40):
    """Logs with holes, bad records, ids of no device, few keys and milliseconds: all collide."""
    log = {}
    for partition in range(draw(st.integers(1, partitions))):
        start = draw(st.integers(0, 5000))
        produced_ms = PRODUCED_MS + draw(st.integers(0, 3))
        records = []
        end = start + draw(st.integers(1, length))
        # One draw for a record: to draw each of its parts by itself took most of these tests.
        many = end - start
        drawn_records = draw(st.lists(_RECORDS, min_size=many, max_size=many))
        for offset, drawn in enumerate(drawn_records, start):
            rest, kind = divmod(drawn, 10)
            rest, pause = divmod(rest, 5)
            rest, later = divmod(rest, 3)
            temperature, device = divmod(rest, 2)
            produced_ms += (0, 0, 0, 1, 7)[pause]
            if kind == 0:
                continue  # a hole
            if kind == 1:
                records.append(bad_record(partition, offset, produced_ms))
                continue
            records.append(
                record(
                    partition,
                    offset,
                    produced_ms,
                    # Of the third only the id is wrong, and that is found last.
                    device="" if kind == 2 else "ab"[device],
                    at=T0 + (0.0, 0.001, 86_400.0)[later],
                    temperature=temperature - 5.0,
                )
            )
        log[partition] = (start, end, records)
    return log


def starts_of(log):
    return {partition: start for partition, (start, _, _) in log.items()}


def ends_of(log):
    return {partition: end for partition, (_, end, _) in log.items()}


def interleave(log, order):
    """All records, each partition's in order; `order` picks whose turn it is."""
    waiting = {partition: list(records) for partition, (_, _, records) in log.items() if records}
    result = []
    while waiting:
        partition = order.choice(sorted(waiting))
        result.append(waiting[partition].pop(0))
        if not waiting[partition]:
            del waiting[partition]
    return result


def key_of(item: Record):
    reading = ReadingDecoder(ReadingRules()).decode(item.value)
    if not isinstance(reading, Reading):
        return None
    return reading.device_id, timestamp_ms(reading.timestamp)


def expected_winners(records):
    """The oracle, as the sentence: the highest write time wins, of equal ones the first record."""
    rivals = defaultdict(list)
    for item in records:
        if key_of(item) is not None:
            rivals[key_of(item)].append(item)
    return {
        key: max(
            items,
            key=lambda r: (
                r.produced_ms * 1000 + r.offset % 62 * 16 + r.partition % 16,
                -r.offset,
                -r.partition,
            ),
        )
        for key, items in rivals.items()
    }


def rows_of(batch):
    return {
        (device, ms): record_of(row)
        for (device, _), group in batch.groups.items()
        for ms, row in group.items()
    }
