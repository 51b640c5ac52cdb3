"""How topics are kept: what a setting can cost, and when nothing is wrong."""

from dataclasses import replace

import pytest

from iot_pipeline.core.checks.topics import (
    TopicRisk,
    accept,
    creating_line,
    find_risks,
    mending_lines,
    plan_topics,
)
from iot_pipeline.core.checks.verdicts import Severity
from iot_pipeline.core.reading.offsets import TopicInfo
from iot_pipeline.stages.checks.topic_is_safe import judge

DAY_MS = 86_400_000
READINGS, LETTERS = plan_topics("t", "t.dlq", partitions=4, replication=3, retention_hours=168)
SINGLE = replace(READINGS, replication=1)


def info_of(plan=READINGS, replicas=3, **config):
    """A topic that is as planned, but for these settings (underscores for dots)."""
    other = {name.replace("_", "."): value for name, value in config.items()}
    return TopicInfo(plan.name, "uuid", plan.partitions, {**plan.config, **other}, replicas)


def only(risks) -> TopicRisk:
    (risk,) = risks
    return risk


@pytest.mark.parametrize("plan", [READINGS, LETTERS])
def test_topics_as_setup_makes_them_on_three_brokers_have_no_risk(plan):
    assert find_risks(plan, info_of(plan)) == []


def test_one_broker_is_a_note_and_passes():
    single = plan_topics("t", "t.dlq", partitions=4, replication=1, retention_hours=168)
    found = [risk for plan in single for risk in find_risks(plan, info_of(plan, 1), brokers=1)]
    assert [risk.severity for risk in found] == [None, None]
    verdict = judge(found, "k:9092")
    assert verdict.passed
    assert "one broker: its disk is the only place of readings" in verdict.sentence


def test_one_replica_where_there_are_brokers_for_more_is_a_warning():
    risk = only(find_risks(SINGLE, info_of(SINGLE, 1, min_insync_replicas="1"), brokers=3))
    assert (risk.setting, risk.severity) == ("replication.factor", Severity.WARN)
    assert "a disk lost is readings that were not ingested yet lost" in str(risk)
    # A cluster of which two brokers are away has one, and a person wants three replicas of it.
    alone = find_risks(READINGS, info_of(replicas=1, min_insync_replicas="1"), brokers=1)
    assert only(alone).severity is Severity.WARN


@pytest.mark.parametrize(
    ("config", "replicas", "setting", "severity", "said"),
    [
        ({"min_insync_replicas": "1"}, 3, "min.insync.replicas", "warn", "when one broker has it"),
        ({"min_insync_replicas": "4"}, 3, "min.insync.replicas", "error", "acks=all is taken"),
        (
            {"unclean_leader_election_enable": "true"},
            3,
            "unclean.leader.election.enable",
            "warn",
            "offsets are given to others",
        ),
        ({"cleanup_policy": "compact,delete"}, 3, "cleanup.policy", "error", "read or not"),
        ({"cleanup_policy": "compact"}, 3, "cleanup.policy", "error", "can only be sent again"),
        ({"retention_ms": "3600000"}, 3, "retention.ms", "warn", "keeps a reading for 1 h"),
        (
            {"message_timestamp_type": "CreateTime"},
            3,
            "message.timestamp.type",
            "error",
            "a wrong clock pins a row for ever",
        ),
    ],
)
def test_each_setting_that_can_lose_a_reading_is_named_with_its_cost(
    config, replicas, setting, severity, said
):
    risk = only(find_risks(READINGS, info_of(replicas=replicas, **config)))
    assert (risk.setting, risk.severity) == (setting, severity)
    assert said in str(risk)
    verdict = judge([risk], "k:9092")
    assert not verdict.passed
    assert verdict.severity == severity
    line = f"kafka-configs.sh --bootstrap-server k:9092 --alter --topic t --add-config {setting}="
    assert line in verdict.sentence


@pytest.mark.parametrize(
    ("config", "setting", "severity"),
    [
        ({"retention_ms": "604800000"}, "retention.ms", "warn"),
        ({"retention_bytes": "1000000"}, "retention.bytes", "warn"),
        ({"cleanup_policy": "compact"}, "cleanup.policy", "warn"),
        ({"min_insync_replicas": "4"}, "min.insync.replicas", "error"),
        ({"message_timestamp_type": "CreateTime"}, "message.timestamp.type", None),
        ({"max_message_bytes": "1048588"}, "max.message.bytes", None),
    ],
)
def test_dead_letters_are_kept_for_ever_and_have_a_copy(config, setting, severity):
    risk = only(find_risks(LETTERS, info_of(LETTERS, **config)))
    assert (risk.setting, risk.severity, risk.is_fatal) == (setting, severity, False)


@pytest.mark.parametrize(
    ("kept_seconds", "severity", "said"),
    [
        (3600.0, "warn", "at what arrives now Kafka keeps a reading for 1 h"),
        (30 * 86_400.0, None, "at what arrives now Kafka keeps a reading for 30 d"),
        (None, None, "not known: ten minutes of readings show it"),
    ],
)
def test_retention_by_size_is_judged_by_what_arrives(kept_seconds, severity, said):
    found = find_risks(READINGS, info_of(retention_bytes="1000000"), kept_seconds=kept_seconds)
    assert only(found).severity == severity
    assert said in str(only(found))


def test_a_person_who_asked_for_short_retention_is_not_warned_of_it():
    (short, _) = plan_topics("t", "t.dlq", partitions=4, replication=3, retention_hours=2)
    assert find_risks(short, info_of(short)) == []
    assert only(find_risks(short, info_of(retention_ms=str(DAY_MS)))).severity is None
    assert only(find_risks(short, info_of(retention_ms="10800000"))).severity is None
    assert only(find_risks(short, info_of(retention_ms="3600000"))).severity == "warn"


def test_accepted_risks_are_still_told_but_no_fatal_one_is_accepted():
    info = info_of(min_insync_replicas="1", cleanup_policy="compact")
    found = accept(find_risks(READINGS, info), ["min.insync.replicas"])
    assert [risk.setting for risk in found if risk.severity is not None] == ["cleanup.policy"]
    assert "accepted by IOT_ACCEPT_TOPIC_RISKS" in str(found[0])
    stamped = find_risks(READINGS, info_of(message_timestamp_type="CreateTime"))
    assert accept(stamped, ["message.timestamp.type"]) == stamped
    assert (
        find_risks(
            READINGS, info_of(message_timestamp_type="CreateTime"), accept_producer_timestamps=True
        )
        == []
    )


@pytest.mark.parametrize(("largest", "is_told"), [("1048588", False), ("10485760", True)])
def test_a_topic_that_takes_larger_batches_than_kafka_by_itself_is_told_what_they_unpack_to(
    largest, is_told
):
    found = find_risks(READINGS, info_of(max_message_bytes=largest))
    assert len(found) == is_told
    for risk in found:
        assert risk.severity is None
        assert "max.message.bytes is 10,485,760, expected 1,048,588 at most" in str(risk)
        assert "may unpack to 10.8 GB" in str(risk)


def test_a_topic_that_the_brokers_pack_as_zstd_bounds_what_a_batch_unpacks_to() -> None:
    plan, _ = plan_topics(
        "t", "d", partitions=4, replication=3, retention_hours=168, compression="zstd"
    )
    assert plan.config["compression.type"] == "zstd"
    large = {"max_message_bytes": "10485760"}
    assert find_risks(plan, info_of(plan, **large)) == []
    assert find_risks(READINGS, info_of(compression_type="zstd", **large)) == []
    risk = only(
        find_risks(
            plan, info_of(plan, compression_type="producer", **{"max_message_bytes": "1048588"})
        )
    )
    assert risk.severity is Severity.WARN
    assert mending_lines([risk], "k:1")[0].endswith("--add-config compression.type=zstd")


def test_all_that_is_wrong_with_a_topic_is_one_line_to_paste():
    info = info_of(min_insync_replicas="1", cleanup_policy="compact", replicas=2)
    (line,) = mending_lines(find_risks(READINGS, info), "k:9092")
    assert line.endswith("--topic t --add-config min.insync.replicas=2,cleanup.policy=delete")


def test_the_line_that_makes_a_topic_has_all_of_its_plan():
    assert creating_line(READINGS, "k:9092") == (
        "kafka-topics.sh --bootstrap-server k:9092 --create --if-not-exists --topic t "
        "--partitions 4 --replication-factor 3 --config cleanup.policy=delete "
        "--config message.timestamp.type=LogAppendTime --config min.insync.replicas=2 "
        "--config retention.ms=604800000"
    )
