"""A scenario on the real Kafka: the manifest's offsets hold what the manifest says."""

import json
from datetime import UTC, datetime

import pytest
from confluent_kafka import Consumer, TopicPartition

from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.plan import plan_scenario
from iot_pipeline.local.scenario_files import load_scenario
from iot_pipeline.stages.simulator.simulation import Simulation
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.fakes_simulation import offsets_of

pytestmark = pytest.mark.services


def read_topic(brokers, topic):
    """{(partition, offset): (key, value)} of everything in the topic."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "reader", "enable.partition.eof": True}
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    records, ended = {}, set()
    while len(ended) < len(partitions):
        for message in consumer.consume(1_000, 0.5):
            if message.error():
                ended.add(message.partition())
            else:
                records[message.partition(), message.offset()] = (
                    message.key().decode(),
                    message.value(),
                )
    consumer.close()
    return records


def test_the_manifest_names_the_offsets_at_which_kafka_holds_each_fault(pipeline: Pipeline):
    scenario = load_scenario("rough_day")[1]
    plan = plan_scenario(
        scenario, name="rough_day", now=datetime.now(UTC), speed="max", duration_seconds=600
    )
    with open_sender(pipeline.settings) as sender:
        simulation = Simulation(
            plan, sender, ReadingRules(), topic=pipeline.topic, manifest_id="test"
        )
        simulation.send()
    manifest, records = simulation.manifest(), read_topic(pipeline.brokers, pipeline.topic)
    assert manifest.is_complete
    assert manifest.acknowledged == len(records) == sum(d.messages for d in manifest.devices)
    for device in manifest.devices:
        assert device.messages == sum(key == device.device_id for key, _ in records.values())
    assert {fault.kind for fault in manifest.faults} == set(FaultKind)
    decode = ReadingDecoder(ReadingRules()).decode
    explained = set()
    for fault in manifest.faults:
        held = [records[at] for at in offsets_of(fault)]
        explained.update(offsets_of(fault))
        assert len(held) == fault.messages
        assert {key for key, _ in held} <= {fault.device_id}
        if fault.kind is FaultKind.MALFORMED:
            assert {decode(value).reason for _, value in held} == {fault.reason}
            continue
        readings = [decode(value) for _, value in held]
        if fault.kind is FaultKind.STUCK:
            assert len({(r.temperature, r.humidity) for r in readings}) == 1
        skew_ms = 1000 * fault.amount if fault.kind is FaultKind.CLOCK_SKEW else 0
        first_ms = timestamp_ms(fault.first_at.timestamp()) + skew_ms
        last_ms = timestamp_ms(fault.last_at.timestamp()) + skew_ms
        for reading in readings:
            assert first_ms <= timestamp_ms(reading.timestamp) <= last_ms + 1
    # The other way round: what no fault explains is a clean reading, once, in its order.
    clean: dict[str, list[float]] = {}
    for at in sorted(records.keys() - explained):
        key, value = records[at]
        assert decode(value).device_id == key
        clean.setdefault(key, []).append(json.loads(value)["timestamp"])
    for times in clean.values():
        assert times == sorted(set(times))
