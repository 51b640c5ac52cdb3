"""Batches that Kafka's client cannot give out, between good ones: read around, recorded, said."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from iot_pipeline.core.ledger.chain import Outcome
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import SchemaMismatchError, UnreadableError
from iot_pipeline.stages.checks import lag_is_within_limit
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import look_at
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline_tests.load import ORIGIN_SECONDS, fleet, produce, reading_json, send_bomb
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

_BOMB_RECORDS = 1_800


def _readings(device: str, count: int, from_seconds: int) -> Iterator[tuple[bytes, bytes]]:
    for number in range(count):
        yield device.encode(), reading_json(device, ORIGIN_SECONDS + from_seconds + number)


def _losses(pipeline: Pipeline) -> list[tuple[OffsetRange, str]]:
    chain = read_chain(pipeline.connections.ledger, pipeline.topic, range(4))
    assert chain.flaws == []
    lost = [entry for entry in chain.entries if entry.outcome is Outcome.UNREADABLE]
    return sorted((entry.offsets, entry.cause) for entry in lost)


def _pack_as_zstd(brokers: str, topic: str) -> None:
    operation = AlterConfigOpType.SET
    entry = ConfigEntry("compression.type", "zstd", incremental_operation=operation)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.incremental_alter_configs([resource])[resource].result(30)


def test_what_can_be_read_around_bad_batches_is_stored_and_the_bad_ones_are_recorded(
    pipeline: Pipeline,
) -> None:
    brokers, topic = pipeline.brokers, pipeline.topic
    produce(brokers, topic, _readings("good", 10, 0), partition=0)
    send_bomb(brokers, topic, _BOMB_RECORDS, partition=0)
    produce(brokers, topic, _readings("good", 10, 100), partition=0)
    # Where the brokers pack batches anew, those of the other codecs are bounded, too.
    _pack_as_zstd(brokers, topic)
    send_bomb(brokers, topic, _BOMB_RECORDS, partition=0, codec="gzip")
    produce(brokers, topic, _readings("good", 10, 200), partition=0)
    produce(brokers, topic, fleet("other", 1, 50), partition=1)
    first = OffsetRange(0, 10, 10 + _BOMB_RECORDS)
    second = OffsetRange(0, first.end + 10, first.end + 10 + _BOMB_RECORDS)

    said = pipeline.iot("drain", exit_code=1)
    assert f"offsets {first.start} to {first.end - 1} cannot be read: batch" in said
    assert "1,800 records" in said
    assert "zstd): it cannot be unpacked" in said
    assert "restore them in Kafka" in said
    assert "IOT_ON_UNREADABLE=record" in said
    assert (len(pipeline.rows("good")), pipeline.count_rows("other", 1)) == (10, 50)
    # Offsets are told whatever the records are, and the batch's header says since when it waits.
    lag = pipeline.iot("lag", "--json")
    assert (lag["partitions"][0]["lag"], lag["lag"]) == (2 * _BOMB_RECORDS + 20,) * 2
    assert 0 < lag["lag_seconds"] < 600
    # Who looks later reads which partition stands still, and why.
    assert "cannot be read: batch" in lag["partitions"][0]["stopped_by"]
    assert lag["partitions"][1]["stopped_by"] is None
    facts = Facts(pipeline.connections, datetime.now(UTC))
    (verdict,) = look_at([lag_is_within_limit.CHECK], facts)
    assert f"Partition 0 stands still at offset {first.start} since" in verdict.sentence

    pipeline.env.update(IOT_ON_UNREADABLE="record")  # type: ignore[attr-defined]
    said = pipeline.iot("drain")
    assert f"LOST: {first} was not read" in said
    assert f"LOST: {second} was not read" in said
    assert pipeline.iot("lag", "--json")["partitions"][0]["stopped_by"] is None
    assert len(pipeline.rows("good")) == 30
    losses = _losses(pipeline)
    assert [item for item, _ in losses] == [first, second]
    assert all("it cannot be unpacked" in cause for _, cause in losses)
    audit = pipeline.iot("audit", "--all", "--json")
    assert (audit["stored"], audit["unreadable"], audit["lost"], audit["holes"]) == (
        80, 2 * _BOMB_RECORDS, 0, 0,
    )  # fmt: skip
    assert pipeline.iot("trace", "good", str(ORIGIN_SECONDS + 200), "--json")


def test_a_bad_batch_among_the_dead_letters_hides_only_itself(pipeline: Pipeline) -> None:
    letters = pipeline.settings.dead_letter_topic
    produce(pipeline.brokers, pipeline.topic, [(None, b"first")], partition=0)
    pipeline.drain()
    send_bomb(pipeline.brokers, letters, _BOMB_RECORDS, partition=0)
    produce(pipeline.brokers, pipeline.topic, [(None, b"second")], partition=0)
    pipeline.drain()
    listed = pipeline.iot("dead-letters", "list", "--json")
    assert sorted(item["value"] for item in listed["dead_letters"]) == ["first", "second"]
    assert listed["unreadable"] == _BOMB_RECORDS
    assert "1,800 offsets" in pipeline.iot("dead-letters", "stats")
    assert "1,800 offsets" in pipeline.iot("dead-letters", "replay")
    audit = pipeline.iot("audit", "--all", "--json")
    assert (audit["rejected"], audit["lost"]) == (2, 0)


def test_records_of_before_the_brokers_clock_are_told_from_a_topic_without_it(
    pipeline: Pipeline,
) -> None:
    brokers, topic = pipeline.brokers, pipeline.topic
    _stamp_by(brokers, topic, "CreateTime")
    produce(brokers, topic, _readings("old", 20, 0), partition=0)
    with pytest.raises(SchemaMismatchError, match="type is CreateTime"):
        pipeline.drain()
    _stamp_by(brokers, topic, "LogAppendTime")
    produce(brokers, topic, _readings("new", 20, 0), partition=0)
    (why,) = pipeline.drain().stopped.values()
    assert isinstance(why, UnreadableError)
    assert (why.partition, why.start, why.end) == (0, 0, 20)
    assert "before the topic's message.timestamp.type became LogAppendTime" in str(why)
    assert "IOT_ACCEPT_PRODUCER_TIMESTAMPS=true" in str(why)
    pipeline.env.update(IOT_ON_UNREADABLE="record")  # type: ignore[attr-defined]
    pipeline.iot("drain")
    assert [item for item, _ in _losses(pipeline)] == [OffsetRange(0, 0, 20)]
    assert len(pipeline.rows("new")) == 20


def _stamp_by(brokers: str, topic: str, clock: str) -> None:
    entry = ConfigEntry(
        "message.timestamp.type", clock, incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource("topic", topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.incremental_alter_configs([resource])[resource].result(20)
