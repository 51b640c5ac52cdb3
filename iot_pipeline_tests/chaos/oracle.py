"""The one judge of what faults left behind: plain clients, and no code of the package under test.

`collect` reads topic, dead letters, rows and ledger; `judge` is pure and compares them with what
the load knows of its own sends. It knows the promise (docs/guarantees.md), not how it is kept:

- every acknowledged record is in the topic, or in a recorded expiry;
- every key's row is the record that wins it, whole: values and write time; a key without a row is
  a loss, and a row without a record a stranger;
- every bad record has a dead letter with its bytes, and nothing else has one;
- the ledger tiles each partition from its start to the checkpoint, to the end of the topic, and
  each entry's counts are those of the records it covers.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, Session
from cassandra.query import SimpleStatement
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

# The load numbers its messages in this header, so that equal bytes are still two records.
NUMBER_HEADER = "chaos.number"
SOURCE_PARTITION = "__connect.errors.partition"
SOURCE_OFFSET = "__connect.errors.offset"
_SHOWN = 5
_QUIET_SECONDS = 30.0

# (device_id, milliseconds since 1970)
Key = tuple[str, int]


@dataclass(frozen=True)
class Attempt:
    """A message that the load tried to send; `reading` is None where it is meant to be bad."""

    value: bytes | None
    reading: tuple[str, int, float, float] | None


@dataclass(frozen=True)
class Found:
    """A record as the topic has it."""

    partition: int
    offset: int
    produced_ms: int
    number: int
    value: bytes | None

    @property
    def write_time_us(self) -> int:
        return self.produced_ms * 1000 + self.offset % 1000


@dataclass(frozen=True)
class Row:
    """A row as the table has it; None where a cell is missing."""

    temperature: float | None
    humidity: float | None
    temperature_us: int | None
    humidity_us: int | None
    day: date


@dataclass(frozen=True)
class Entry:
    """One row of the ledger."""

    partition: int
    epoch: int
    start: int
    end: int
    outcome: str
    stored: int
    superseded: int
    rejected: int
    aged_out: int
    holes: int


@dataclass
class Facts:
    """All that there is to judge, as it was found."""

    attempted: Mapping[int, Attempt]
    acknowledged: frozenset[int]
    records: list[Found] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    letters: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    rows: dict[Key, Row] = field(default_factory=dict)
    devices: set[tuple[date, str]] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    checkpoints: dict[int, int] = field(default_factory=dict)


@dataclass
class Verdict:
    """What is wrong, by kind; empty when every promise was kept."""

    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    records: int = 0
    rows: int = 0

    @property
    def is_clean(self) -> bool:
        return not self.faults

    @property
    def kinds(self) -> set[str]:
        return set(self.faults)

    def __str__(self) -> str:
        lines = [
            f"{kind}: {len(found)}, first {found[:_SHOWN]}" for kind, found in self.faults.items()
        ]
        return "\n".join(lines) or f"clean: {self.records} records, {self.rows} rows"


# -- judging -----------------------------------------------------------------------------------


def judge(facts: Facts) -> Verdict:
    """Say which promises are broken; pure."""
    verdict = Verdict(records=len(facts.records), rows=len(facts.rows))
    _judge_topic(facts, verdict)
    _judge_rows(facts, verdict)
    _judge_letters(facts, verdict)
    _judge_ledger(facts, verdict)
    return verdict


def _judge_topic(facts: Facts, verdict: Verdict) -> None:
    found = set()
    for record in facts.records:
        attempt = facts.attempted.get(record.number)
        if attempt is None or attempt.value != record.value:
            verdict.faults["never attempted"].append(f"{record}")
        found.add(record.number)
    # Where anything expired nobody can say any more which numbers it held.
    if not any(entry.outcome == "expired" for entry in facts.entries):
        for number in sorted(facts.acknowledged - found):
            verdict.faults["acknowledged and gone from the topic"].append(str(number))


def _judge_rows(facts: Facts, verdict: Verdict) -> None:
    winners: dict[Key, tuple[tuple[int, int, int], Found]] = {}
    for record in facts.records:
        attempt = facts.attempted.get(record.number)
        if attempt is None or attempt.reading is None:
            continue
        device_id, ms, _, _ = attempt.reading
        rank = (record.write_time_us, record.partition, record.offset)
        best = winners.get((device_id, ms))
        if best is None or rank > best[0]:
            winners[device_id, ms] = (rank, record)
    for key, (_, record) in winners.items():
        row = facts.rows.get(key)
        if row is None:
            verdict.faults["lost"].append(f"{key} of {record.partition}@{record.offset}")
            continue
        reading = facts.attempted[record.number].reading
        assert reading is not None
        at = record.write_time_us
        if (row.temperature, row.humidity, row.temperature_us, row.humidity_us) != (
            *reading[2:],
            at,
            at,
        ):
            wanted = f"{reading[2:]} of {record.partition}@{record.offset} written at {at}"
            verdict.faults["not its winner"].append(f"{key}: {row}, expected {wanted}")
        if row.day != _day_of(key[1]):
            verdict.faults["under a wrong day"].append(f"{key}: {row.day}")
        if (row.day, key[0]) not in facts.devices:
            verdict.faults["device not noted"].append(f"{key[0]} on {row.day}")
    for key in facts.rows.keys() - winners.keys():
        verdict.faults["stray"].append(f"{key}: {facts.rows[key]}")


def _judge_letters(facts: Facts, verdict: Verdict) -> None:
    expected = {
        (record.partition, record.offset): record.value
        for record in facts.records
        if record.number in facts.attempted and facts.attempted[record.number].reading is None
    }
    delivered = set()
    for partition, offset, value in facts.letters:
        if (partition, offset) not in expected or expected[partition, offset] != value:
            verdict.faults["a letter of no bad record"].append(f"{partition}@{offset}")
        delivered.add((partition, offset))
    for place in sorted(expected.keys() - delivered):
        verdict.faults["no dead letter"].append(f"{place[0]}@{place[1]}")


def _judge_ledger(facts: Facts, verdict: Verdict) -> None:
    bad_at: defaultdict[int, list[int]] = defaultdict(list)
    all_at: defaultdict[int, list[int]] = defaultdict(list)
    for record in facts.records:
        all_at[record.partition].append(record.offset)
        attempt = facts.attempted.get(record.number)
        if attempt is not None and attempt.reading is None:
            bad_at[record.partition].append(record.offset)
    chains: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in sorted(facts.entries, key=lambda entry: (entry.epoch, entry.start)):
        chains[entry.partition].append(entry)
    for partition, end in facts.ends.items():
        reached = 0
        for entry in chains[partition]:
            if entry.start != reached:
                kind = "ledger gap" if entry.start > reached else "ledger overlap"
                verdict.faults[kind].append(f"{partition}: {reached}, then {entry}")
            reached = entry.end
            _judge_sums(entry, all_at[partition], bad_at[partition], verdict)
        checkpoint = facts.checkpoints.get(partition, 0)
        if checkpoint != reached:
            verdict.faults["checkpoint off the chain"].append(
                f"{partition}: chain ends at {reached}, checkpoint {checkpoint}"
            )
        if checkpoint != end:
            verdict.faults["not drained"].append(f"{partition}: {checkpoint} of {end}")


def _judge_sums(entry: Entry, offsets: list[int], bad: list[int], verdict: Verdict) -> None:
    span = entry.end - entry.start
    if entry.outcome not in ("ingested", "folded"):
        return
    accounted = entry.stored + entry.superseded + entry.rejected + entry.aged_out + entry.holes
    rejected = sum(entry.start <= offset < entry.end for offset in bad)
    holes = span - sum(entry.start <= offset < entry.end for offset in offsets)
    if accounted != span or entry.rejected != rejected or entry.holes != holes or entry.aged_out:
        verdict.faults["ledger sums"].append(
            f"{entry}: span {span}, {rejected} rejected and {holes} holes there"
        )


def _day_of(ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).date()


# -- reading -----------------------------------------------------------------------------------


def collect(
    bootstrap_servers: str,
    contact_points: tuple[str, ...],
    cassandra_port: int,
    topic: str,
    keyspace: str,
    attempted: Mapping[int, Attempt],
    acknowledged: frozenset[int],
) -> Facts:
    """Read everything there is, after the faults and with every backlog drained."""
    facts = Facts(attempted, acknowledged)
    for message in _read_topic(bootstrap_servers, topic, facts.ends):
        headers = dict(message.headers() or ())
        facts.records.append(
            Found(
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                int(headers.get(NUMBER_HEADER) or -1),
                message.value(),
            )
        )
    for message in _read_topic(bootstrap_servers, f"{topic}.dlq", {}):
        headers = dict(message.headers() or ())
        place = int(headers[SOURCE_PARTITION]), int(headers[SOURCE_OFFSET])
        facts.letters.append((*place, message.value()))
    with plain_session(contact_points, cassandra_port) as session:
        _read_tables(session, topic, keyspace, facts)
    return facts


class plain_session:  # noqa: N801 - used as a function
    """A session of the driver with its own defaults, but for a patient timeout."""

    def __init__(self, contact_points: tuple[str, ...], port: int) -> None:
        self._cluster = Cluster(
            list(contact_points), port=port, connect_timeout=20, protocol_version=5
        )

    def __enter__(self) -> Session:
        session = self._cluster.connect()
        session.default_timeout = 60
        return session

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()


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


def _read_tables(session: Session, topic: str, keyspace: str, facts: Facts) -> None:
    facts.checkpoints = read_checkpoints(session, keyspace, topic)
    for partition in facts.checkpoints:
        statement = SimpleStatement(
            "SELECT epoch, start_offset, end_offset, outcome, stored, superseded, rejected, "
            f"aged_out, holes FROM {keyspace}.ingest_ledger "
            "WHERE topic = %s AND kafka_partition = %s",
            consistency_level=ConsistencyLevel.SERIAL,
        )
        for row in session.execute(statement, (topic, partition)):
            if row.start_offset is not None:
                facts.entries.append(Entry(partition, *row))
    for row in session.execute(
        "SELECT device_id, day, timestamp, temperature, humidity, writetime(temperature) AS t, "
        f"writetime(humidity) AS h FROM {keyspace}.sensor_data"
    ):
        ms = round(row.timestamp.replace(tzinfo=UTC).timestamp() * 1000)
        facts.rows[row.device_id, ms] = Row(
            row.temperature, row.humidity, row.t, row.h, row.day.date()
        )
    for row in session.execute(f"SELECT day, device_id FROM {keyspace}.devices_by_day"):
        facts.devices.add((row.day.date(), row.device_id))


def _read_topic(bootstrap_servers: str, topic: str, ends: dict[int, int]) -> Iterator[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "chaos-oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
    )
    try:
        known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        for partition in known:
            place = TopicPartition(topic, partition)
            ends[partition] = consumer.get_watermark_offsets(place, timeout=20)[1]
        left = {partition for partition, end in ends.items() if end}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
        yield from _until_end(consumer, left, topic)
    finally:
        consumer.close()


def _until_end(consumer: Consumer, left: set[int], topic: str) -> Iterator[Any]:
    heard_at = time.monotonic()
    while left:
        assert time.monotonic() - heard_at < _QUIET_SECONDS, f"{topic} fell silent: {left}"
        messages = consumer.consume(1000, 0.2)
        for message in messages:
            heard_at = time.monotonic()
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                raise AssertionError(f"reading {topic}: {error}")
