"""From the broker's timestamp to a row that can be read: a probe that reads back.

Messages arrive at a steady rate; every `every`-th is a probe whose row is asked for until it is
there. Producer, broker, Cassandra and probe share one machine, so their clocks agree.
"""

import functools
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks.load import make_producer
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.settings import Settings

_PROBE_SECONDS = 10.0
_REST_SECONDS = 0.005
# A row that is not there yet is asked for again when its age has grown by this share: the answer is
# at most so much too late, and many late rows do not keep the servers busy with being asked for.
_ASK_AGAIN_SHARE = 0.08
_ROW = (
    "SELECT writetime(temperature) FROM {ks}.sensor_data "
    "WHERE device_id = ? AND day = ? AND timestamp = ?"
)


@dataclass
class Latencies:
    """Milliseconds from broker to readable row, one per probe; `lost` never came in time."""

    ms: list[float] = field(default_factory=list)
    lost: int = 0
    sent: int = 0

    def percentile(self, share: float) -> float:
        """The smallest latency that so many of the probes did not exceed; nan without probes."""
        ordered = sorted(self.ms)
        if not ordered:
            return float("nan")
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def summary(self) -> dict[str, float]:
        """What a report shows."""
        return {
            "probes": len(self.ms),
            "lost": self.lost,
            "sent": self.sent,
            "p50_ms": round(self.percentile(0.50), 1),
            "p95_ms": round(self.percentile(0.95), 1),
            "p99_ms": round(self.percentile(0.99), 1),
        }


def probe(
    settings: Settings, rate: int, seconds: float, devices: int = 1000, probes_per_second: int = 10
) -> Latencies:
    """Send `rate` messages a second and measure those that are probes.

    Args:
        settings: where the topic and the table are.
        rate: messages a second, spread over each second.
        seconds: how long.
        devices: how many take turns.
        probes_per_second: how many of them are read back.
    """
    found = Latencies()
    pending: list[tuple[float, str, float]] = []
    lock = threading.Lock()

    def delivered(at: float, error: object, message: Any) -> None:
        if error is None:
            with lock:
                pending.append((message.timestamp()[1], "probe", at))

    done = threading.Event()
    reader = threading.Thread(target=_read_back, args=(settings, pending, lock, done, found))
    reader.start()
    producer = make_producer(settings, linger_ms=5, reports=True)
    began = time.monotonic()
    every = max(1, rate // probes_per_second)
    try:
        while (passed := time.monotonic() - began) < seconds:
            while found.sent < passed * rate:
                at = round(time.time(), 3)
                is_probe = found.sent % every == 0
                name = "probe" if is_probe else f"device_{found.sent % devices}"
                value = (
                    f'{{"device_id": "{name}", "timestamp": {at!r}, "temperature": 20.5, '
                    '"humidity": 40.0}'
                )
                if is_probe:
                    producer.produce(
                        settings.topic,
                        value,
                        name,
                        on_delivery=functools.partial(delivered, at),
                    )
                else:
                    producer.produce(settings.topic, value, name)
                found.sent += 1
            producer.poll(0)
            # Polling all the time would take the core that the servers need.
            time.sleep(_REST_SECONDS)
        producer.flush(30)
    finally:
        done.set()
        reader.join(_PROBE_SECONDS + 5)
    return found


def _read_back(
    settings: Settings,
    pending: list[tuple[float, str, float]],
    lock: threading.Lock,
    done: threading.Event,
    found: Latencies,
) -> None:
    with CassandraClient(settings) as client:
        cql = _ROW.format(ks=client.keyspace)
        ask_at_ms: dict[float, float] = {}
        while True:
            with lock:
                waiting = list(pending)
            if not waiting and done.is_set():
                return
            for probe_of in waiting:
                produced_ms, device, at = probe_of
                if time.time() * 1000 < ask_at_ms.get(at, 0.0):
                    continue
                moment = datetime.fromtimestamp(at, UTC)
                ms = timestamp_ms(at)
                rows = client.execute(cql, (device, moment.date(), ms), doing="probing")
                late_ms = time.time() * 1000 - produced_ms
                if not rows and late_ms < _PROBE_SECONDS * 1000:
                    ask_at_ms[at] = produced_ms + late_ms * (1 + _ASK_AGAIN_SHARE)
                    continue
                ask_at_ms.pop(at, None)
                with lock:
                    pending.remove(probe_of)
                if rows:
                    found.ms.append(late_ms)
                else:
                    found.lost += 1
            time.sleep(0.005)
