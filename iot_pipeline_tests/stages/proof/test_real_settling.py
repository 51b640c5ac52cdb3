"""A day with fewer rows than the ledger stored: the scheduled look finds out why."""

import uuid
from datetime import UTC, date, datetime

import pytest

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.proof import settling
from iot_pipeline.core.proof.settling import KeptSettlement
from iot_pipeline.stages.checks.machinery.facts import Facts, RunFacts
from iot_pipeline.stages.checks.row_count_matches_ledger import look
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.ingest.test_real_loss import recreate

pytestmark = pytest.mark.services

DAY = date(2024, 12, 29)


@pytest.fixture
def keyspace() -> str:
    return f"settled_{uuid.uuid4().hex[:8]}"


def scheduled_look(pipeline: Pipeline) -> CheckVerdict:
    verdict = look(Facts(pipeline.connections, datetime.now(UTC)))
    assert verdict is not None
    return verdict


def test_readings_sent_again_are_told_from_rows_that_are_missing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, connections = f"again_{uuid.uuid4().hex[:8]}", pipeline.connections
    monkeypatch.setattr(settling, "PIECE_OFFSETS", 100)
    for partition in (0, 1):
        produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 250), partition=partition)
        pipeline.drain()
    verdict = scheduled_look(pipeline)
    assert verdict.passed, verdict.sentence
    assert "250 rows fewer than the ledger stored, and none is missing" in verdict.sentence
    assert verdict.numbers["rows_sent_again"] == 250
    kept = connections.settlements.read_settlement(pipeline.topic, DAY)
    assert len([name for name in kept.pieces if not name.startswith("ledger")]) == 6
    assert kept.explained == 250
    assert connections.audits.read_last_audit(pipeline.topic) is None, "no audit of a person's"

    # Sent again once more, and a row that is deleted behind our back: not explained by that.
    produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 90), partition=0)
    pipeline.drain()
    verdict = scheduled_look(pipeline)
    assert verdict.passed, verdict.sentence
    assert "340 rows fewer" in verdict.sentence
    delete_one(pipeline, f"{name}_0")
    verdict = scheduled_look(pipeline)
    assert not verdict.passed
    assert "records of 2024-12-29 without their row" in verdict.sentence
    assert verdict.numbers["rows_missing"] == 341


def test_a_run_leaves_it_to_the_schedule_why_rows_are_fewer_since_none_was_missing(
    pipeline: Pipeline,
) -> None:
    readings = list(fleet(f"since_{uuid.uuid4().hex[:8]}", 3, 100))
    produce(pipeline.brokers, pipeline.topic, readings, partition=0)
    pipeline.drain()
    assert scheduled_look(pipeline).numbers["rows_missing"] == 0
    produce(pipeline.brokers, pipeline.topic, readings[:7], partition=0)
    again = pipeline.drain()
    verdict = look_of_a_run(pipeline, again)
    assert verdict.passed, verdict.sentence
    assert f"{DAY}: 7 rows fewer" in verdict.sentence
    assert "no row was missing; what came since" in verdict.sentence
    # Where no look came before, it is a warning; after one that settled it, an audit has told.
    connections = pipeline.connections
    connections.settlements.keep_settlement(pipeline.topic, DAY, KeptSettlement())
    assert not look_of_a_run(pipeline, again).passed
    assert scheduled_look(pipeline).passed
    assert "an audit had found the row of every record" in look_of_a_run(pipeline, again).sentence
    # What is missing beyond that, and beyond what was stored since, was not sent again.
    for number in range(8):
        delete_one(pipeline, readings[0][0].decode(), number)
    assert look_of_a_run(pipeline, again).numbers["rows_missing"] == 15


def look_of_a_run(pipeline: Pipeline, part: DrainProgress) -> CheckVerdict:
    now, info = datetime.now(UTC), pipeline.log.describe(pipeline.topic)
    part.seconds = 600.0  # its checks have the time to count, on any machine
    run = RunFacts("r", part, part.ranges, part.total.stored_by_day, (), now, info)
    verdict = look(Facts(pipeline.connections, now, run))
    assert verdict is not None
    return verdict


def test_a_day_too_large_for_one_look_is_settled_in_several(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"large_{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(settling, "PIECE_OFFSETS", 100)
    for _ in range(2):
        produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 150), partition=0)
        pipeline.drain()
    for compared in (100, 200, None):
        facts = Facts(pipeline.connections, datetime.now(UTC))
        monkeypatch.setattr(facts, "seconds", lambda share: 30.0 if share != 0.2 else -1.0)
        verdict = look(facts)
        assert verdict is not None
        if compared is None:
            assert verdict.passed, verdict.sentence
        else:
            assert f"{compared} of 300 offsets of 2024-12-29 were compared so far" in (
                verdict.sentence
            )


def test_after_a_mirror_took_over_the_day_is_settled_and_told_apart(pipeline: Pipeline) -> None:
    name, topic = f"mirror_{uuid.uuid4().hex[:8]}", pipeline.topic
    readings = list(fleet(name, 3, 250))
    produce(pipeline.brokers, topic, readings, partition=0)
    pipeline.drain()
    recreate(pipeline)
    # The same readings at other offsets, one of them twice, but for ten that it does not have.
    produce(pipeline.brokers, topic, [readings[0], *readings[:240]], partition=1)
    new_id = pipeline.log.topic_id(topic)
    said = pipeline.iot("rebase", "--topic-id", new_id, "--at", "earliest")
    assert "counted" in said
    pipeline.iot("drain")
    verdict = scheduled_look(pipeline)
    assert verdict.passed, verdict.sentence
    # The one that came twice at once is repeated by the ledger already.
    assert "240 rows fewer than the ledger stored, and none is missing" in verdict.sentence
    assert "sent again later" not in verdict.sentence
    assert "250 are of another log, before a rebase" in verdict.sentence
    assert "counted in both" in pipeline.iot("ledger")
    # A row of the mirror's that goes missing is a warning all the same.
    delete_one(pipeline, f"{name}_0")
    assert "records of 2024-12-29 without their row" in scheduled_look(pipeline).sentence


def test_after_a_log_was_cut_back_its_beginning_is_compared_too(pipeline: Pipeline) -> None:
    name, settings = f"cut_{uuid.uuid4().hex[:8]}", pipeline.settings
    produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 100), partition=0)
    pipeline.drain()
    pipeline.connections.cassandra.execute(
        f"UPDATE {settings.keyspace}.ingest_ledger SET fingerprint = (99, 1, 2) "
        f"WHERE topic = '{pipeline.topic}' AND kafka_partition = 0 IF next_offset = 100",
        doing="making the log another one",
    )
    produce(pipeline.brokers, pipeline.topic, fleet(f"{name}_more", 1, 7), partition=0)
    pipeline.iot("rebase", "--at", "0:90")
    pipeline.iot("drain")
    assert scheduled_look(pipeline).passed
    assert pipeline.iot("audit", "--all", "--json")["stored"] == 107
    delete_one(pipeline, f"{name}_0")
    assert pipeline.iot("audit", "--all", "--json", exit_code=1)["lost_ranges"] == ["0:0-1"]
    assert "record of 2024-12-29 without their row" in scheduled_look(pipeline).sentence


def delete_one(pipeline: Pipeline, device_id: str, seconds: int = 0) -> None:
    pipeline.connections.cassandra.execute(
        f"DELETE FROM {pipeline.settings.keyspace}.sensor_data WHERE device_id = '{device_id}' "
        f"AND day = '{DAY}' AND timestamp = {1735444918000 + seconds * 1000}",
        doing="deleting a row behind the ledger's back",
    )
