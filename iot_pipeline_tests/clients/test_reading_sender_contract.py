"""What every `Sender` of a simulation promises; run on the fake and on the real client."""

import time

import pytest

from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.settings import Settings
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.stages.fakes_simulation import FakeSender, emission

MESSAGES = [emission(f"device_{n % 3}", b"%d" % n) for n in range(100)]


@pytest.fixture(params=["fake", "kafka"])
def sender(request):
    if request.param == "fake":
        yield FakeSender()
        return
    servers = request.getfixturevalue("kafka_wire")
    topic = request.getfixturevalue("wire_topic")
    with open_sender(Settings(bootstrap_servers=servers, topic=topic)) as real:
        yield real


def confirm(sender):
    give_up_at = until(10)
    while sender.flush(0.1):
        assert time.monotonic() < give_up_at


def test_counts_start_at_zero(sender):
    assert (sender.sent, sender.acknowledged, sender.failed) == (0, 0, 0)


def test_what_finds_room_is_counted_as_sent(sender):
    assert sender.send(MESSAGES) == 100
    assert sender.sent == 100
    assert sender.acknowledged <= 100


def test_nothing_to_send_is_fine(sender):
    assert sender.send([]) == 0
    assert sender.flush(0.1) == 0


def test_a_flush_that_returns_zero_has_confirmed_everything(sender):
    sender.send(MESSAGES)
    sender.send(MESSAGES)
    confirm(sender)
    sender.poll(0)
    assert (sender.sent, sender.acknowledged, sender.failed) == (200, 200, 0)


def test_who_asks_is_told_the_place_of_each_confirmed_message_in_the_order_of_its_partition(sender):
    told = []
    sender.send(MESSAGES, lambda *report: told.append(report))
    confirm(sender)
    assert sorted(one.payload for one, _, _ in told) == sorted(one.payload for one in MESSAGES)
    places: dict[int, list[int]] = {}
    for _, partition, offset in told:
        places.setdefault(partition, []).append(offset)
    assert all(offsets == sorted(set(offsets)) for offsets in places.values())
    of_a_device = [one.payload for one, _, _ in told if one.device.device_id == "device_1"]
    assert of_a_device == [one.payload for one in MESSAGES if one.device.device_id == "device_1"]
