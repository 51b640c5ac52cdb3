"""Counts by the server, against the rows that were written."""

import uuid

import pytest

from iot_pipeline.clients.device_hours import CassandraDeviceHours, PieceCounts
from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline_tests.load import ORIGIN_SECONDS, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


def test_readings_are_counted_per_piece_of_a_day_within_the_bounds(pipeline: Pipeline) -> None:
    name = f"counted_{uuid.uuid4().hex[:8]}"
    seconds = [ORIGIN_SECONDS + 37 * number for number in range(300)]
    values = ((name.encode(), reading_json(name, at)) for at in seconds)
    produce(pipeline.brokers, pipeline.topic, values, partition=0)
    pipeline.drain()
    hours = CassandraDeviceHours(pipeline.connections.cassandra)
    day = int(ORIGIN_SECONDS) // 86_400
    assert day in hours.days()
    assert name in hours.devices_of(day)
    times = [int(at) * 1000 for at in seconds]
    first, end = times[10], times[250]

    def answer(pending: PieceCounts) -> list[tuple[int, int, int]]:
        while not pending.done:
            hours.wait(0.1)
        assert pending.error is None
        return sorted(pending.found)

    for piece_ms in (3_600_000, 60_000, 10_000):
        expected: dict[int, list[int]] = {}
        for at in times[10:250]:
            expected.setdefault(at // piece_ms * piece_ms, []).append(at)
        found = answer(hours.start_counts(name, day, first, end, piece_ms))
        assert found == [(at, len(found), found[0]) for at, found in sorted(expected.items())]
    assert answer(hours.start_counts("nobody", day, 0, day * MS_PER_DAY, 60_000)) == []
