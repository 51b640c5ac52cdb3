"""Every command of docs/runbook.md, tried: on real servers, in the state that the runbook is about.

A command that is new in the runbook fails `test_every_command...` until somebody tries it here, or
says where it is tried. What cannot be tried by a test is listed at the runbook's end.
"""

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from iot_pipeline_tests.load import ORIGIN_SECONDS, delete_before, fleet, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import fresh_keyspace, fresh_topic
from iot_pipeline_tests.stages.ingest.test_real_loss import recreate

TESTS = Path(__file__).resolve().parent
RUNBOOK = TESTS.parent / "docs" / "runbook.md"
MS = 1735444919000

Trial = Callable[[Pipeline, str], None]
TRIALS: dict[str, tuple[Trial, tuple[str, ...]]] = {}
# Those that start and stop servers, or need a terminal for hours, have tests of their own.
ELSEWHERE = {
    "iot up": "local/test_up_and_down.py",
    "iot down": "local/test_up_and_down.py",
    "iot logs": "local/test_up_and_down.py",
    "iot demo": "cli/test_demo.py",
    "iot rights": "test_rights.py",
    "iot watch": "cli/test_watch.py",
    "iot throttle 5000": "stages/proof/test_real_forget.py",
    "iot drain --plan": "stages/proof/test_real_forget.py",
    "iot forget DEVICE --reason TEXT": "stages/proof/test_real_forget.py",
    "iot forget --list": "stages/proof/test_real_forget.py",
    "iot audit --day D": "cli/test_every_command.py",
    "iot reading check": "cli/test_real_declared.py",
    "iot reading list": "cli/test_real_declared.py",
}


def tries(*commands: str) -> Callable[[Trial], Trial]:
    def register(trial: Trial) -> Trial:
        TRIALS[trial.__name__] = trial, commands
        return trial

    return register


def commands_of_the_runbook() -> set[str]:
    text = RUNBOOK.read_text(encoding="utf-8")
    found = {" ".join(code.split()) for code in re.findall(r"`(iot [^`]+)`", text)}
    # `iot replay --offsets …` is short for what was said in full before.
    return {command.removesuffix(" …") for command in found}


def test_every_command_of_the_runbook_is_tried_by_some_test() -> None:
    tried = {command for _, commands in TRIALS.values() for command in commands}
    known = tried | ELSEWHERE.keys()
    short = {
        command
        for command in commands_of_the_runbook()
        if any(full.startswith(f"{command} ") for full in known)
    }
    assert commands_of_the_runbook() - short - known == set()
    for path in ELSEWHERE.values():
        assert (TESTS / path).exists(), path


def cql(pipeline: Pipeline, statement: str) -> None:
    keyspace = pipeline.settings.keyspace
    pipeline.connections.cassandra.execute(
        statement.format(table=f"{keyspace}.sensor_data", ledger=f"{keyspace}.ingest_ledger"),
        doing="setting the stage",
    )


def fill(pipeline: Pipeline, name: str) -> None:
    cql(pipeline, "TRUNCATE {table}")
    produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 300), partition=0)
    pipeline.drain()


@tries("iot status", "iot settings", "iot lag", "iot ledger", "iot setup", "iot drain")
def the_first_looks(pipeline: Pipeline, name: str) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 30), partition=0)
    assert "answers" in pipeline.iot("status") or "up" in pipeline.iot("status")
    assert "IOT_TOPIC" in pipeline.iot("settings")
    assert pipeline.iot("lag", "--json")
    pipeline.iot("lag")
    pipeline.iot("drain")
    pipeline.iot("ledger")
    assert not pipeline.iot("ledger", "--json")["flaws"]
    pipeline.iot("setup")


@tries(
    "iot audit --all",
    "iot audit --offsets P:START-END",
    "iot replay --offsets P:START-END",
    "iot audit --since TIME",
    "iot audit --offsets",
    "iot replay --offsets",
)
def rows_are_missing(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    cql(pipeline, "TRUNCATE {table}")
    assert "iot replay --offsets 0:" in pipeline.iot("audit", "--all", exit_code=1)
    assert "lost" in pipeline.iot("audit", "--offsets", "0:0-300", exit_code=1)
    pipeline.iot("replay", "--offsets", "0:0-300")
    assert "nothing is lost" in pipeline.iot("audit", "--since", "2020-01-01")


@tries("iot devices --silent", "iot readings DEVICE --last 1h")
def a_device_is_not_well(pipeline: Pipeline, name: str) -> None:
    message = (name.encode(), reading_json(name, time.time()))
    produce(pipeline.brokers, pipeline.topic, [message], partition=0)
    pipeline.drain()
    pipeline.iot("devices", "--silent")
    assert name in pipeline.iot("devices")
    assert len(pipeline.iot("readings", name, "--last", "1h", "--json")["readings"]) == 1


@tries(
    "iot trace DEVICE TIMESTAMP",
    "iot mend DEVICE TIMESTAMP",
    "iot delete DEVICE --since TIME --until TIME --reason TEXT",
)
def a_row_is_torn(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    device = f"{name}_1"
    seconds = f"{MS / 1000:.3f}"
    shown = pipeline.iot("trace", device, seconds)
    assert re.search(r"^partition:offset +0:\d+$", shown, re.MULTILINE)
    assert re.search(rf'^message +\{{"device_id": "{device}"', shown, re.MULTILINE)
    cql(
        pipeline,
        f"UPDATE {{table}} SET temperature = 149 WHERE device_id = '{device}' "
        f"AND day = '2024-12-29' AND timestamp = {MS}",
    )
    assert f"iot mend {device} {seconds}" in pipeline.iot("audit", "--all", exit_code=1)
    pipeline.iot("mend", device, seconds, exit_code=1)  # its cell is of no record
    assert "no record explains" in pipeline.iot("trace", device, seconds, exit_code=1)
    span = "2024-12-29T04:01:59Z", "2024-12-29T04:02:00Z"
    with mock.patch.object(sys, "stdin", io.StringIO("y\n")):
        said = pipeline.iot(
            "delete", device, "--since", span[0], "--until", span[1], "--reason", "torn"
        )
    assert "deleted 1 reading " in said
    pipeline.iot("audit", "--all")


@tries(
    "iot dead-letters stats",
    "iot dead-letters list --reason REASON",
    "iot dead-letters show P:OFFSET",
    "iot dead-letters replay",
)
def a_rule_was_wrong(pipeline: Pipeline, name: str) -> None:
    hot = reading_json(name, ORIGIN_SECONDS, temperature=200.0)
    produce(pipeline.brokers, pipeline.topic, [(b"hot", hot)], partition=0)
    pipeline.drain()
    assert "out_of_range" in pipeline.iot("dead-letters", "stats")
    assert "0:0" in pipeline.iot("dead-letters", "list", "--reason", "out_of_range")
    assert name in pipeline.iot("dead-letters", "show", "0:0")
    relaxed = dict(pipeline.env, IOT_TEMPERATURE_MAX="300")
    Pipeline(pipeline.settings, relaxed, pipeline.connections).iot("dead-letters", "replay")
    assert [row[0] for row in pipeline.rows(name).values()] == [200.0]


@tries(
    "iot losses",
    'iot losses --acknowledge ID --reason "what happened and what was done"',
    "iot losses --exit-code",
)
def records_expired_unread(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_more", 2, 100), partition=0)
    delete_before(pipeline.brokers, pipeline.topic, 0, 350)
    assert "IOT_ON_EXPIRED=record" in pipeline.iot("drain", exit_code=1)
    recording = dict(pipeline.env, IOT_ON_EXPIRED="record")
    Pipeline(pipeline.settings, recording, pipeline.connections).iot("drain")
    (loss,) = pipeline.iot("losses", "--json")["losses"]
    assert loss["loss_id"] in pipeline.iot("losses", "--exit-code", exit_code=1)
    pipeline.iot("losses", "--acknowledge", loss["loss_id"], "--reason", "seen; sent again")
    assert pipeline.iot("losses", "--json")["losses"][0]["is_acknowledged"]


@tries("iot rebase --topic-id NEW --at earliest")
def the_topic_was_made_again(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    recreate(pipeline)
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_new", 1, 5), partition=0)
    said = pipeline.iot("drain", exit_code=1)
    (new_id,) = re.findall(r"iot rebase --topic-id (\S+) --at earliest", said)
    pipeline.iot("rebase", "--topic-id", new_id, "--at", "earliest")
    pipeline.iot("drain")
    assert len(pipeline.rows(f"{name}_new_0")) == 5


@tries("iot rebase --at earliest")
def the_topic_was_truncated(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    # What a topic restored from a backup looks like from here.
    cql(
        pipeline,
        f"UPDATE {{ledger}} SET next_offset = 9000 WHERE topic = '{pipeline.topic}' "
        "AND kafka_partition = 0 IF next_offset = 300",
    )
    assert "above the end of the log" in pipeline.iot("drain", exit_code=1)
    before = pipeline.rows(f"{name}_0")
    pipeline.iot("rebase", "--at", "earliest")
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_later", 1, 5), partition=0)
    pipeline.iot("drain")
    assert len(pipeline.rows(f"{name}_later_0")) == 5
    assert pipeline.rows(f"{name}_0") == before
    assert not pipeline.iot("losses", "--json", "--exit-code")["losses"]


@tries("iot rebase --topic-id NEW --at TIME")
def a_mirror_takes_over(pipeline: Pipeline, name: str) -> None:
    readings = list(fleet(name, 3, 300))
    produce(pipeline.brokers, pipeline.topic, readings[:200], partition=0)
    pipeline.drain()
    before = pipeline.rows(f"{name}_0")
    # The mirror: a topic of the same name, with other offsets and the same readings, and more.
    recreate(pipeline)
    lone = reading_json(f"{name}_lone", ORIGIN_SECONDS)
    produce(pipeline.brokers, pipeline.topic, [(b"lone", lone)], partition=0)
    produce(pipeline.brokers, pipeline.topic, readings, partition=0)
    (new_id,) = re.findall(
        r"iot rebase --topic-id (\S+) --at earliest", pipeline.iot("drain", exit_code=1)
    )
    pipeline.iot("rebase", "--topic-id", new_id, "--at", "2020-01-01")
    pipeline.iot("drain")
    found = pipeline.rows(f"{name}_0")
    assert len(found) == 100
    assert all(found[ms][:2] == row[:2] for ms, row in before.items())
    assert len(pipeline.rows(f"{name}_lone")) == 1
    assert not pipeline.iot("ledger", "--json")["flaws"]
    assert "nothing is lost, torn or stray" in pipeline.iot("audit", "--all")


@tries("iot rebase --at P:N")
def a_log_has_grown_again(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    cql(
        pipeline,
        f"UPDATE {{ledger}} SET fingerprint = (299, 1, 2) WHERE topic = '{pipeline.topic}' "
        "AND kafka_partition = 0 IF next_offset = 300",
    )
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_later", 1, 5), partition=0)
    said = pipeline.iot("drain", exit_code=1)
    assert "the log is not the one that was read" in said
    (where,) = re.findall(r"`iot rebase --at (0:\d+)`", said)
    pipeline.iot("rebase", "--at", where)
    pipeline.iot("drain")
    assert len(pipeline.rows(f"{name}_later_0")) == 5


@tries("iot rebase --at P:N --skip REASON")
def unread_records_are_not_wanted(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    assert "nothing needs a rebase" in pipeline.iot("rebase", "--at", "latest", exit_code=1)
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_more", 1, 100), partition=0)
    assert "nothing needs a rebase" in pipeline.iot("rebase", "--at", "latest", exit_code=1)
    back = pipeline.iot("rebase", "--at", "0:50", "--skip", "why", exit_code=1)
    assert "`iot replay --offsets 0:50-300`" in back
    said = pipeline.iot("rebase", "--at", "0:380", "--skip", "a test load")
    assert "80 offsets (0:300-380) are in the ledger as skipped" in said
    assert pipeline.iot("drain", "--json")["ranges"] == ["0:380-400"]
    assert pipeline.iot("lag", "--json", exit_code=0)
    (loss,) = pipeline.iot("losses", "--json")["losses"]
    assert (loss["loss_id"], loss["outcome"]) == ("0:0:300-380", "skipped")
    assert loss["cause"].endswith("`iot rebase --at 0:380`: a test load")
    pipeline.iot("losses", "--exit-code", exit_code=1)
    assert "left unread: up to 80 passed over" in pipeline.iot("ledger")
    report = pipeline.iot("audit", "--json", "--all")
    assert (report["skipped"], report["stored"], report["lost"]) == (80, 320, 0)
    pipeline.iot("losses", "--acknowledge", loss["loss_id"], "--reason", "seen")
    said = pipeline.iot("replay", "--offsets", "0:290-350")
    assert "0:300-350 was skipped in the ledger, and is ingested now" in said
    (left,) = pipeline.iot("losses", "--json", "--exit-code")["losses"]
    assert (left["loss_id"], left["is_acknowledged"]) == ("0:0:350-380", True)
    assert pipeline.iot("drain", "--json", "--offsets", "0:350-380")["replay"]
    assert pipeline.iot("losses", "--json")["losses"] == []
    ledger = pipeline.iot("ledger", "--json")
    assert (ledger["flaws"], ledger["total"]["stored"]) == ([], 400)
    assert len(pipeline.rows(f"{name}_more_0")) == 100
    assert "nothing is lost, torn or stray" in pipeline.iot("audit", "--all")


@tries()
def cassandra_came_back_older(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    before = pipeline.rows(f"{name}_0")
    cql(
        pipeline,
        f"UPDATE {{ledger}} SET next_offset = 100 WHERE topic = '{pipeline.topic}' "
        "AND kafka_partition = 0 IF next_offset = 300",
    )
    pipeline.iot("drain")
    assert pipeline.rows(f"{name}_0") == before
    pipeline.iot("audit", "--all")


@tries("iot rollup --day D", "iot rollup --since D --until D")
def a_rollup_differs_from_its_rows(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    day = "2024-12-29"
    pipeline.iot("rollup", "--day", day)
    cql(
        pipeline,
        f"DELETE FROM {{table}} WHERE device_id = '{name}_1' AND day = '{day}' "
        f"AND timestamp = {MS}",
    )
    assert "lost" in pipeline.iot("audit", "--all", exit_code=1)
    pipeline.iot("rollup", "--since", day, "--until", "2024-12-30")


@tries()
def nothing_was_set_up(pipeline: Pipeline, name: str) -> None:
    env = dict(pipeline.env, IOT_TOPIC=fresh_topic(), IOT_KEYSPACE=fresh_keyspace())
    bare = Pipeline(pipeline.settings, env, pipeline.connections)
    assert "iot setup" in bare.iot("drain", exit_code=1)
    bare.iot("setup")
    bare.iot("drain")


@tries()
def producers_stamp_the_topic(pipeline: Pipeline, name: str) -> None:
    # `kafka-configs.sh --alter` by Kafka's own protocol: the script is not among what iot runs.
    def stamp(by: str) -> None:
        change = ConfigEntry(
            "message.timestamp.type", by, incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(
            ConfigResource.Type.TOPIC, pipeline.topic, incremental_configs=[change]
        )
        admin = AdminClient({"bootstrap.servers": pipeline.brokers})
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(30)

    stamp("CreateTime")
    produce(pipeline.brokers, pipeline.topic, fleet(name, 1, 5), partition=0)
    assert "LogAppendTime" in pipeline.iot("drain", exit_code=1)
    trusting = dict(pipeline.env, IOT_ACCEPT_PRODUCER_TIMESTAMPS="true")
    Pipeline(pipeline.settings, trusting, pipeline.connections).iot("drain")
    stamp("LogAppendTime")
    pipeline.iot("drain")
    assert len(pipeline.rows(f"{name}_0")) == 5


@tries()
def ranges_that_are_not_there(pipeline: Pipeline, name: str) -> None:
    fill(pipeline, name)
    for command in ("replay", "audit", "drain"):
        said = pipeline.iot(command, "--offsets", "0:0-9000", exit_code=1)
        assert "0" in said
        assert "300" in said
    said = pipeline.iot("audit", "--since", "the day before yesterday", exit_code=2)
    assert "expected" in said


@pytest.mark.services
@pytest.mark.parametrize("trial", TRIALS)
def test_the_runbook_says_what_to_do_when(pipeline: Pipeline, trial: str) -> None:
    TRIALS[trial][0](pipeline, f"r_{fresh_topic()[-8:]}")
