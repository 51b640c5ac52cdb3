"""What every Kafka client is told of the brokers has one owner, and what is no offset is none."""

from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID
from confluent_kafka.admin import OffsetSpec

import iot_pipeline
from iot_pipeline.clients.kafka import client_config
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.errors import KafkaUnavailableError
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
