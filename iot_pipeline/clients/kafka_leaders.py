"""Who leads a Kafka partition, by what each broker says of it.

A leader that is cut off from the other brokers does not know that another one leads by now: it goes
on telling clients that reach it where its log ends, which is before what we have read since.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, KafkaException

from iot_pipeline.clients.kafka import SILENT, each_server, open_client
from iot_pipeline.errors import KafkaUnavailableError, PipelineError

# A broker that does not answer so long says nothing of leaders.
_ANSWER_SECONDS = 2.0


def leaders_by_broker(config: Mapping[str, Any], topic: str) -> dict[str, dict[int, int]]:
    """Address of each broker that answers -> partition -> the id of who leads, by that broker."""
    found = {}
    for address, of_one in each_server(config):
        # A consumer: none of its questions makes a topic.
        client = open_client(Consumer, {**of_one, "group.id": "iot_pipeline.reader"}, SILENT)
        with closing(client):
            try:
                told = client.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic]
            except KafkaException:
                continue
            found[address] = {p.id: p.leader for p in told.partitions.values() if p.leader >= 0}
    return found


def in_dispute(
    config: Mapping[str, Any], topic: str, partitions: Iterable[int], doing: str
) -> dict[int, PipelineError]:
    """Those of which brokers name different leaders, with what they say."""
    found: dict[int, PipelineError] = {}
    by_broker = leaders_by_broker(config, topic)
    for partition in partitions:
        said = {name: of[partition] for name, of in by_broker.items() if partition in of}
        if len({*said.values()}) > 1:
            words = ", ".join(f"{name} says broker {leader}" for name, leader in said.items())
            found[partition] = KafkaUnavailableError(
                f"{doing} {topic}[{partition}]: brokers do not agree on who leads it ({words}). "
                "One is cut off from the others, and what it says of the log is old. Try again; "
                "`iot status` says what runs here"
            )
    return found
