import contextlib
import json
import socket
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from iot_pipeline.clients.kafka_producer import KafkaReadingSender, open_sender
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.simulator.plan import plan_fleet
from iot_pipeline.errors import KafkaUnavailableError, PermanentError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulator.simulation import Simulation
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.stages.fakes_simulation import emission

NOW_US = 1_735_444_918_316_686
RULES = ReadingRules()


def at(address: str, topic: str = "iot_data") -> Settings:
    return Settings(bootstrap_servers=address, topic=topic)


def read_all(servers, topic):
    """(key, value, partition) of every record, the one that made the topic left out."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "reader", "enable.partition.eof": True}
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    records, ended = [], set()
    give_up_at = until(30)
    while len(ended) < len(partitions) and time.monotonic() < give_up_at:
        for message in consumer.consume(1_000, 0.1):
            if message.error():
                ended.add(message.partition())
            elif message.value() != b"made":
                records.append((message.key(), message.value(), message.partition()))
    consumer.close()
    return records


def an_unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_what_is_acknowledged_is_in_the_topic_byte_for_byte(kafka_wire, wire_topic):
    plan = plan_fleet(devices=20, rate="max", count=30_000)
    with open_sender(at(kafka_wire, wire_topic)) as sender:
        result = Simulation(plan, sender, RULES, topic=wire_topic, now=lambda: NOW_US / 1e6).send()
    assert (result.produced, result.acknowledged, result.failed) == (30_000, 30_000, 0)
    records = read_all(kafka_wire, wire_topic)
    expected = [(e.device.device_id, e.payload) for e in plan.fleet(NOW_US, RULES).emissions()]
    assert sorted((k.decode(), v) for k, v, _ in records) == sorted(expected)


def test_the_readings_of_a_device_stay_in_order_on_one_partition(kafka_wire, wire_topic):
    plan = plan_fleet(devices=7, rate="max", count=5_000)
    with open_sender(at(kafka_wire, wire_topic)) as sender:
        Simulation(plan, sender, RULES, topic=wire_topic).send()
    times, partitions = {}, {}
    for key, value, partition in read_all(kafka_wire, wire_topic):
        times.setdefault(key, []).append(json.loads(value)["timestamp"])
        partitions.setdefault(key, set()).add(partition)
    assert len(times) == 7
    for key, of_device in times.items():
        assert of_device == sorted(of_device)
        assert len(partitions[key]) == 1


def test_no_broker_is_said_in_bounded_time_with_the_address_and_what_to_do():
    address = f"127.0.0.1:{an_unused_port()}"
    began = time.monotonic()
    with (
        pytest.raises(KafkaUnavailableError, match=rf"{address}.*`iot up`"),
        open_sender(at(address), connect_seconds=0.6),
    ):
        pytest.fail("no broker, and yet it opened")
    assert time.monotonic() - began < 20, "0.6 s were asked for; librdkafka's own patience is 60"


def test_a_missing_topic_is_said_with_what_makes_it_and_is_not_made(kafka_wire):
    for _ in range(2):  # twice: the first attempt must not have created it
        with (
            pytest.raises(SchemaMismatchError, match=r"no_such_topic.*`iot setup`"),
            open_sender(at(kafka_wire, "no_such_topic")),
        ):
            pytest.fail("no topic, and yet it opened")


def test_deliveries_that_time_out_fail_as_transient_and_are_counted():
    address = f"127.0.0.1:{an_unused_port()}"
    sender = KafkaReadingSender(at(address), delivery_seconds=0.3)
    assert sender.send([emission("device_1", b"{}")] * 3) == 3
    assert (sender.sent, sender.acknowledged, sender.failed) == (3, 0, 0)
    with pytest.raises(KafkaUnavailableError, match=rf"{address}.*`iot up`"):
        wait_until_raised(sender)
    assert (sender.sent, sender.acknowledged, sender.failed) == (3, 0, 3)


def wait_until_raised(sender):
    give_up_at = until(10)
    while time.monotonic() < give_up_at:
        sender.poll(0.1)


def test_a_full_queue_takes_what_has_room_and_says_how_much():
    sender = KafkaReadingSender(at(f"127.0.0.1:{an_unused_port()}"), delivery_seconds=60)
    messages = [emission("device_1", b"{}")] * 150_000
    taken = sender.send(messages)
    assert 0 < taken < 150_000
    assert sender.send(messages) == 0
    assert (sender.sent, sender.acknowledged) == (taken, 0)
    sender.discard()


def test_a_message_larger_than_any_broker_takes_is_permanent(kafka_wire, wire_topic):
    with open_sender(at(kafka_wire, wire_topic)) as sender:
        with pytest.raises(PermanentError, match=wire_topic):
            sender.send([emission("device_1", b"x" * 2_000_000)])
        assert sender.sent == 0


def test_a_wait_for_nothing_is_short_enough_for_a_signal(kafka_wire, wire_topic):
    with open_sender(at(kafka_wire, wire_topic)) as sender:
        for _ in range(3):  # events of connecting end a wait early
            began = time.monotonic()
            sender.poll(20)
            assert time.monotonic() - began < 10


def test_a_wait_for_a_lost_broker_is_short_enough_for_a_signal():
    sender = KafkaReadingSender(at(f"127.0.0.1:{an_unused_port()}"), delivery_seconds=60)
    sender.send([emission("device_1", b"{}")])
    began = time.monotonic()
    assert sender.flush(20) == 1
    assert time.monotonic() - began < 10
    sender.discard()


class TenThenInterrupt(BaseException):
    pass


def test_an_interrupt_while_sending_leaves_the_true_count(kafka_wire, wire_topic):
    def messages():
        yield from plan_fleet(devices=3, rate="max", count=10).fleet(NOW_US, RULES).emissions()
        raise TenThenInterrupt

    sender = KafkaReadingSender(at(kafka_wire, wire_topic), delivery_seconds=10)
    with contextlib.suppress(TenThenInterrupt):
        sender.send(messages())
    give_up_at = until(10)
    while sender.flush(0.1) and time.monotonic() < give_up_at:
        pass
    assert sender.sent == sender.acknowledged == 10
    assert len(read_all(kafka_wire, wire_topic)) == 10
