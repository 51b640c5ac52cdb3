"""Conflicting readings of one broker millisecond on real Kafka and Cassandra, in many orders.

An unkeyed load: hundreds of readings of one key, on every partition, appended in one batch each,
so that most of them share a millisecond and some a write time.
"""

import json
import random
import uuid
from collections.abc import Iterable

import pytest

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline_tests.load import ORIGIN_SECONDS, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

RECORDS = 400


@pytest.fixture
def twins(pipeline: Pipeline) -> str:
    """A device whose one reading was told in as many ways as there are records."""
    device = f"twin_{uuid.uuid4().hex[:8]}"
    for partition in range(len(pipeline.log.watermarks(pipeline.topic))):
        values = [
            (None, reading_json(device, ORIGIN_SECONDS, number % 97 / 2, 100 - number % 89))
            for number in range(RECORDS)
        ]
        random.Random(partition).shuffle(values)
        produce(pipeline.brokers, pipeline.topic, values, partition=partition)
    return device


def expected_row(pipeline: Pipeline) -> tuple[float, float, int]:
    """The rule as a sentence: the highest write time; of equal ones the first record."""
    ranges = [OffsetRange(m.partition, 0, m.last_stable) for m in _marks(pipeline)]
    rivals = []
    source = pipeline.log.open_ranges(pipeline.topic, ranges)
    while len(source.finished) < len(ranges):
        for record in source.poll(0.1):
            reading = json.loads(record.value or b"")
            digits = record.offset % 62 * 16 + record.partition % 16
            written_us = record.produced_ms * 1000 + digits
            rivals.append((written_us, -record.offset, reading["temperature"], reading["humidity"]))
    source.close()
    assert len({rival[0] for rival in rivals}) < len(rivals), "some share a write time"
    written_us, _, temperature, humidity = max(rivals)
    return temperature, humidity, written_us


def _marks(pipeline: Pipeline) -> Iterable:
    return pipeline.log.watermarks(pipeline.topic)


def the_row(pipeline: Pipeline, device: str) -> tuple[float, float, int]:
    (row,) = pipeline.rows(device).values()
    return row


@pytest.mark.parametrize("seed", range(3))
def test_one_whole_row_remains_wherever_ranges_ended_and_whatever_was_replayed(
    pipeline: Pipeline, twins: str, seed: int
) -> None:
    chance = random.Random(seed)
    at = {marks.partition: 0 for marks in _marks(pipeline)}
    while at:
        partition = chance.choice(sorted(at))
        end = min(RECORDS, at[partition] + chance.choice((1, 40, 62, 63, 150)))
        pipeline.iot("drain", "--offsets", f"{partition}:{at[partition]}-{end}")
        at[partition] = end
        if end == RECORDS:
            del at[partition]
    expected = expected_row(pipeline)
    assert the_row(pipeline, twins) == expected
    for start, end in ((62, 63), (0, 1), (100, 300), (0, RECORDS)):
        pipeline.iot("replay", "--offsets", f"0:{start}-{end}")
        assert the_row(pipeline, twins) == expected
    report = pipeline.iot("audit", "--json", "--offsets", f"0:0-{RECORDS}")
    assert (report["torn"], report["lost"]) == (0, 0)


def test_a_cap_inside_a_millisecond_changes_nothing(pipeline: Pipeline, twins: str) -> None:
    for _ in range(5):
        pipeline.iot("drain", "--max-records", "130")
    pipeline.iot("drain")
    assert the_row(pipeline, twins) == expected_row(pipeline)
