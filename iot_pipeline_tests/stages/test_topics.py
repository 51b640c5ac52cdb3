"""Asking Kafka how topics are kept: each by itself, and nothing is claimed that was not seen."""

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from iot_pipeline.core.reading.offsets import TopicInfo
from iot_pipeline.errors import KafkaUnavailableError, PermanentError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import look_at
from iot_pipeline.stages.checks.topic_is_safe import CHECK
from iot_pipeline.stages.topics import check_topics
from iot_pipeline_tests.stages.fakes import FakeLog

SETTINGS = Settings(topic="t", topic_replication=1)


class TwoTopics(FakeLog):
    """Readings and dead letters; those named in `denied` may not be described."""

    denied: tuple[str, ...] = ()
    error: type[Exception] = PermanentError

    def _check_name(self, topic: str) -> None:
        if topic in self.denied:
            raise self.error(f"describing topic {topic}: no right. Grant it.")

    def topic_id(self, topic: str) -> str:
        return "uuid"

    def describe(self, topic: str) -> TopicInfo:
        self._check_name(topic)
        partitions = 1 if topic.endswith(".dlq") else self.partitions
        return TopicInfo(topic, "uuid", partitions, self.config, self.replicas)


def log_of(*denied: str, **config: str) -> TwoTopics:
    other = {name.replace("_", "."): value for name, value in config.items()}
    stamped = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1", **other}
    log = TwoTopics(topic="t", partitions=4, config=stamped)
    log.denied = denied
    return log


def verdict_of(log: TwoTopics):
    ports = SimpleNamespace(settings=SETTINGS, log=log)
    (verdict,) = look_at([CHECK], Facts(ports, datetime.now(UTC)))
    return verdict


def test_a_topic_without_the_right_to_see_it_is_not_looked_at_and_never_green():
    verdict = verdict_of(log_of("t.dlq"))
    assert not verdict.passed
    assert not verdict.is_looked
    assert verdict.sentence == "Could not look: describing topic t.dlq: no right. Grant it."


def test_what_is_wrong_with_the_one_is_said_though_the_other_cannot_be_seen():
    verdict = verdict_of(log_of("t.dlq", cleanup_policy="compact"))
    assert verdict.is_looked
    assert "topic t: cleanup.policy is compact" in verdict.sentence
    assert verdict.sentence.endswith("Not looked at: describing topic t.dlq: no right. Grant it.")


def test_kafka_away_is_not_called_a_missing_right():
    log = log_of("t")
    log.error = KafkaUnavailableError
    with pytest.raises(KafkaUnavailableError):
        check_topics(log, SETTINGS)


def test_how_long_a_size_lasts_is_measured_where_most_arrives():
    log = log_of(retention_bytes="36000000")
    log.now_ms = int((time.time() - 3600) * 1000)
    log.append(0, b"x")
    for _ in range(1000):
        log.append(1, b"x")
    # 1,000 records of 100 bytes in an hour: 36 MB last 360 hours.
    found = check_topics(log, SETTINGS).risks
    (said,) = [risk for risk in found if (risk.topic, risk.setting) == ("t", "retention.bytes")]
    assert "at what arrives now Kafka keeps a reading for 15 d" in str(said)
    assert said.severity is None
    log.now_ms = int((time.time() - 300) * 1000)
    young = log_of(retention_bytes="36000000")
    young.now_ms = log.now_ms
    young.append(1, b"x")
    sentences = [str(risk) for risk in check_topics(young, SETTINGS).risks]
    assert any("not known: ten minutes" in text for text in sentences)
