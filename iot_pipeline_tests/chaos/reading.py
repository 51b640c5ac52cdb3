"""What there is, read by plain clients: for the oracle, and for whoever waits for a recovery.

No code of the package under test.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from cassandra import ConsistencyLevel, DriverException, OperationTimedOut
from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.query import SimpleStatement
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from iot_pipeline_tests.chaos.oracle import Attempt, Entry, Facts, Found, Row, Stretch
from iot_pipeline_tests.patience import until

# The load numbers its messages in this header, so that equal bytes are still two records.
NUMBER_HEADER = "chaos.number"
SOURCE_PARTITION = "__connect.errors.partition"
SOURCE_OFFSET = "__connect.errors.offset"
_QUIET_SECONDS = 30.0
_PATIENCE_SECONDS = 90.0
_CANNOT_READ = {KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION}


def collect(
    bootstrap_servers: str,
    contact_points: tuple[str, ...],
    cassandra_port: int,
    topic: str,
    keyspace: str,
    attempted: Mapping[int, Attempt],
    acknowledged: frozenset[int],
    known: Iterable[Found] = (),
    unreadable: Sequence[Stretch] = (),
    foreign: Mapping[bytes, int] | None = None,
    names: Sequence[str] = ("temperature", "humidity"),
) -> Facts:
    """Read everything there is, after the faults and with every backlog drained.

    `known` are records that were read before Kafka deleted or lost them, `unreadable` the stretches
    that no client can read, `foreign` the numbers of records whose headers cannot be read, `names`
    the quantities' columns.
    """
    facts = Facts(attempted, acknowledged, unreadable=list(unreadable))
    with plain_session(contact_points, cassandra_port) as session:
        _read_tables(session, topic, keyspace, names, facts)
    found = {record.place: record for record in known}
    current = read_records(
        bootstrap_servers, topic, facts.epochs, facts.ends, unreadable, foreign or {}
    )
    for record in current:
        found[record.place] = record
    facts.records = sorted(found.values(), key=lambda record: record.place)
    for message in _read_topic(bootstrap_servers, f"{topic}.dlq", {}):
        headers = dict(message.headers() or ())
        place = int(headers[SOURCE_PARTITION]), int(headers[SOURCE_OFFSET])
        facts.letters.append((*place, message.value()))
    return facts


def read_records(
    bootstrap_servers: str,
    topic: str,
    epochs: Mapping[int, int],
    ends: dict[int, int],
    unreadable: Sequence[Stretch],
    foreign: Mapping[bytes, int],
) -> Iterator[Found]:
    """Every record that the topic has now; `ends` is filled with its high watermarks."""
    for message in _read_topic(bootstrap_servers, topic, ends, unreadable):
        partition, value = message.partition(), message.value()
        try:
            number = int(dict(message.headers() or ()).get(NUMBER_HEADER) or -1)
        except (SystemError, UnicodeDecodeError):  # a name that is not UTF-8
            number = foreign.get(value, -1)
        yield Found(
            partition,
            message.offset(),
            message.timestamp()[1],
            number,
            value,
            epochs.get(partition, 0),
        )


def read_ends(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """One past the last offset that a read_committed consumer may see, by partition."""
    deadline = until(_PATIENCE_SECONDS)
    consumer = _new_consumer(bootstrap_servers)
    try:
        while True:
            try:
                known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
                places = [TopicPartition(topic, partition) for partition in known]
                return {p.partition: consumer.get_watermark_offsets(p, 20)[1] for p in places}
            except KafkaException:  # it came up just now, and has no leaders yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
    finally:
        consumer.close()


class plain_session:  # noqa: N801 - used as a function
    """A session with the driver's own defaults, but patient: a server may have just come up."""

    def __init__(self, contact_points: tuple[str, ...], port: int) -> None:
        self._where = list(contact_points), port
        self._cluster: Cluster | None = None

    def __enter__(self) -> Session:
        deadline = until(_PATIENCE_SECONDS)
        while True:
            points, port = self._where
            self._cluster = Cluster(points, port=port, connect_timeout=20, protocol_version=5)
            try:
                session = self._cluster.connect()
            except (NoHostAvailable, OperationTimedOut):
                self._cluster.shutdown()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
                continue
            session.default_timeout = 60
            # Of three replicas one may not have a row yet.
            session.default_consistency_level = ConsistencyLevel.QUORUM
            return session

    def __exit__(self, *_: object) -> None:
        if self._cluster is not None:
            self._cluster.shutdown()


class Checkpoints:
    """The checkpoints of a topic, asked over one session, which is made anew when it fails."""

    def __init__(
        self, contact_points: tuple[str, ...], port: int, keyspace: str, topic: str
    ) -> None:
        self._where, self._what = (contact_points, port), (keyspace, topic)
        self._open: tuple[plain_session, Session] | None = None

    def read(self) -> dict[int, int]:
        """next_offset by partition."""
        for attempt in (1, 2, 3):
            if self._open is None:
                manager = plain_session(*self._where)
                self._open = manager, manager.__enter__()
            try:
                return read_checkpoints(self._open[1], *self._what)
            except (NoHostAvailable, DriverException):
                self.close()
                if attempt == 3:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self._open is not None:
            self._open[0].__exit__()
            self._open = None


def read_checkpoints(session: Session, keyspace: str, topic: str) -> dict[int, int]:
    """next_offset by partition, read serially."""
    rows = session.execute(
        f"SELECT DISTINCT topic, kafka_partition FROM {keyspace}.ingest_ledger"
    ).all()
    found = {}
    for place in rows:
        if place.topic != topic:
            continue
        answer = session.execute(
            SimpleStatement(
                f"SELECT next_offset FROM {keyspace}.ingest_ledger "
                "WHERE topic = %s AND kafka_partition = %s LIMIT 1",
                consistency_level=ConsistencyLevel.SERIAL,
            ),
            (topic, place.kafka_partition),
        ).one()
        if answer is not None and answer.next_offset is not None:
            found[place.kafka_partition] = answer.next_offset
    return found


def read_epochs(session: Session, keyspace: str, topic: str) -> dict[int, int]:
    """By partition, how often its log became another one and was accepted."""
    rows = session.execute(
        f"SELECT DISTINCT topic, kafka_partition, current_epoch FROM {keyspace}.ingest_ledger"
    )
    return {row.kafka_partition: row.current_epoch or 0 for row in rows if row.topic == topic}


def _read_tables(
    session: Session, topic: str, keyspace: str, names: Sequence[str], facts: Facts
) -> None:
    facts.checkpoints = read_checkpoints(session, keyspace, topic)
    facts.epochs = read_epochs(session, keyspace, topic)
    for partition in facts.checkpoints:
        statement = SimpleStatement(
            "SELECT epoch, start_offset, end_offset, outcome, stored, superseded, repeated, "
            f"rejected, ignored, aged_out, holes FROM {keyspace}.ingest_ledger "
            "WHERE topic = %s AND kafka_partition = %s",
            consistency_level=ConsistencyLevel.SERIAL,
        )
        for row in session.execute(statement, (topic, partition)):
            if row.start_offset is not None:
                facts.entries.append(Entry(partition, *row))
    times = (f"writetime({name})" for name in names)
    for device_id, day, timestamp, *cells in session.execute(
        f"SELECT device_id, day, timestamp, {', '.join([*names, *times])} "
        f"FROM {keyspace}.sensor_data"
    ):
        ms = round(timestamp.replace(tzinfo=UTC).timestamp() * 1000)
        found = Row(tuple(cells[: len(names)]), tuple(cells[len(names) :]), day.date())
        # A row of which nothing is told is none.
        if any(us is not None for us in found.times_us):
            facts.rows[device_id, ms] = found
    for row in session.execute(f"SELECT day, device_id FROM {keyspace}.devices_by_day"):
        facts.devices.add((row.day.date(), row.device_id))


def _read_topic(
    bootstrap_servers: str, topic: str, ends: dict[int, int], unreadable: Sequence[Stretch] = ()
) -> Iterator[Any]:
    consumer = _new_consumer(bootstrap_servers)
    left: set[int] = set()
    try:
        known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        for partition in known:
            place = TopicPartition(topic, partition)
            low, ends[partition] = consumer.get_watermark_offsets(place, timeout=20)
            if ends[partition] > low:
                left.add(partition)
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
        yield from _until_end(consumer, left, topic, unreadable)
    finally:
        consumer.close()


def _new_consumer(bootstrap_servers: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "chaos-oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
    )


def _until_end(
    consumer: Consumer, left: set[int], topic: str, unreadable: Sequence[Stretch]
) -> Iterator[Any]:
    heard_at = time.monotonic()
    reached: dict[int, int] = {}
    while left:
        assert time.monotonic() - heard_at < _QUIET_SECONDS, f"{topic} fell silent: {left}"
        messages = consumer.consume(1000, 0.2)
        for message in messages:
            heard_at = time.monotonic()
            error, partition = message.error(), message.partition()
            if error is None:
                reached[partition] = message.offset() + 1
                yield message
            elif error.code() in _CANNOT_READ:
                # Only past what is known to be so; said again until the client has moved on.
                ahead = [s for s in unreadable if s.partition == partition]
                ahead = [s for s in ahead if s.end >= reached.get(partition, 0)]
                assert ahead, f"reading {topic}[{partition}]: {error}"
                end = min(ahead, key=lambda stretch: stretch.start).end
                if end > reached.get(partition, 0):
                    reached[partition] = end
                    consumer.seek(TopicPartition(topic, partition, end))
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(partition)
            else:
                raise AssertionError(f"reading {topic}: {error}")
