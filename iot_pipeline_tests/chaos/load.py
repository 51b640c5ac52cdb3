"""The load that runs while things die: readings, duplicates, conflicts and bad records.

It keeps its own account: what it tried to send, and what the broker acknowledged. The oracle takes
both. Nothing of the package under test is used.
"""

import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException, Producer

from iot_pipeline_tests.chaos.oracle import Attempt
from iot_pipeline_tests.chaos.reading import NUMBER_HEADER
from iot_pipeline_tests.foreign_headers import send_foreign_header

# Beginning a few hours before midnight UTC, so that devices have rows on more than one day.
ORIGIN_MS = 1_735_426_800_000
BAD = (b"no reading", b'{"device_id": "x"}', b"\xff\xfe", b"[]", None)
_DUPLICATES, _CONFLICTS, _BAD = 0.05, 0.05, 0.02
_RECENT = 500
_BURST_SECONDS = 0.01
# Of the messages, those that lack an optional quantity.
_LACKING = 0.4
# Longer than any fault stands in Kafka's way.
_STALLED_SECONDS = 60.0


@dataclass
class Load:
    """A producer in a thread: `start`, and `stop` when everything that was sent is decided.

    Args:
        bootstrap_servers: where.
        topic: what.
        seed: the same seed tries to send the same messages in the same order.
        per_second: messages, about.
        devices: how many take turns.
        name: that of the devices begins with it.
        acks: "1" is the negative control: what only a leader has counts as sent.
        names: of the quantities.
        optional: those of them that a message may lack, as two of five do.
    """

    bootstrap_servers: str
    topic: str
    seed: int
    per_second: int = 1000
    devices: int = 40
    name: str = "chaos"
    acks: str = "all"
    names: tuple[str, ...] = ("temperature", "humidity")
    optional: frozenset[str] = frozenset()
    attempted: dict[int, Attempt] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        # One past the last acknowledged offset, by partition.
        self.ends: dict[int, int] = {}
        self._recent: list[Attempt] = []
        self._sent = 0
        self._stop, self._paused = threading.Event(), threading.Event()
        self._sending = threading.Lock()
        self._extra = 0
        # Values of records whose headers no client reads, and their numbers.
        self.foreign: dict[bytes, int] = {}
        self._failure: BaseException | None = None
        self.renewed = 0
        self._heard_at = 0.0
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = 120.0) -> None:
        """End it; what the broker never answered stays attempted, not acknowledged."""
        self._stop.set()
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), "the load did not stop"
        if self._failure is not None:
            raise self._failure
        self._producer.flush(timeout_seconds)

    def backlog(self, count: int) -> None:
        """So many messages more, as fast as they go, by the load's own thread."""
        self._extra += count

    def top_up(self, count: int) -> None:
        """So many more, whether it runs or not, acknowledged."""
        with self._sending:
            for _ in range(count):
                self._send_one(self._next())
            self.flush()

    def send(self, count: int) -> None:
        """So many messages at once, in the caller's thread, all acknowledged."""
        for _ in range(count):
            self._send_one(self._next())
        assert self._producer.flush(60) == 0
        assert not self.refused, self.refused[:3]

    def send_reading(self, device_id: str, ms: int, temperature: float, humidity: float) -> None:
        """One message of the caller's own; `flush` says when it is acknowledged."""
        self._send_one(self._reading(device_id, ms, temperature, humidity))

    def send_bad(self, value: bytes | None) -> None:
        """One message that is no reading."""
        self._send_one(Attempt(value, None))

    def send_foreign(self, count: int) -> None:
        """Records with a header whose name is not UTF-8, readings and bad ones, acknowledged."""
        for _ in range(count):
            with self._sending:
                number = len(self.attempted)
                device_id = f"{self.name}_foreign"
                attempt = self._reading(device_id, ORIGIN_MS + number, *self._values())
                if number % 3 == 0:
                    attempt = Attempt(f"foreign and bad {number}".encode(), None)
                assert attempt.value is not None
                self.attempted[number] = attempt
                self.foreign[attempt.value] = number
            send_foreign_header(self.bootstrap_servers, self.topic, attempt.value)
            self.acknowledged.add(number)

    def pause(self) -> None:
        """Send nothing more until `go_on`; returns when all that was sent is decided."""
        self._paused.set()
        with self._sending:
            self._renew_if_stalled()
            self.flush()

    def go_on(self) -> None:
        """The pause is over; with a producer that knows nothing of the topic of before."""
        self._producer = self._new_producer()
        self._paused.clear()

    def linger_for(self, ms: int) -> None:
        """Send what comes within so many milliseconds as one batch, which gets one broker time."""
        self._producer = self._new_producer(ms)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def _run(self) -> None:
        try:
            last_at, due = time.monotonic(), 0.0
            while not self._stop.wait(_BURST_SECONDS):
                now = time.monotonic()
                due, last_at = due + (now - last_at) * self.per_second, now
                if self._paused.is_set():
                    due = 0.0
                    continue
                extra, self._extra = self._extra, 0
                due += extra
                with self._sending:
                    while due >= 1 and not (self._stop.is_set() or self._paused.is_set()):
                        self._send_one(self._next())
                        due -= 1
                    self._producer.poll(0)
                    self._renew_if_stalled()
        except BaseException as exc:  # noqa: BLE001 - raised again by stop()
            self._failure = exc

    def _renew_if_stalled(self) -> None:
        """An idempotent producer may never recover from what a broker forgot; a new one does.

        Source: confluent-kafka-dotnet issue 2519. What it had not delivered stays attempted.
        """
        if len(self._producer) and time.monotonic() - self._heard_at > _STALLED_SECONDS:
            self.renewed += 1
            self._producer = self._new_producer()

    def _next(self) -> Attempt:
        dice = self._random.random()
        if self._recent and dice < _DUPLICATES:
            return self._random.choice(self._recent)
        if self._recent and dice < _DUPLICATES + _CONFLICTS:
            rival = self._random.choice(self._recent)
            assert rival.reading is not None
            return self._reading(rival.reading[0], rival.reading[1], *self._values())
        if dice < _DUPLICATES + _CONFLICTS + _BAD:
            return Attempt(self._random.choice(BAD), None)
        self._sent += 1
        device_id = f"{self.name}_{self._sent % self.devices}"
        ms = ORIGIN_MS + self._sent // self.devices * 100
        fresh = self._reading(device_id, ms, *self._values())
        self._recent = [*self._recent[-_RECENT:], fresh]
        return fresh

    def _values(self) -> list[float | None]:
        # Zero among them: it is a reading.
        return [
            None
            if name in self.optional and self._random.random() < _LACKING
            else self._random.randint(0, 9000) / 100
            for name in self.names
        ]

    def _reading(self, device_id: str, ms: int, *values: float | None) -> Attempt:
        message: dict[str, object] = {"device_id": device_id, "timestamp": ms / 1000}
        told = zip(self.names, values, strict=True)
        message |= {name: value for name, value in told if value is not None}
        return Attempt(json.dumps(message).encode(), (device_id, ms, *values))

    def _send_one(self, attempt: Attempt) -> None:
        number = len(self.attempted)
        self.attempted[number] = attempt
        device_id = attempt.reading[0].encode() if attempt.reading else None
        if not len(self._producer):
            self._heard_at = time.monotonic()

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                self._heard_at = time.monotonic()
                self.acknowledged.add(number)
                self.ends[message.partition()] = message.offset() + 1
            else:
                self.refused.append(str(error))

        while True:
            try:
                self._producer.produce(
                    self.topic,
                    attempt.value,
                    device_id,
                    headers=[(NUMBER_HEADER, str(number).encode())],
                    on_delivery=delivered,
                )
                return
            except BufferError:
                self._producer.poll(0.1)
                self._renew_if_stalled()
                if self._stop.is_set():
                    return  # attempted, and never sent
            except KafkaException as exc:
                # A fatal error of an idempotent producer ends it; the next one goes on.
                self.refused.append(str(exc))
                self._producer = self._new_producer()

    def _new_producer(self, linger_ms: int = 5) -> Producer:
        self._heard_at = time.monotonic()
        return Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "enable.idempotence": self.acks == "all",
                "acks": self.acks,
                # A broker of three that is frozen or cut off leads no more: a minute is long to
                # wait for it.
                "socket.timeout.ms": 6000,
                "request.timeout.ms": 6000,
                "topic.metadata.refresh.interval.ms": 3000,
                "linger.ms": linger_ms,
                "batch.size": 1_000_000,
                "message.timeout.ms": 300_000,
                "queue.buffering.max.messages": 200_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
