"""The asking commands, as a person and a script run them, on real servers."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from iot_pipeline_tests.load import (
    ORIGIN_SECONDS,
    fleet,
    produce,
    produce_in_transaction,
    reading_json,
)
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


@pytest.fixture
def device() -> str:
    return f"dev_{uuid.uuid4().hex[:8]}"


def test_lag_is_what_waits_and_zero_when_nothing_does(pipeline: Pipeline, device: str) -> None:
    before = datetime.now(UTC)
    produce(pipeline.brokers, pipeline.topic, fleet(device, 1, 30), partition=1)
    lag = pipeline.iot("lag", "--json")
    assert [p["lag"] for p in lag["partitions"]] == [0, 30, 0, 0]
    assert lag["partitions"][1]["checkpoint"] is None
    since = (datetime.now(UTC) - before).total_seconds()
    assert lag["lag"] == 30
    assert 0 < lag["lag_seconds"] <= since + 0.1
    assert lag["lag_seconds"] == lag["partitions"][1]["lag_seconds"]
    assert "never ingested" in pipeline.iot("lag")

    pipeline.drain()
    lag = pipeline.iot("lag", "--json")
    assert (lag["lag"], lag["lag_seconds"]) == (0, 0)
    assert lag["partitions"][1]["checkpoint"] == lag["partitions"][1]["last_stable_offset"] == 30


def test_lag_in_seconds_is_that_of_the_next_record_when_the_checkpoint_is_a_hole(
    pipeline: Pipeline, device: str
) -> None:
    value = reading_json(device, ORIGIN_SECONDS)
    pipeline.drain()
    produce_in_transaction(pipeline.brokers, pipeline.topic, [value] * 3, commit=False)
    lag = pipeline.iot("lag", "--json")
    assert (lag["lag"], lag["lag_seconds"]) == (4, 0), "holes are offsets and no records"
    produce(pipeline.brokers, pipeline.topic, [(None, value)], partition=0)
    lag = pipeline.iot("lag", "--json")
    assert lag["lag"] == 5
    assert 0 < lag["lag_seconds"] < 30


def test_the_ledger_lists_newest_first_and_sums_all_of_it(pipeline: Pipeline, device: str) -> None:
    for wave in range(3):
        produce(
            pipeline.brokers, pipeline.topic, fleet(f"{device}_{wave}", 5, 100), partition=wave % 2
        )
        pipeline.drain()
    ledger = pipeline.iot("ledger", "--json")
    assert [(e["partition"], e["start_offset"], e["end_offset"]) for e in ledger["entries"]] == [
        (0, 100, 200),
        (1, 0, 100),
        (0, 0, 100),
    ]
    assert {(p["partition"], p["span"], p["stored"]) for p in ledger["partitions"]} == {
        (0, 200, 200),
        (1, 100, 100),
    }
    assert ledger["total"]["span"] == ledger["total"]["stored"] == 300
    assert ledger["entries"][0]["stored_by_day"] == {"2024-12-29": 100}
    one = pipeline.iot("ledger", "--partition", "0", "--last", "1", "--json")
    assert len(one["entries"]) == 1
    assert one["total"]["span"] == 200, "sums do not depend on what is listed"
    (newest,) = pipeline.iot("ledger", "--last", "1", "--json")["entries"]
    assert newest == ledger["entries"][0]
    assert "the chain holds" in pipeline.iot("ledger")
    pipeline.iot("ledger", "--partition", "9", exit_code=2)


def test_a_flaw_in_the_ledger_is_shown_and_is_exit_code_1(pipeline: Pipeline, device: str) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet(device, 5, 100), partition=0)
    pipeline.drain()
    pipeline.connections.cassandra.execute(
        f"UPDATE {pipeline.settings.keyspace}.ingest_ledger SET end_offset = 90 "
        f"WHERE topic = '{pipeline.topic}' AND kafka_partition = 0 AND epoch = 0 "
        "AND start_offset = 0 IF EXISTS",
        doing="breaking the ledger",
    )
    shown = pipeline.iot("ledger", "--json", exit_code=1)
    assert any("the checkpoint is 100" in flaw for flaw in shown["flaws"])
    assert any("100 accounted for" in flaw for flaw in shown["flaws"])
    assert "FLAW: partition 0" in pipeline.iot("ledger", exit_code=1)


def test_readings_are_asked_by_time_and_come_newest_first(pipeline: Pipeline, device: str) -> None:
    now = datetime.now(UTC).timestamp()
    values = [
        reading_json(device, now - age, float(number)) for number, age in enumerate((7200, 600, 5))
    ]
    produce(pipeline.brokers, pipeline.topic, [(b"k", value) for value in values])
    pipeline.drain()

    def found(*arguments: str) -> list[float]:
        answer = pipeline.iot("readings", device, "--json", *arguments)
        return [reading["temperature"] for reading in answer["readings"]]

    assert found("--last", "1h") == [2, 1]
    assert found("--last", "3h") == [2, 1, 0]
    assert found("--last", "3h", "--limit", "1") == [2]
    until = datetime.now(UTC) - timedelta(hours=1)
    assert found("--since", "2024-01-01", "--until", until.isoformat()) == [0]
    assert found("--until", "2024-01-01") == []
    assert "no readings of" in pipeline.iot("readings", f"{device}_unknown")
    assert "expected a duration" in pipeline.iot("readings", device, "--last", "x", exit_code=2)


def test_dead_letters_are_listed_newest_first_and_by_reason(pipeline: Pipeline) -> None:
    bad = [b"no [/red] json", b"{}", None, b"also no json"]
    produce(pipeline.brokers, pipeline.topic, [(b"k", value) for value in bad], partition=3)
    pipeline.drain()
    listed = pipeline.iot("dead-letters", "list", "--json")
    assert [(x["offset"], x["reason"]) for x in listed["dead_letters"]] == [
        (3, "not_json"),
        (2, "no_value"),
        (1, "missing_field"),
        (0, "not_json"),
    ]
    first = listed["dead_letters"][-1]
    assert (first["topic"], first["partition"]) == (pipeline.topic, 3)
    assert (first["value"], first["value_bytes"]) == ("no [/red] json", 14)
    assert listed["is_all"] is True
    one = pipeline.iot("dead-letters", "list", "--reason", "not_json", "--last", "1", "--json")
    assert [x["offset"] for x in one["dead_letters"]] == [3]
    assert "no [/red] json" in pipeline.iot("dead-letters", "list")


def test_cql_reads_and_does_nothing_else(pipeline: Pipeline, device: str) -> None:
    produce(pipeline.brokers, pipeline.topic, [(b"k", reading_json(device, ORIGIN_SECONDS, 0.0))])
    pipeline.drain()
    select = (
        "SELECT day, timestamp, temperature FROM sensor_data "
        f"WHERE device_id = '{device}' AND day = '2024-12-29'"
    )
    row = {"day": "2024-12-29", "timestamp": "2024-12-29T04:01:58.000Z", "temperature": 0.0}
    assert pipeline.iot("cql", select, "--json") == {"rows": [row], "is_cut": False}
    assert "2024-12-29T04:01:58.000Z" in pipeline.iot("cql", select + ";")
    for refused in ("DROP TABLE sensor_data", "TRUNCATE sensor_data"):
        assert "only reads" in pipeline.iot("cql", refused, exit_code=2)
    two = pipeline.iot("cql", f"{select}; DROP TABLE sensor_data", exit_code=2)
    assert "expected one SELECT" in two
    assert "does not exist" in pipeline.iot("cql", "SELECT * FROM nothing_here", exit_code=1)
