"""Rows as Cassandra keeps them: values, write times, TTLs; and the questions about them."""

import time
import uuid
from datetime import UTC, date, datetime

import pytest

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.reading_store import CassandraReadingStore
from iot_pipeline.clients.select import run_select
from iot_pipeline.connections import Tables
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import RowsByTime, write_time_us
from iot_pipeline.core.times import MS_PER_DAY, Window
from iot_pipeline.errors import PermanentError
from iot_pipeline.stages.ports.answers import Pending
from iot_pipeline.stages.reading.in_order import read_newest
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

# 2024-12-29 04:01:58.316 UTC
MS = 1_735_444_918_316
DAY = MS // MS_PER_DAY
PRODUCED_MS = 1_790_000_000_123


@pytest.fixture
def client(pipeline: Pipeline) -> CassandraClient:
    return pipeline.connections.cassandra


@pytest.fixture
def store(pipeline: Pipeline) -> CassandraReadingStore:
    return pipeline.connections.store


@pytest.fixture
def device() -> str:
    return f"dev_{uuid.uuid4().hex[:10]}"


def acknowledged(store: CassandraReadingStore, pending: Pending) -> None:
    deadline = until(20)
    while not pending.done:
        assert time.monotonic() < deadline
        store.wait(0.1)
    assert pending.error is None, pending.error


def row(ms_after: int, offset: int, temperature: float, humidity: float = 1.0) -> RowsByTime:
    produced = write_time_us(PRODUCED_MS, offset, 0)
    return {MS + ms_after: (produced, offset, 0, temperature, humidity)}


def write(store: CassandraReadingStore, device: str, rows: RowsByTime, day: int = DAY) -> None:
    acknowledged(store, store.send_rows(RowSlice.of({(device, day): rows})))
    acknowledged(store, store.send_devices(day, {device: PRODUCED_MS}))


def test_a_row_keeps_its_values_to_the_last_bit_and_the_write_time_of_its_record(
    pipeline: Pipeline, store: CassandraReadingStore, device: str
) -> None:
    write(store, device, {**row(0, 41_007, 26.51, 40.78), **row(1, 41_008, 0.1 + 0.2, -0.0)})
    rows = pipeline.rows(device)
    assert rows == {
        MS: (26.51, 40.78, write_time_us(PRODUCED_MS, 41_007, 0)),
        MS + 1: (0.1 + 0.2, 0.0, write_time_us(PRODUCED_MS, 41_008, 0)),
    }
    assert str(rows[MS + 1][1]) == "-0.0"


def test_zero_is_a_value(pipeline: Pipeline, store: CassandraReadingStore, device: str) -> None:
    write(store, device, row(0, 1, 0.0, 0.0))
    assert pipeline.rows(device)[MS][:2] == (0.0, 0.0)


@pytest.mark.parametrize("later_first", [False, True])
def test_of_two_rows_with_one_key_the_later_record_wins_whole_in_either_order(
    pipeline: Pipeline, store: CassandraReadingStore, device: str, later_first: bool
) -> None:
    # Larger and smaller: had the two one write time, Cassandra would take the larger of each.
    versions = [row(0, 1, 10.0, 90.0), row(0, 2, 20.0, 80.0)]
    for version in reversed(versions) if later_first else versions:
        write(store, device, version)
    assert pipeline.rows(device)[MS] == (20.0, 80.0, write_time_us(PRODUCED_MS, 2, 0))


def test_a_persons_delete_wins_over_a_row_written_again(
    pipeline: Pipeline, client: CassandraClient, store: CassandraReadingStore, device: str
) -> None:
    now_ms = int(time.time() * 1000) - 1000
    rows: RowsByTime = {MS: (write_time_us(now_ms, 5, 0), 5, 0, 1.0, 1.0)}
    write(store, device, rows)
    client.execute(
        f"DELETE FROM {client.keyspace}.sensor_data WHERE device_id = ? AND day = ?",
        (device, date(2024, 12, 29)),
        doing="deleting as a person would",
    )
    write(store, device, rows)
    assert pipeline.rows(device) == {}


def test_a_row_lives_for_what_is_left_of_its_retention_and_its_device_two_days_longer(
    client: CassandraClient, device: str
) -> None:
    now = time.time()
    produced_ms = int((now - 86_400) * 1000)
    store = CassandraReadingStore(client, QUANTITIES, Retention(3), wall_clock=lambda: now)
    rows: RowsByTime = {MS: (write_time_us(produced_ms, 0, 0), 0, 0, 1.0, 1.0)}
    acknowledged(store, store.send_rows(RowSlice.of({(device, DAY): rows})))
    acknowledged(store, store.send_devices(DAY, {device: produced_ms}))
    found = client.execute(
        f"SELECT ttl(temperature), ttl(humidity) FROM {client.keyspace}.sensor_data "
        "WHERE device_id = ? AND day = ?",
        (device, date(2024, 12, 29)),
        doing="reading TTLs",
    )
    for ttl in found[0]:
        assert 2 * 86_400 - 60 < ttl <= 2 * 86_400
    # devices_by_day has no column besides its key, so only the row itself can tell: by its absence
    # later. Here: it is there.
    assert list(Tables(client).days.days_of(device)) == [date(2024, 12, 29)]


def test_a_batch_of_three_hundred_rows_is_one_request(
    pipeline: Pipeline, store: CassandraReadingStore, device: str
) -> None:
    rows: RowsByTime = {}
    for number in range(300):
        rows |= row(number, number, float(number))
    write(store, device, rows)
    assert len(pipeline.rows(device)) == 300


def test_readings_come_newest_first_and_only_those_of_the_window(
    client: CassandraClient, store: CassandraReadingStore, device: str
) -> None:
    for day in range(5):
        at = MS + day * MS_PER_DAY
        rows: RowsByTime = {
            at + k * 1000: (write_time_us(PRODUCED_MS, k, 0), k, 0, float(day), float(k))
            for k in range(3)
        }
        write(store, device, rows, DAY + day)
    tables = Tables(client)

    def found(limit: int, window: Window | None = None) -> list[tuple[float | None, ...]]:
        newest = read_newest(tables.rows, tables.days, device, limit, window)
        return [tuple(values) for _, *values in newest]

    assert found(100) == [(4, 2), (4, 1), (4, 0)], "the newest day alone"
    assert found(2) == [(4, 2), (4, 1)]
    since = datetime(2024, 12, 30, 4, 1, 59, 316_000, tzinfo=UTC)
    until = datetime(2025, 1, 1, 4, 2, 0, 316_000, tzinfo=UTC)
    window = Window(since, until)
    assert found(100, window) == [
        (3, 1), (3, 0), (2, 2), (2, 1), (2, 0), (1, 2), (1, 1),
    ]  # fmt: skip
    assert found(3, window) == [(3, 1), (3, 0), (2, 2)]
    assert read_newest(tables.rows, tables.days, f"{device}_unknown", 10) == []


def test_a_select_gives_plain_values_and_stops_at_its_limit(
    client: CassandraClient, store: CassandraReadingStore, device: str
) -> None:
    write(store, device, {**row(0, 1, 1.5), **row(1, 2, 2.5)})
    where = f"FROM sensor_data WHERE device_id = '{device}' AND day = '2024-12-29'"
    answer = run_select(client, f"SELECT day, timestamp, temperature {where}", 1)
    assert answer.columns == ("day", "timestamp", "temperature")
    assert answer.rows == [("2024-12-29", "2024-12-29T04:01:58.317Z", 2.5)]
    assert answer.is_cut
    assert not run_select(client, f"SELECT * {where}", 2).is_cut
    assert run_select(client, f"SELECT count(*) {where}", 5).rows == [(2,)]
    with pytest.raises(PermanentError):
        run_select(client, "SELECT FROM", 5)
