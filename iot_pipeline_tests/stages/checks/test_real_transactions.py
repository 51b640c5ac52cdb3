"""An open transaction on a real broker: told, named, and no device is blamed for it."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer

from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.no_transaction_is_left_open import CHECK
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


def test_an_open_transaction_is_named_until_it_ends(pipeline: Pipeline) -> None:
    brokers, topic = pipeline.brokers, pipeline.topic
    produce(brokers, topic, fleet("before", 1, 10), partition=0)
    writer = Producer({"bootstrap.servers": brokers, "transactional.id": f"writer of {topic}"})
    writer.init_transactions(20)
    writer.begin_transaction()
    writer.produce(topic, b"held", partition=0)
    assert writer.flush(20) == 0
    produce(brokers, topic, fleet("behind", 1, 30), partition=0)
    pipeline.iot("drain")

    told = pipeline.iot("lag", "--json")
    first = told["partitions"][0]
    assert (first["lag"], first["last_stable_offset"], first["log_end_offset"]) == (0, 10, 41)
    assert (told["lag"], told["held_back"]) == (0, 31)
    assert "partition 0: 31 offsets are held back" in pipeline.iot("lag")

    now = datetime.now(UTC)
    young = CHECK.look(Facts(pipeline.connections, now))
    assert young is not None
    assert young.passed
    assert "31 offsets wait for open transactions" in young.sentence
    facts = Facts(pipeline.connections, now + timedelta(seconds=600))
    old = CHECK.look(facts)
    assert old is not None
    assert not old.passed
    for said in (
        "31 offsets are not looked at: they lie behind an open transaction",
        "partition 0 from offset 10: producer ",
        f"transactional id writer of {topic}, begun 10 min ago",
        f"abort --topic {topic} --partition 0 --start-offset 10`",
    ):
        assert said in old.sentence
    # Judged as of the transaction's beginning: nothing that came later was looked at.
    assert facts.fleet.as_of_ms <= now.timestamp() * 1000

    writer.abort_transaction(20)
    # The coordinator answers before its marker is in the log.
    give_up_at = until(10)
    while pipeline.iot("lag", "--json")["held_back"]:
        assert time.monotonic() < give_up_at
    pipeline.iot("drain")
    done = CHECK.look(Facts(pipeline.connections, datetime.now(UTC) + timedelta(seconds=600)))
    assert done is not None
    assert (done.passed, done.sentence) == (True, "No open transaction holds readings back.")
    assert len(pipeline.rows("behind_0")) == 30


def test_what_arrived_between_two_questions_is_not_held_back(pipeline: Pipeline) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet("before", 1, 10), partition=0)
    before = {mark.partition: mark.last_stable for mark in pipeline.log.watermarks(pipeline.topic)}
    produce(pipeline.brokers, pipeline.topic, fleet("since", 1, 5), partition=0)
    assert pipeline.log.held_back(pipeline.topic, before) == {}
