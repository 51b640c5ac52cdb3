"""What every Kafka client is told of the brokers has one owner, and what is no offset is none."""

from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException
from confluent_kafka.admin import OffsetSpec

import iot_pipeline
from iot_pipeline.clients import kafka_leaders
from iot_pipeline.clients.kafka import client_config
from iot_pipeline.clients.kafka_leaders import leaders_by_broker
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.core.reading.offsets import Watermarks
from iot_pipeline.errors import KafkaUnavailableError, PipelineError
from iot_pipeline.settings import Settings


def test_where_the_brokers_are_is_said_to_clients_in_one_module() -> None:
    package = Path(iot_pipeline.__path__[0])
    saying = {p.name for p in package.rglob("*.py") if '"bootstrap.servers"' in p.read_text()}
    assert saying == {"kafka.py", "settings_kafka.py"}
    assert client_config(Settings(bootstrap_servers="h:1"))["bootstrap.servers"] == "h:1"


class Electing:
    """An admin client of a topic with two partitions; of the second no offset is known."""

    def __init__(self, second: int) -> None:
        self.second = second

    def describe_topics(self, topics: Any, **_: Any) -> Any:
        return {"iot_data": done(SimpleNamespace(partitions=[0, 1]))}

    def list_offsets(self, specs: Any, **_: Any) -> Any:
        earliest = type(OffsetSpec.earliest())
        return {
            place: done(
                SimpleNamespace(
                    offset=7 if place.partition == 0 or isinstance(spec, earliest) else self.second
                )
            )
            for place, spec in specs.items()
        }


def done(answer: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(answer)
    return future


@pytest.mark.parametrize("offset", [OFFSET_INVALID, -1])
def test_what_kafka_names_for_no_offset_is_not_taken_for_one(offset: int) -> None:
    log = KafkaLog(Settings())
    log._questions._client = Electing(offset)
    with pytest.raises(KafkaUnavailableError, match="names no offset of partition 1"):
        log.watermarks("iot_data")
    log._questions._client = Electing(8)
    assert [mark.last_stable for mark in log.watermarks("iot_data")] == [7, 8]


def test_a_leader_that_does_not_answer_takes_its_own_partition_alone() -> None:
    class Silent(Electing):
        def list_offsets(self, specs: Any, **how: Any) -> Any:
            answers = super().list_offsets(specs, **how)
            for place in [place for place in answers if place.partition == 1]:
                answers[place] = Future()
                error = KafkaError(KafkaError._TIMED_OUT)
                answers[place].set_exception(KafkaException(error))
            return answers

    log = KafkaLog(Settings())
    log._questions._open = lambda: Silent(8)
    silent: dict[int, PipelineError] = {}
    assert log.watermarks("iot_data", silent=silent) == [Watermarks(0, 7, 7)]
    assert [*silent] == [1]
    assert "reading the watermarks of iot_data" in str(silent[1])
    assert log.watermarks("iot_data", only=[0]) == [Watermarks(0, 7, 7)]
    with pytest.raises(KafkaUnavailableError):
        log.watermarks("iot_data")


def test_brokers_that_name_different_leaders_of_a_partition_are_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"a:1": {0: 1, 1: 1}, "b:1": {0: 1, 1: 2}, "c:1": {0: 1}}
    monkeypatch.setattr(kafka_leaders, "leaders_by_broker", lambda *_: said)
    found = KafkaLog(Settings()).in_dispute("iot_data", [0, 1, 2])
    assert [*found] == [1]
    assert "planning iot_data[1]" in str(found[1])
    assert "(a:1 says broker 1, b:1 says broker 2)" in str(found[1])


def test_each_broker_is_asked_who_leads_and_one_that_is_away_says_nothing(
    kafka_wire: str, wire_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_leaders, "_ANSWER_SECONDS", 1.0)
    config = client_config(Settings(bootstrap_servers=f"127.0.0.1:1, {kafka_wire}"))
    (one,) = leaders_by_broker(config, wire_topic).items()
    assert one[0] == kafka_wire
    assert set(one[1].values()) == {1}


def test_a_time_later_than_every_record_is_the_end() -> None:
    class Late(Electing):
        def list_offsets(self, specs: Any, **_: Any) -> Any:
            at_time = type(OffsetSpec.for_timestamp(1))
            return {
                place: done(SimpleNamespace(offset=-1 if type(spec) is at_time else 9))
                for place, spec in specs.items()
            }

    log = KafkaLog(Settings())
    log._questions._client = Late(9)
    assert log.offsets_at("iot_data", datetime(2026, 1, 1, tzinfo=UTC)) == {0: 9, 1: 9}
