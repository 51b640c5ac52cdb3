import getpass
import uuid

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from iot_pipeline.stages.topics import topic_plans
from iot_pipeline_tests.load import delete_before, fleet, produce

pytestmark = pytest.mark.services


@pytest.fixture
def name() -> str:
    return f"lossy_{uuid.uuid4().hex[:8]}"


def recreate(pipeline):
    admin = AdminClient({"bootstrap.servers": pipeline.brokers})
    for future in admin.delete_topics([pipeline.topic]).values():
        future.result(30)
    plan = topic_plans(pipeline.settings)[0]
    new = NewTopic(plan.name, plan.partitions, plan.replication, config=dict(plan.config))
    while True:
        (future,) = admin.create_topics([new]).values()
        if future.exception(30) is None:
            break
    pipeline.iot("setup")


def test_expired_records_halt_ingestion_or_are_recorded_and_acknowledged(pipeline, name):
    produce(pipeline.brokers, pipeline.topic, fleet(name, 2, 100), partition=0)
    pipeline.drain()
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_more", 2, 100), partition=0)
    delete_before(pipeline.brokers, pipeline.topic, 0, 150)

    assert "0:100-150: Kafka has deleted these unread" in pipeline.iot("losses")
    assert pipeline.iot("losses", "--json", "--exit-code", exit_code=1)["unrecorded"] == [
        "0:100-150"
    ]

    said = pipeline.iot("drain", exit_code=1)
    for part in (
        f"{pipeline.topic}[0]",
        "100 to 149",
        "up to 50 records",
        "arrived in Kafka after",
    ):
        assert part in said
    assert "IOT_ON_EXPIRED=record" in said

    pipeline.env["IOT_ON_EXPIRED"] = "record"
    report = pipeline.iot("drain", "--json")
    assert (report["ranges"], report["stored"]) == (["0:150-200"], 50)
    assert not pipeline.iot("ledger", "--json")["flaws"]
    (loss,) = pipeline.iot("losses", "--json")["losses"]
    assert (loss["loss_id"], loss["is_acknowledged"]) == ("0:0:100-150", False)
    pipeline.iot("losses", "--exit-code", exit_code=1)
    pipeline.iot("losses", "--acknowledge", loss["loss_id"], "--reason", "the disk was full")
    (loss,) = pipeline.iot("losses", "--json", "--exit-code")["losses"]
    assert loss["is_acknowledged"]
    said = pipeline.iot(
        "losses", "--acknowledge", loss["loss_id"], "--reason", "another story", exit_code=2
    )
    assert f"by {getpass.getuser()} at {loss['acknowledged_at'][:19]}Z: the disk was full" in said
    assert pipeline.iot("losses", "--json")["losses"] == [loss], "the first one stays as it was"

    report = pipeline.iot("audit", "--json")
    assert (report["expired"], report["unverifiable"], report["stored"]) == (50, 100, 50)
    report = pipeline.iot("replay", "--offsets", "0:90-160", "--json", exit_code=1)
    assert (report["gone"], report["ranges"]) == (["0:90-150"], ["0:150-160"])


def test_a_recreated_topic_is_refused_until_it_is_accepted(pipeline, name):
    produce(pipeline.brokers, pipeline.topic, fleet(name, 2, 100), partition=0)
    pipeline.drain()
    recreate(pipeline)
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_new", 2, 200), partition=0)
    said = pipeline.iot("drain", exit_code=1)
    new_id = pipeline.log.topic_id(pipeline.topic)
    assert f"iot rebase --topic-id {new_id} --at earliest" in said
    assert not pipeline.rows(f"{name}_new_0")

    pipeline.iot("rebase", "--topic-id", "of-somebody-else", "--at", "earliest", exit_code=1)
    pipeline.iot("rebase", "--topic-id", new_id, "--at", "earliest")
    assert pipeline.iot("drain", "--json")["ranges"] == ["0:0-200"]
    chain = pipeline.iot("ledger", "--json")
    assert not chain["flaws"]
    assert {entry["outcome"] for entry in chain["entries"]} == {"ingested", "rebased"}
    assert {entry["epoch"] for entry in chain["entries"] if entry["outcome"] == "ingested"} == {
        0,
        1,
    }
    assert pipeline.iot("audit", "--json")["stored"] == 200
