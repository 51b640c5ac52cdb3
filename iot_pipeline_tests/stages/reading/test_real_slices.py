"""A day of expired rows, and a day of many, on real Cassandra: every reader gets an answer."""

import time
import uuid
from datetime import date

import pytest

from iot_pipeline.clients.packed_batch import open_reading_store
from iot_pipeline.clients.sensor_data import CassandraSensorData
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.spans import Span, day_span, whole_day
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR, day_number
from iot_pipeline.errors import TooManyTombstonesError
from iot_pipeline.stages.checks.machinery.row_counts import count_days
from iot_pipeline.stages.reading.in_order import read_newest, stream_pages
from iot_pipeline.stages.reading.slices import SlicedRows
from iot_pipeline.stages.requests import Flight, retry_transient, wait_for
from iot_pipeline_tests.load import produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

DAY = date(2024, 12, 29)
NUMBER = day_number(DAY)
FIRST_MS = NUMBER * MS_PER_DAY
EXPIRED = 60_000
STEP_MS = MS_PER_DAY // EXPIRED


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: nobody else can list its partitions for ten days."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


def write(pipeline: Pipeline, times: range, *, retention_days: float = 0.0) -> None:
    """Rows of the device `hot` at these times; with a retention they expire after a second."""
    changed = pipeline.settings.model_copy(update={"retention_days": retention_days})
    store = open_reading_store(pipeline.connections.cassandra, changed)
    # Arrived long ago: on the edge a row lives one second.
    arrived_ms = int(time.time() * 1000) - int(retention_days * MS_PER_DAY)
    flight = Flight(store.wait, 30.0)

    def send(part: range) -> None:
        rows: RowsByTime = dict.fromkeys(part, (arrived_ms * 1000, 0, 0, 20.0, 40.0))
        flight.start(lambda: store.send_rows(RowSlice.of({("hot", NUMBER): rows})), lambda _: None)

    flight.feed((times[at : at + 300] for at in range(0, len(times), 300)), send, 16)
    flight.start(lambda: store.send_devices(NUMBER, {"hot": arrived_ms}), lambda _: None)
    flight.finish()


def test_expired_rows_of_a_day_hide_no_answer(pipeline: Pipeline) -> None:
    write(pipeline, range(FIRST_MS, FIRST_MS + MS_PER_DAY, STEP_MS), retention_days=1.0)
    # Behind the newest 110,000 dead cells.
    alive = [FIRST_MS + 1 + hour * MS_PER_HOUR for hour in range(2)]
    readings = [(b"hot", reading_json("hot", ms / 1000, 20.0)) for ms in alive]
    produce(pipeline.brokers, pipeline.topic, readings)
    pipeline.drain()
    table = CassandraSensorData(pipeline.connections.cassandra, QUANTITIES)
    whole = whole_day("hot", NUMBER)
    newest_hour = Span("hot", NUMBER, FIRST_MS + 23 * MS_PER_HOUR, FIRST_MS + MS_PER_DAY - 1)
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:  # until the last written has expired
        if not wait_for(table.start_page(newest_hour, 1, newest_first=True), table.wait):
            break
    with pytest.raises(TooManyTombstonesError):
        retry_transient(lambda: wait_for(table.start_count(whole), table.wait), 60)

    rows, days = pipeline.connections.rows, pipeline.connections.days
    newest = read_newest(rows, days, "hot", 100)
    assert [row[0] for row in newest] == [*reversed(alive)]
    pages = stream_pages(rows, [day_span("hot", DAY)], retry_seconds=5.0)
    assert [row[0] for page in pages for row in page.rows] == [*alive]
    counts = wait_for(rows.start_counts(whole, MS_PER_HOUR), rows.wait)
    assert [count for _, count, _ in counts] == [1] * 2
    assert len(wait_for(rows.start_means(whole, MS_PER_HOUR), rows.wait)) == 2
    (counted,) = count_days(
        pipeline.connections.ledger, rows, days, pipeline.topic, range(4), [DAY], budget_seconds=60
    )
    assert (counted.rows, counted.devices_counted) == (2, 1)
    assert len(pipeline.iot("readings", "hot", "--json")["readings"]) == 2
    assert "2 readings of 1 device," in pipeline.iot(
        "export", "--day", str(DAY), "--out", str(pipeline.settings.data_dir)
    )
    report = pipeline.iot("audit", "--json")
    assert (report["stored"], report["stray"], report["is_stray_judged"]) == (2, 0, True)
    # What cannot be looked at is said.
    assert report["is_listed"] is False
    assert "not looked at: partitions" in pipeline.iot("audit")


def test_rows_of_a_hot_device_are_counted_and_added_up_in_parts(pipeline: Pipeline) -> None:
    times = range(FIRST_MS, FIRST_MS + 30_000)
    write(pipeline, times)
    table = CassandraSensorData(pipeline.connections.cassandra, QUANTITIES)
    rows = SlicedRows(table, len(QUANTITIES), rows_at_once=10_000)
    rest: Span | None = whole_day("hot", NUMBER)
    parts = []
    while rest is not None:
        counted = wait_for(rows.start_count(rest), rows.wait)
        parts.append(counted.rows)
        rest = counted.rest
    assert sum(parts) == len(times)
    assert max(parts) < 11_000
    rest, total = whole_day("hot", NUMBER), 0
    while rest is not None:
        summed = wait_for(rows.start_sums(rest), rows.wait)
        total, rest = total + summed.rows, summed.rest
    assert total == len(times)
