"""The ports' contracts, on the real clients: a fake nobody verifies is a rumour."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from iot_pipeline.clients.dead_letters import KafkaDeadLetters
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.ledger_store import CassandraLedgerStore
from iot_pipeline.clients.schema_store import KafkaTopics
from iot_pipeline.core.checks.topics import TopicPlan
from iot_pipeline.core.proof.dead_letters import LetterReader
from iot_pipeline.core.reading.messages import DeadLetter, Reason, Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import day_of
from iot_pipeline.errors import PermanentError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ports.ingest import RunCosts
from iot_pipeline.stages.ports.ledger import LedgerSums
from iot_pipeline.stages.ports.readings import ReadingStore
from iot_pipeline.stages.requests import retry_transient
from iot_pipeline_tests.load import produce_in_transaction
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.contracts import (
    DeadLetterSinkContract,
    ReadingStoreContract,
    RecordLogContract,
)
from iot_pipeline_tests.stages.contracts_ledger import (
    LedgerStoreContract,
    LedgerSumsContract,
    RunCostsContract,
)

pytestmark = pytest.mark.services

Headers = list[tuple[str, bytes | None]]


@dataclass
class RealLogWorld:
    log: KafkaLog
    settings: Settings
    topic: str

    def append(
        self,
        partition: int,
        value: bytes | None,
        message_key: bytes | None = None,
        headers: Headers | None = None,
    ) -> int:
        offsets: list[int] = []
        producer = Producer({"bootstrap.servers": self.settings.bootstrap_servers})
        producer.produce(
            self.topic,
            value,
            message_key,
            partition=partition,
            headers=headers or [],
            on_delivery=lambda error, message: offsets.append(message.offset()),
        )
        assert producer.flush(20) == 0
        return offsets[0]

    def append_aborted(self, partition: int, value: bytes) -> None:
        # Of a topic made just now the broker may say that it does not lead it yet.
        before = retry_transient(
            lambda: self.log.watermarks(self.topic)[partition].last_stable, give_up_after_seconds=20
        )
        produce_in_transaction(
            self.settings.bootstrap_servers,
            self.topic,
            [value],
            partition=partition,
            commit=False,
        )
        # The marker is written a moment after the producer was told: a record and a marker.
        deadline = until(20)
        while self.log.watermarks(self.topic)[partition].last_stable < before + 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def delete_before(self, partition: int, offset: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.settings.bootstrap_servers})
        place = TopicPartition(self.topic, partition, offset)
        admin.delete_records([place])[place].result(20)

    def recreate(self) -> None:
        before = self.log.topic_id(self.topic)
        admin = AdminClient({"bootstrap.servers": self.settings.bootstrap_servers})
        admin.delete_topics([self.topic])[self.topic].result(20)
        deadline = until(20)
        made, after = False, before
        while after == before or not made:
            assert time.monotonic() < deadline
            try:
                made = made or make_topic(self.settings, self.topic, 2)
                after = self.log.topic_id(self.topic)
            except (PermanentError, KafkaException):
                time.sleep(0.1)


def make_topic(settings: Settings, topic: str, partitions: int) -> bool:
    config = {"message.timestamp.type": "LogAppendTime"}
    return KafkaTopics(settings).create(TopicPlan(topic, partitions, 1, config))


@dataclass
class RealStoreWorld:
    pipeline: Pipeline

    @property
    def store(self) -> ReadingStore:
        return self.pipeline.connections.store

    def _rows(self, device_id: str, day_number: int) -> dict[int, tuple[float, float, int, int]]:
        found = self.pipeline.connections.cassandra.execute(
            "SELECT toUnixTimestamp(timestamp) AS ms, temperature, humidity, "
            "writetime(temperature) AS t, writetime(humidity) AS h "
            f"FROM {self.pipeline.settings.keyspace}.sensor_data WHERE device_id = ? AND day = ?",
            (device_id, day_number + (1 << 31)),
            doing="testing",
        )
        return {row.ms: (row.temperature, row.humidity, row.t, row.h) for row in found}

    def read_rows(self, device_id: str, day_number: int) -> dict[int, tuple[float, float]]:
        return {ms: row[:2] for ms, row in self._rows(device_id, day_number).items()}

    def read_write_times(self, device_id: str, day_number: int) -> dict[int, set[int]]:
        return {ms: set(row[2:]) for ms, row in self._rows(device_id, day_number).items()}

    def read_devices(self, day_number: int) -> set[str]:
        return set(self.pipeline.connections.days.devices(day_of(day_number)))


@dataclass
class RealLedgerWorld:
    ledger: CassandraLedgerStore
    topic: str


@dataclass
class RealLettersWorld:
    sink: KafkaDeadLetters
    log: KafkaLog
    topic: str
    dead_letter_topic: str

    def read(self) -> list[DeadLetter]:
        (mark,) = self.log.watermarks(self.dead_letter_topic)
        if mark.last_stable == mark.low:
            return []
        source = self.log.open_ranges(
            self.dead_letter_topic, [OffsetRange(0, mark.low, mark.last_stable)]
        )
        reader, letters = LetterReader(), []
        while not source.finished:
            for found in source.poll(0.1):
                letter = reader.add(found)
                if letter is not None:
                    record = Record(
                        letter.source.partition,
                        letter.source.offset,
                        letter.produced_ms or 0,
                        letter.message_key,
                        letter.value,
                        list(letter.headers),
                    )
                    letters.append(DeadLetter(record, Reason(letter.reason), letter.message))
        source.close()
        return letters


class TestKafkaLog(RecordLogContract):
    @pytest.fixture
    def log_world(self, settings: Settings) -> Iterator[RealLogWorld]:
        make_topic(settings, settings.topic, 2)
        log = KafkaLog(settings)
        world = RealLogWorld(log, settings, settings.topic)
        deadline = until(20)
        while True:
            try:
                log.describe(world.topic)
                break
            except PermanentError:  # the broker has not heard of it yet
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield world
        log.close()


class TestCassandraReadingStore(ReadingStoreContract):
    @pytest.fixture
    def store_world(self, pipeline: Pipeline) -> RealStoreWorld:
        return RealStoreWorld(pipeline)


class TestCassandraLedgerStore(LedgerStoreContract):
    @pytest.fixture
    def ledger_world(self, pipeline: Pipeline) -> RealLedgerWorld:
        return RealLedgerWorld(pipeline.connections.ledger, pipeline.topic)


class TestCassandraLedgerSums(LedgerSumsContract):
    @pytest.fixture
    def sums_world(self, pipeline: Pipeline) -> tuple[LedgerSums, str]:
        return pipeline.connections.ledger_sums, pipeline.topic


class TestCassandraRunCosts(RunCostsContract):
    @pytest.fixture
    def costs_world(self, pipeline: Pipeline) -> tuple[RunCosts, str]:
        return pipeline.connections.run_costs, pipeline.topic


class TestKafkaDeadLetters(DeadLetterSinkContract):
    @pytest.fixture
    def letters_world(self, pipeline: Pipeline) -> RealLettersWorld:
        return RealLettersWorld(
            pipeline.connections.dead_letters,
            pipeline.log,
            pipeline.topic,
            pipeline.settings.dead_letter_topic,
        )
