"""A device is forgotten for good, on real servers; and a drain is slowed down while it works."""

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from iot_pipeline.connections import Connections
from iot_pipeline.core.proof.audit_result import Fate
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.row_count_matches_ledger import CHECK
from iot_pipeline_tests.load import ORIGIN_SECONDS, fleet, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

DAY = "2024-12-29"


@pytest.fixture
def filled(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Pipeline, str]]:
    """300 readings of 3 devices in an otherwise empty table, drained and rolled up."""
    monkeypatch.setattr("iot_pipeline.stages.proof.forget.WAIT_SECONDS", 0.0)
    name = f"forgotten_{uuid.uuid4().hex[:8]}"
    keyspace = pipeline.settings.keyspace
    for table in ("sensor_data", "devices_by_day"):
        pipeline.connections.cassandra.execute(f"TRUNCATE {keyspace}.{table}", doing="emptying")
    produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 300), partition=0)
    pipeline.iot("drain")
    pipeline.iot("rollup", "--day", DAY)
    yield pipeline, name
    # They are about all topics of the session's keyspace.
    pipeline.connections.cassandra.execute(f"TRUNCATE {keyspace}.deletions", doing="emptying")


def _judge_rows(connections: Connections) -> tuple[bool, str]:
    verdict = CHECK.look(Facts(connections, datetime.now(UTC)))
    assert verdict is not None
    return verdict.passed, verdict.sentence


def test_a_forgotten_device_stays_so_and_the_others_as_they_are(
    filled: tuple[Pipeline, str],
) -> None:
    pipeline, name = filled
    device, other = f"{name}_0", f"{name}_1"
    # Read before the receipt and drained after it: a backlog.
    late = [(device.encode(), reading_json(device, ORIGIN_SECONDS + 90_000 + n)) for n in range(5)]
    produce(pipeline.brokers, pipeline.topic, late, partition=1)
    before = pipeline.rows(other)
    receipt = pipeline.iot("forget", device, "--reason", "asked", "--yes", "--json")
    assert receipt["state"] == "done"
    assert receipt["by_day"] == {DAY: 100}
    assert receipt["found"]["rollups"] > 1
    assert any("864000 s" in sentence for sentence in receipt["not_reached"])
    pipeline.iot("drain")
    pipeline.iot("replay", "--offsets", "0:0-300", "--offsets", "1:0-5")
    assert pipeline.rows(device) == pipeline.rows(device, "2024-12-30") == {}
    assert pipeline.rows(other) == before
    assert list(pipeline.connections.days.days_of(device)) == []
    assert pipeline.connections.device_tables.count_states(device) == 0
    months = [datetime(2024, 12, 1, tzinfo=UTC).date()]
    assert pipeline.connections.device_tables.count_rollups(device, months) == 0
    assert pipeline.connections.device_tables.count_rollups(other, months) > 1
    # Proven, counted, and listed.
    report = pipeline.iot("audit", "--all", "--json")
    assert (report[Fate.FORGOTTEN], report[Fate.STORED], report[Fate.LOST]) == (105, 200, 0)
    passed, sentence = _judge_rows(pipeline.connections)
    assert passed, sentence
    assert "but for 100 that `iot forget` removed" in sentence
    assert device in pipeline.iot("forget", "--list")
    # The backlog was left out by the drain itself, not only hidden by a tombstone.
    entries = pipeline.connections.ledger.read_entries(pipeline.topic, [1])
    assert sum(entry.counts.superseded for entry in entries) == 5
    assert sum(entry.counts.stored for entry in entries) == 0
    # What arrives later is new.
    again = [(device.encode(), reading_json(device, ORIGIN_SECONDS + 500))]
    produce(pipeline.brokers, pipeline.topic, again, partition=0)
    pipeline.iot("drain")
    assert len(pipeline.rows(device)) == 1
    assert [str(day) for day in pipeline.connections.days.days_of(device)] == [DAY]
    assert device in pipeline.iot("forget", "--list")


def test_what_came_back_behind_its_back_is_told(filled: tuple[Pipeline, str]) -> None:
    pipeline, name = filled
    device = f"{name}_2"
    pipeline.iot("forget", device, "--reason", "asked", "--yes")
    keyspace = pipeline.settings.keyspace
    # As if its tombstones were forgotten and a run that was frozen all the time woke: a row that no
    # tombstone hides, under a receipt of that moment.
    (receipt,) = [r for r in pipeline.connections.receipts.read_receipts() if r.device_id == device]
    where = f"device_id = '{device}' AND day = '{DAY}'"
    at = receipt.deletion.deleted_us
    for cql in (
        f"INSERT INTO {keyspace}.devices_by_day (day, bucket, device_id) "
        f"VALUES ('{DAY}', {bucket_of(device)}, '{device}')",
        f"INSERT INTO {keyspace}.sensor_data (device_id, day, timestamp, temperature, humidity) "
        f"VALUES ('{device}', '{DAY}', {1735444919000}, 1.0, 2.0) USING TIMESTAMP {at + 1}",
    ):
        pipeline.connections.cassandra.execute(cql, doing=where)
    # What arrived after the receipt's moment is none of its business.
    pipeline.iot("forget", "--list")
    deletion = replace(receipt.deletion, deleted_us=at + 1)
    pipeline.connections.receipts.keep_receipt(replace(receipt, deletion=deletion))
    said = pipeline.iot("forget", "--list", exit_code=1)
    assert f"{device}: there again: 1 reading" in said


def test_a_drain_obeys_a_limit_that_changes_while_it_works(pipeline: Pipeline) -> None:
    name = f"slowed_{uuid.uuid4().hex[:8]}"
    produce(pipeline.brokers, pipeline.topic, fleet(name, 10, 3_000), partition=2)
    assert "100 rows/s" in pipeline.iot("throttle", "100")
    waits = pipeline.iot("lag")
    assert "writing is limited to 100 rows/s" in waits
    assert "3,000 offsets: 30 s at least" in waits
    odd = b'{"device_id": "d", "timestamp": 1735444918.0, "temperature": 1.0, "humidity": "wet"}'
    produce(pipeline.brokers, pipeline.topic, [(b"d", odd)], partition=3)
    ahead = pipeline.iot("drain", "--plan", exit_code=1)
    assert "3,001 offsets would be drained" in ahead
    assert "wrong_type: 1 record of partition 3" in ahead
    assert "at 100 rows/s it takes 30 s at least" in ahead
    told = pipeline.iot("drain", "--plan", "--json", exit_code=1)
    assert [item["looked_at"] for item in told["ranges"]] == [1_000, 1]
    # Not even a first contact.
    assert pipeline.connections.ledger.read_checkpoints(pipeline.topic, range(4)) == {}
    kept = pipeline.connections.throttles
    lifted = threading.Timer(1.0, lambda: kept.keep_limit(pipeline.topic, None))
    began = time.monotonic()
    lifted.start()
    drained = pipeline.drain()
    lifted.join()
    assert (drained.total.stored, drained.total.rejected) == (3_000, 1)
    # Alone it would be a tenth of a second, and under the limit half a minute.
    assert 1.0 < time.monotonic() - began < 20.0
    assert "no limit" in pipeline.iot("throttle")
