"""A pipeline with a past: ledger entries and Cassandra partitions as years of runs leave them."""

import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_answers import PendingAnswer
from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome
from iot_pipeline.core.reading.spans import bucket_of

_ENTRY = (
    "INSERT INTO {ks}.ingest_ledger (topic, kafka_partition, epoch, start_offset, end_offset, "
    "outcome, run_id, writer_id, stored, superseded, rejected, aged_out, holes, stored_by_day, "
    "updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, ?, ?)"
)
_CHECKPOINT = (
    "INSERT INTO {ks}.ingest_ledger (topic, kafka_partition, next_offset, current_epoch, topic_id) "
    "VALUES (?, ?, ?, 0, ?)"
)
_DEVICE = "INSERT INTO {ks}.devices_by_day (day, bucket, device_id) VALUES (?, ?, ?)"
_ROW = (
    "INSERT INTO {ks}.sensor_data (device_id, day, timestamp, temperature, humidity) "
    "VALUES (?, ?, ?, 20.0, 50.0)"
)
_PER_BATCH = 10  # past that Cassandra warns of their size


def entries_until(
    topic: str, partition: int, now: datetime, *, folded_days: int, runs: int, span: int = 10
) -> list[LedgerEntry]:
    """A chain from offset 0: a folded entry a day, then `runs` over the last day, the last now."""
    found: list[LedgerEntry] = []
    offset = 0
    for number in range(folded_days + runs):
        is_folded = number < folded_days
        if is_folded:
            at = now - timedelta(days=1 + folded_days - number)
        else:
            at = now - timedelta(days=1) * (1 - (number - folded_days + 1) / runs)
        rows = span * (10 if is_folded else 1)
        outcome = Outcome.FOLDED if is_folded else Outcome.INGESTED
        found.append(
            LedgerEntry(
                topic, partition, 0, offset, offset + rows, outcome, f"run-{number}",
                uuid.uuid4(), Counts(rows, stored_by_day={at.date(): rows}), at,
            )
        )  # fmt: skip
        offset += rows
    return found


def write_ledger(client: CassandraClient, topic_id: str, entries: Sequence[LedgerEntry]) -> None:
    """These entries, and the checkpoint of each partition at the end of its chain."""
    insert = client.prepare(_ENTRY.format(ks=client.keyspace))
    _write(
        client,
        insert,
        (
            (
                e.topic, e.partition, e.epoch, e.start_offset, e.end_offset, e.outcome.value,
                e.run_id, e.writer_id, e.counts.stored, dict(e.counts.stored_by_day), e.updated_at,
            )
            for e in entries
        ),
    )  # fmt: skip
    for partition in {entry.partition for entry in entries}:
        chain = [entry for entry in entries if entry.partition == partition]
        end = max(entry.end_offset for entry in chain)
        values = (chain[0].topic, partition, end, topic_id)
        cql = _CHECKPOINT.format(ks=client.keyspace)
        client.execute(cql, values, doing="setting a checkpoint")


def write_rows(client: CassandraClient, days: Iterable[date], devices: int) -> None:
    """One row per device and day: as many Cassandra partitions."""
    row = client.prepare(_ROW.format(ks=client.keyspace))
    device = client.prepare(_DEVICE.format(ks=client.keyspace))
    for day in days:
        at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        names = [f"device_{number}" for number in range(devices)]
        _write(client, device, ((day, bucket_of(name), name) for name in names))
        _write(client, row, ((name, day, at) for name in names), per_batch=10)


def _same(batch: object) -> object:
    return batch


def _write(
    client: CassandraClient,
    statement: object,
    values: Iterator[tuple[object, ...]],
    per_batch: int = _PER_BATCH,
) -> None:
    in_flight: deque[PendingAnswer[Any]] = deque()

    def finish_first() -> None:
        client.finish(in_flight.popleft())

    batch, size = client.unlogged_batch(), 0
    for one in values:
        batch.add(statement, one)
        size += 1
        if size == per_batch:
            in_flight.append(client.start(partial(_same, batch), "writing a past"))
            batch, size = client.unlogged_batch(), 0
        while len(in_flight) > 16:
            finish_first()
    if size:
        in_flight.append(client.start(lambda: batch, "writing a past"))
    while in_flight:
        finish_first()
