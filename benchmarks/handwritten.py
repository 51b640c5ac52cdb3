"""What a good hand-written consumer looks like: the one that the drain is compared with.

Prepared statement, `execute_concurrent` with concurrency 256, TCP_NODELAY, lz4 fetches, offsets
committed after the rows: everything a careful person writes in an afternoon, and no ledger, no
write times, no checks.
"""

import argparse
import json
import socket
import time
from datetime import UTC, datetime

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Consumer

from benchmarks.marks import Mark, cpu_seconds, peak_rss_mb

CONCURRENCY = 256
_POLL_RECORDS = 5_000
_QUIET_SECONDS = 30.0


def consume(
    bootstrap: str, host: str, port: int, topic: str, keyspace: str, count: int
) -> tuple[list[Mark], float]:
    """Write `count` messages of the topic; says when how many were safe, and its CPU seconds."""
    cluster = Cluster([host], port=port, sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
    session = cluster.connect(keyspace)
    insert = session.prepare(
        "INSERT INTO sensor_data (device_id, day, timestamp, temperature, humidity) "
        "VALUES (?, ?, ?, ?, ?)"
    )
    # As the drain: with one replica it is that one, with three it is two of them.
    insert.consistency_level = ConsistencyLevel.LOCAL_QUORUM
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"handwritten.{keyspace}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
        }
    )
    consumer.subscribe([topic])
    done, began, heard = 0, 0.0, time.monotonic()
    marks: list[Mark] = []
    cpu = 0.0
    try:
        while done < count:
            messages = consumer.consume(_POLL_RECORDS, 0.2)
            now = time.monotonic()
            if not messages:
                if now - heard > _QUIET_SECONDS:
                    raise SystemExit(f"handwritten: {done} of {count} messages, then silence")
                continue
            heard = now
            began, cpu = began or now, cpu or cpu_seconds()
            rows = []
            for message in messages:
                if message.error() is not None:
                    raise SystemExit(f"handwritten: {message.error()}")
                reading = json.loads(message.value())
                ms = round(reading["timestamp"] * 1e6) // 1000
                day = datetime.fromtimestamp(ms // 1000, UTC).date()
                rows.append(
                    (reading["device_id"], day, ms, reading["temperature"], reading["humidity"])
                )
            execute_concurrent_with_args(session, insert, rows, CONCURRENCY)
            consumer.commit(asynchronous=False)
            done += len(rows)
            marks.append((time.monotonic() - began, done))
        return marks, cpu_seconds() - cpu
    finally:
        consumer.close()
        cluster.shutdown()


def main() -> None:
    """Run it as a program; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "host", "topic", "keyspace"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    given = parser.parse_args()
    marks, cpu = consume(
        given.bootstrap, given.host, given.port, given.topic, given.keyspace, given.count
    )
    said = {
        "stored": marks[-1][1],
        "seconds": marks[-1][0],
        "cpu_seconds": cpu,
        "peak_rss_mb": peak_rss_mb(),
        "marks": marks,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
