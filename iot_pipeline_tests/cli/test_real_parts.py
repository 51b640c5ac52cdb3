"""Readings that are told in parts: drained, proved, counted, shown, replayed on real servers."""

import csv
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from iot_pipeline.stages.checks.machinery.row_counts import count_days
from iot_pipeline.stages.checks.row_count_matches_ledger import judge
from iot_pipeline.stages.ledger.sums import KeptSums, keep_sums
from iot_pipeline.stages.proof.settling import settle_day
from iot_pipeline_tests.core.reading.declared import SENSOR, SENSOR_YAML
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services, fresh_keyspace

pytestmark = pytest.mark.services

# Five quantities, two of them optional.
YAML = (
    SENSOR_YAML.replace(
        "humidity: {path: values.rh,", "humidity: {path: values.rh, optional: true,"
    ).replace("co2: {path: values.co2_ppm,", "co2: {path: values.co2_ppm, optional: true,")
    + """\
  battery: {path: battery, type: int, unit: "%", min: 0, max: 100, optional: true}
  state: {path: state, type: text, optional: true}
"""
).replace("temp_c, unit", "temp_c, optional: true, unit")
HEAD = {key: json.loads(SENSOR)[key] for key in ("sensor", "ts")}
DAY = "2026-11-27"


@pytest.fixture
def settings_env(services: Services, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "reading.yaml").write_text(YAML)
    return services.environment(
        keyspace=fresh_keyspace(),
        IOT_DATA_DIR=str(tmp_path / "data"),
        IOT_READING=str(tmp_path / "reading.yaml"),
    )


def send(pipeline: Pipeline, *messages: dict[str, Any]) -> None:
    producer = Producer({"bootstrap.servers": pipeline.brokers})
    for message in messages:
        producer.produce(pipeline.topic, json.dumps(HEAD | message).encode(), b"a/1")
        producer.flush()


def newest(pipeline: Pipeline) -> list[Any]:
    (reading,) = pipeline.iot("readings", "a/1", "--since", DAY, "--json")["readings"]
    return [reading[name] for name in ("temperature", "humidity", "co2", "battery", "state")]


def audited(pipeline: Pipeline) -> dict[str, int]:
    audit = pipeline.iot("audit", "--all", "--json", exit_code=0)
    assert audit["proven"] == audit["offsets"]
    return {
        fate: audit[fate]
        for fate in ("stored", "superseded", "repeated", "rejected", "lost", "torn", "stray")
        if audit[fate]
    }


def columns(pipeline: Pipeline, cql: str) -> Iterator[Any]:
    keyspace = pipeline.settings.keyspace
    yield from pipeline.connections.cassandra.execute(
        cql.replace("KS", keyspace), doing="looking at the table"
    )


def test_a_reading_told_in_parts_goes_all_the_way(pipeline: Pipeline, tmp_path: Path) -> None:
    # Together, and in a later run.
    send(pipeline, {"values": {"temp_c": 21.5}}, {"values": {"rh": 40}}, {"values": {"rh": None}})
    drained = pipeline.iot("drain", "--json")
    assert (drained["stored"], drained["rejected"]) == (2, 1)
    assert newest(pipeline) == [21.5, 40.0, None, None, None]
    send(pipeline, {"values": {"co2_ppm": 612}, "state": "ok"}, {"values": {"rh": 41}})
    pipeline.iot("drain")
    assert newest(pipeline) == [21.5, 41.0, 612.0, None, "ok"]
    # Nothing was deleted: absent is not null.
    (row,) = columns(pipeline, "SELECT count(battery) FROM KS.sensor_data")
    assert row[0] == 0
    assert audited(pipeline) == {"stored": 3, "superseded": 1, "rejected": 1}

    # Whole ones, in fours that lack something.
    sent = pipeline.iot(
        *("simulate", "--scenario", "smart_home", "--since", f"{DAY}T00:00:00+00:00"),
        *("--until", f"{DAY}T00:05:00+00:00", "--json"),
    )["acknowledged"]
    drained = pipeline.iot("drain", "--json")
    assert drained["stored"] + drained["repeated"] + drained["superseded"] == sent
    found = audited(pipeline)
    assert not found.keys() & {"lost", "torn", "stray"}
    entries = pipeline.connections.ledger.read_entries(pipeline.topic, [0, 1, 2, 3])
    cells = sum(sum(entry.counts.cells_by_day.values()) for entry in entries)
    counted = ", ".join(f"count({q.name})" for q in pipeline.settings.quantities)
    (row,) = columns(pipeline, f"SELECT {counted} FROM KS.sensor_data")
    # One humidity was told again by a later run.
    assert cells - 1 == sum(row)
    assert len({*row}) > 1
    connections, partitions = pipeline.connections, range(4)
    keep_sums(connections.ledger, connections.ledger_sums, pipeline.topic, partitions)
    kept = KeptSums(connections.ledger, connections.ledger_sums)
    for ledger in (connections.ledger, kept):
        (day,) = count_days(
            ledger,
            connections.rows,
            connections.days,
            pipeline.topic,
            partitions,
            [date.fromisoformat(DAY)],
            budget_seconds=60,
            of_cells=True,
        )
        assert (day.rows, day.deficit, day.surplus, day.is_whole) == (sum(row), 1, 0, True)
    settled = settle_day(
        connections.audit_ports,
        connections.settlements,
        partitions,
        day.day,
        day.deficit,
        budget_seconds=60,
    )
    assert settled.is_settled
    verdict = judge([day], [settled], "cell")
    assert verdict.passed
    assert "1 cell fewer than the ledger stored, and none is missing" in verdict.sentence

    pipeline.iot("rollup", "--day", DAY)
    (rollup,) = pipeline.iot("rollups", "a/1", "--since", DAY, "--json")["rollups"]
    assert rollup["count"] == 1
    assert (rollup["co2"]["count"], rollup["battery"]) == (1, None) or rollup["battery"] == {
        "count": 0
    }
    shown = pipeline.iot("readings", "a/1", "--since", DAY)
    assert "612" in shown
    assert "None" not in shown
    out = tmp_path / "a.csv"
    pipeline.iot("readings", "a/1", "--since", DAY, "--format", "csv", "--out", str(out))
    (line,) = csv.DictReader(out.read_text().splitlines())
    assert (line["humidity"], line["battery"], line["state"]) == ("41.0", "", "ok")
    assert DAY in pipeline.iot("export", "--day", DAY, "--out", str(tmp_path / "out"))
    assert "None" not in pipeline.iot("devices", "--all")

    # Written again, each part is what it was.
    ranges = [("--offsets", str(entry.offsets)) for entry in entries if entry.span]
    said = pipeline.iot("replay", *(part for pair in ranges for part in pair))
    assert "not whole" not in said
    assert audited(pipeline) == found

    traced = pipeline.iot("trace", "a/1", f"{DAY}T07:00:00Z", "--json")
    assert [part["told"] for part in traced["parts"]] == [
        ["temperature"],
        ["co2", "state"],
        ["humidity"],
    ]
    assert "told by" in pipeline.iot("trace", "a/1", f"{DAY}T07:00:00Z")

    # A cell changed, one that no record wrote, one that is gone: each is found.
    place = f"device_id = 'a/1' AND day = '{DAY}' AND timestamp = '{DAY} 07:00:00+0000'"
    (times,) = columns(
        pipeline, f"SELECT writetime(co2), writetime(humidity) FROM KS.sensor_data WHERE {place}"
    )
    for changed in (
        f"UPDATE KS.sensor_data USING TIMESTAMP {times[0]} SET co2 = 9000 WHERE {place}",
        f"UPDATE KS.sensor_data SET battery = 1 WHERE {place}",
        f"DELETE humidity FROM KS.sensor_data USING TIMESTAMP {times[1]} WHERE {place}",
    ):
        list(columns(pipeline, changed))
    audit = pipeline.iot("audit", "--all", "--json", exit_code=1)
    assert (audit["torn"], audit["stray"], audit["lost"]) == (1, 1, 2)
    assert "it has no cell of humidity" in json.dumps(audit)
    # What a record says is written again; the rest no record explains.
    pipeline.iot("mend", "a/1", f"{DAY}T07:00:00Z")
    assert newest(pipeline) == [21.5, None, 612.0, 1, "ok"]
    audit = pipeline.iot("audit", "--all", "--json", exit_code=1)
    assert (audit["torn"], audit["stray"], audit["lost"]) == (0, 1, 2)
