"""Both write paths leave the same table behind, to the cell and its write time."""

import time
from typing import Any

import pytest

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.packed_batch import PackedReadingStore, open_reading_store
from iot_pipeline.clients.schema_store import CassandraSchema, KafkaTopics
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.errors import PipelineError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.schema import setup_schema
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services

_ROWS = (
    "SELECT device_id, day, timestamp, temperature, humidity, writetime(temperature), "
    "writetime(humidity), ttl(temperature) FROM {ks}.sensor_data"
)
_DEVICES = "SELECT day, bucket, device_id FROM {ks}.devices_by_day"


def _settings(services: Services, path: str, **more: str) -> Settings:
    return Settings.from_env(services.environment(IOT_WRITE_PATH=path, **more))


def _set_up(settings: Settings, client: CassandraClient) -> None:
    log = KafkaLog(settings)
    try:
        setup_schema(KafkaTopics(settings), log, CassandraSchema(client), settings)
    finally:
        log.close()


def _finish(pending: Any, client: CassandraClient) -> PipelineError | None:
    deadline = until(20)
    while not pending.done:
        assert time.monotonic() < deadline
        client.wait(0.1)
    error: PipelineError | None = pending.error
    return error


def _sample(now_ms: int) -> list[tuple[str, int, RowsByTime]]:
    names = ["device_1", "ø" * 128, "x" * 256, "-", "日本"]
    groups: list[tuple[str, int, RowsByTime]] = []
    for at, name in enumerate(names):
        rows: RowsByTime = {
            ms: ((now_ms - ms % 1000) * 1000 + ms % 1000, at, ms, float(ms % 150) - 0.1, 0.0)
            for ms in range(at, 2_000_000, 9_999 * (at + 1))
        }
        groups.append((name, 20_000 + at, rows))
    return groups


def _contents(services: Services, path: str, retention_days: str) -> tuple[list[Any], list[Any]]:
    settings = _settings(services, path, IOT_RETENTION_DAYS=retention_days)
    with CassandraClient(settings) as client:
        _set_up(settings, client)
        store = open_reading_store(client, settings)
        store._wall_clock = lambda: 1_900_000_000.0
        groups = _sample(1_899_999_000_000)
        sends = [store.send_rows(RowSlice.of({(name, day): rows})) for name, day, rows in groups]
        few = [
            (f"few {name[:20]}", day, dict(list(rows.items())[:5])) for name, day, rows in groups
        ]
        sends.append(store.send_rows(RowSlice.of({(name, day): rows for name, day, rows in few})))
        sends.append(store.send_devices(20_000, {name: 1_899_999_000_000 for name, _, _ in groups}))
        assert [_finish(send, client) for send in sends] == [None] * len(sends)
        if path == "packed":
            assert isinstance(store, PackedReadingStore)
            assert store._is_packing
        rows = client.execute(_ROWS.format(ks=client.keyspace), doing="reading rows")
        devices = client.execute(_DEVICES.format(ks=client.keyspace), doing="reading devices")
    # The seconds left count down while the other path writes.
    found = [(*row[:7], row[7] is not None and 2_000_000 < row[7] < 3_000_000) for row in rows]
    return sorted(found), sorted(devices)


@pytest.mark.parametrize("retention_days", ["0", "30"])
def test_both_write_paths_leave_the_same_cells_and_write_times(
    services: Services, retention_days: str
) -> None:
    packed = _contents(services, "packed", retention_days)
    plain = _contents(services, "driver", retention_days)
    assert len(packed[0]) == sum(len(rows) + 5 for _, _, rows in _sample(0))
    assert len(packed[1]) == 5
    assert packed == plain
    assert {row[7] for row in packed[0]} == {retention_days != "0"}


def test_a_refused_packed_batch_says_what_the_drivers_own_would(services: Services) -> None:
    answers = []
    for path in ("packed", "driver"):
        settings = _settings(services, path)
        with CassandraClient(settings) as client:
            _set_up(settings, client)
            store = open_reading_store(client, settings)
            # A partition key has at most 65,535 bytes; nothing that long passes the decoder.
            error = _finish(
                store.send_rows(RowSlice.of({("k" * 65_535, 1): {1: (1, 0, 0, 0.0, 0.0)}})), client
            )
            answers.append((type(error), str(error).replace(client.keyspace, "ks")))
    assert answers[0] == answers[1]
    assert answers[0][0] is not type(None)


def test_merged_batches_stay_within_the_guard_rails_of_cassandra(services: Services) -> None:
    settings = _settings(services, "packed")
    with CassandraClient(settings) as client:
        _set_up(settings, client)
        before = services.log_size("cassandra")
        store = open_reading_store(client, settings)
        groups: list[tuple[str, int, RowsByTime]] = [
            (f"{at}".rjust(24, "d"), 20_000, {ms: (1, ms, 0, 1.0, 2.0) for ms in range(5)})
            for at in range(10)
        ]
        assert (
            _finish(
                store.send_rows(RowSlice.of({(name, day): rows for name, day, rows in groups})),
                client,
            )
            is None
        )
    assert services.batch_warnings(before) == []
