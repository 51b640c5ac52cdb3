"""A fast wrong answer is a failure: every run's rows, by count and by sample."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

from benchmarks.load import FIRST_SECOND, row_of, sample_numbers
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.settings import Settings

_SAMPLE = 200
_THREADS = 8
# As many of the last messages are in every partition of the topic.
_LAST = 40
_ROW = (
    "SELECT temperature, humidity FROM {ks}.sensor_data "
    "WHERE device_id = ? AND day = ? AND timestamp = ?"
)


def _day(ms: int) -> date:
    return datetime.fromtimestamp(ms // 1000, UTC).date()


def _days(count: int, devices: int) -> Iterable[int]:
    last = FIRST_SECOND + (count - 1) // devices + 1
    return range(FIRST_SECOND // 86_400, last // 86_400 + 1)


def count_rows(client: CassandraClient, count: int, devices: int) -> int:
    """Rows in the table: partition by partition, or one scan when partitions are many."""
    ks = client.keyspace
    if devices > 2_000:
        rows = client.execute(
            f"SELECT count(*) FROM {ks}.sensor_data", doing="counting", timeout_seconds=300
        )
        return int(rows[0][0])
    cql = f"SELECT count(*) FROM {ks}.sensor_data WHERE device_id = ? AND day = ?"
    places = [
        (f"device_{at}", datetime.fromtimestamp(day * 86_400, UTC).date())
        for at in range(devices)
        for day in _days(count, devices)
    ]
    client.prepare(cql)
    with ThreadPoolExecutor(_THREADS) as pool:
        counted = pool.map(lambda place: client.execute(cql, place, doing="counting"), places)
        return sum(int(rows[0][0]) for rows in counted)


def find_problem(settings: Settings, count: int, devices: int) -> str:
    """What is wrong with the rows of one run, in words; nothing when they are all there."""
    with CassandraClient(settings, request_timeout_seconds=300) as client:
        found = count_rows(client, count, devices)
        if found != count:
            return f"{found} rows, expected {count}"
        cql = _ROW.format(ks=client.keyspace)
        for number in sample_numbers(count, _SAMPLE):
            device, ms, temperature, humidity = row_of(number, devices)
            rows = client.execute(cql, (device, _day(ms), ms), doing="sampling")
            if [tuple(row) for row in rows] != [(temperature, humidity)]:
                return f"message {number}: {rows}, expected {(temperature, humidity)}"
    return ""


def is_complete(client: CassandraClient, count: int, devices: int) -> bool:
    """Whether a peer that runs until it is killed has written everything.

    Asked many times meanwhile: rows are counted, which takes Cassandra from the peer, once some of
    the last messages are there.
    """
    cql = _ROW.format(ks=client.keyspace)
    for number in range(count - 1, max(-1, count - 1 - _LAST), -1):
        device, ms, *_ = row_of(number, devices)
        if not client.execute(cql, (device, _day(ms), ms), doing="looking for the last rows"):
            return False
    return count_rows(client, count, devices) >= count
