"""Topics that are made: asked for before anything is made, and looked at where all know them."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from iot_pipeline.errors import MissingRightError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.schema import SchemaReport, setup_schema
from iot_pipeline_tests.stages.test_external_schema import MadeByAPerson
from iot_pipeline_tests.stages.test_topics import TwoTopics, log_of

SETTINGS = Settings(topic="t", keyspace="ks", schema="external")


class Brokers(TwoTopics):
    """Three brokers answer in turn, and hear of a topic one after the other."""

    made: list[str]
    unheard: int

    def topic_id(self, topic: str) -> str:
        if topic not in self.made:
            raise SchemaMismatchError(f"no topic {topic}")
        return "uuid"

    def _check_name(self, topic: str) -> None:
        if topic.endswith(".dlq") and self.unheard:
            self.unheard -= 1
            raise SchemaMismatchError(f"this broker knows no topic {topic}")


@dataclass
class Topics:
    made: list[str] = field(default_factory=list)
    denied: str = ""

    def check(self, plan) -> None:
        if plan.name == self.denied:
            raise MissingRightError(f"no right to make {plan.name}")

    def create(self, plan) -> bool:
        self.made.append(plan.name)
        return True


def brokers_of(topics: Topics) -> Brokers:
    log = Brokers(topic="t", partitions=4, config=log_of().config)
    log.made, log.unheard = topics.made, 2
    return log


def set_up(topics: Topics, log: Brokers) -> SchemaReport:
    tables: Any = MadeByAPerson()
    return setup_schema(topics, log, tables, SETTINGS)


def test_a_topic_that_a_broker_has_not_heard_of_yet_is_not_missing():
    topics = Topics()
    log = brokers_of(topics)
    report = set_up(topics, log)
    assert topics.made == ["t", "t.dlq"]
    assert log.unheard == 0
    assert report.fatal == []


def test_where_one_topic_may_not_be_made_none_is():
    topics = Topics(denied="t.dlq")
    with pytest.raises(MissingRightError, match="nothing was made"):
        set_up(topics, brokers_of(topics))
    assert topics.made == []
