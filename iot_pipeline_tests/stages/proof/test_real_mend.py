"""A row torn on real Cassandra by an equal write time; the audit's command mends it."""

import shlex
import uuid

import pytest

from iot_pipeline_tests.load import ORIGIN_SECONDS, produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

DAY = "2024-12-29"


def test_a_torn_row_is_mended_with_the_life_that_its_record_has_left(pipeline: Pipeline) -> None:
    pipeline.env["IOT_RETENTION_DAYS"] = "2"
    device = f"torn_{uuid.uuid4().hex[:8]}"
    ms = round(ORIGIN_SECONDS * 1000)
    table = f"{pipeline.settings.keyspace}.sensor_data"
    key = f"device_id = '{device}' AND day = '{DAY}' AND timestamp = {ms}"
    cassandra = pipeline.connections.cassandra
    cassandra.execute(f"TRUNCATE {table}", doing="emptying the table")
    produce(
        pipeline.brokers,
        pipeline.topic,
        [(None, reading_json(device, ORIGIN_SECONDS, 20.0, 50.0))],
        partition=0,
    )
    pipeline.iot("drain")
    (row,) = pipeline.rows(device).values()
    written_us = row[2]
    cassandra.execute(
        # Of two cells with one write time the one that lives longer stays.
        f"UPDATE {table} USING TIMESTAMP {written_us} AND TTL 200000 SET humidity = 60 WHERE {key}",
        doing="tearing a row",
    )
    (finding,) = pipeline.iot("audit", "--all", "--json", exit_code=1)["findings"]
    assert (finding["fate"], finding["repair"]) == (
        "torn",
        f"iot mend {device} {ORIGIN_SECONDS:.3f}",
    )
    done = pipeline.iot(*shlex.split(finding["repair"])[1:], "--json")
    mended_us = written_us // 1000 * 1000 + 992
    assert (done["is_mended"], done["written_us"]) == (True, mended_us)
    assert pipeline.rows(device) == {ms: (20.0, 50.0, mended_us)}
    ttls = cassandra.execute(
        f"SELECT TTL(temperature), TTL(humidity) FROM {table} WHERE {key}", doing="asking its life"
    )[0]
    # What was left when it was asked at the latest; a write of now would have two days.
    assert max(ttls) <= 2 * 86_400
    assert min(ttls) > 2 * 86_400 - 600
    report = pipeline.iot("audit", "--all", "--json")
    assert (report["stored"], report["torn"], report["stray"]) == (1, 0, 0)
    shown = pipeline.iot("trace", device, str(ORIGIN_SECONDS), "--json")
    assert (shown["partition"], shown["offset"], shown["written_us"]) == (0, 0, mended_us)
    assert pipeline.iot("mend", device, str(ORIGIN_SECONDS), "--json")["is_mended"] is False
