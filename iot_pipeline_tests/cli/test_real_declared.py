"""Another vendor's message without code: simulated, drained, audited, rolled up and exported."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from iot_pipeline_tests.core.reading.declared import SENSOR, SENSOR_YAML
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services, fresh_keyspace

pytestmark = pytest.mark.services

MORE = """\
  battery: {path: battery, type: int, unit: "%", min: 0, max: 100}
  state: {path: state, type: text}
ignore:
- {path: kind, equals: status}
"""
MESSAGE = json.loads(SENSOR) | {"battery": 97, "state": "ok"}
DAY = "2026-11-27"


@pytest.fixture
def settings_env(services: Services, tmp_path: Path) -> dict[str, str]:
    """As every test's, with the tables of this declaration."""
    (tmp_path / "reading.yaml").write_text(SENSOR_YAML + MORE)
    return services.environment(
        keyspace=fresh_keyspace(),
        IOT_DATA_DIR=str(tmp_path / "data"),
        IOT_READING=str(tmp_path / "reading.yaml"),
    )


def send(pipeline: Pipeline, *messages: object) -> None:
    producer = Producer({"bootstrap.servers": pipeline.brokers})
    for message in messages:
        producer.produce(pipeline.topic, json.dumps(message).encode(), b"a/1", 0)
    producer.flush()


def test_a_declared_message_goes_all_the_way(pipeline: Pipeline, tmp_path: Path) -> None:
    sent = pipeline.iot(
        *("simulate", "--scenario", "smart_home", "--since", f"{DAY}T00:00:00+00:00"),
        *("--until", f"{DAY}T00:10:00+00:00", "--json"),
    )["acknowledged"]
    status = {"kind": "status", "sensor": "a/1"}
    send(
        pipeline,
        MESSAGE,
        status,
        MESSAGE | {"ts": 1795762800000},
        MESSAGE | {"battery": 101},
        status,
        MESSAGE,
    )
    assert sent > 2_000

    # What they would become is what they become.
    checked = pipeline.iot("reading", "check", "--json", "--records", "100000", exit_code=1)
    fates = {name: fate["records"] for name, fate in checked["fates"].items()}
    assert fates == {"reading": sent + 2, "ignored": 2, "wrong_type": 1, "out_of_range": 1}
    drained = pipeline.iot("drain", "--json")
    assert (drained["stored"] + drained["repeated"], drained["rejected"], drained["ignored"]) == (
        sent + 2,
        2,
        2,
    )
    letters = pipeline.iot("dead-letters", "list")
    assert "declare `time: {path: ts, as: milliseconds}`" in letters
    assert "battery 101 is not within 0 to 100 %" in letters
    stats = pipeline.iot("dead-letters", "stats")
    assert "1 letter: declared as `time: {path: ts, as: milliseconds}`" in stats

    audit = pipeline.iot("audit", "--all", "--json")
    assert (audit["lost"], audit["torn"], audit["stray"], audit["ignored"]) == (0, 0, 0, 2)
    # Two are ignored: there is nothing to compare them with.
    assert (audit["proven"], audit["offsets"]) == (sent + 4, sent + 6)
    ledger = pipeline.iot("ledger", "--json")
    assert (ledger["total"]["ignored"], ledger["flaws"]) == (2, [])
    assert "ignored" in pipeline.iot("ledger")
    traced = pipeline.iot("trace", "a/1", f"{DAY}T07:00:00Z")
    assert '"battery": 97' in traced

    pipeline.iot("rollup", "--day", DAY)
    (rollup,) = pipeline.iot("rollups", "a/1", "--since", DAY, "--json")["rollups"]
    ends = rollup["co2"]["mean"], rollup["battery"]["min"], rollup["state"]["last"]
    assert ends == (612, 97, "ok")
    (reading,) = pipeline.iot("readings", "a/1", "--since", DAY, "--json")["readings"]
    told = [reading[name] for name in ("temperature", "humidity", "co2", "battery", "state")]
    assert told == [21.5, 40.0, 612.0, 97, "ok"]
    send(pipeline, MESSAGE | {"ts": datetime.now(UTC).isoformat()})
    pipeline.iot("drain")
    listed = pipeline.iot("devices", "--all")
    assert "a/1" in listed
    assert "97  ok" in listed
    exported = pipeline.iot("export", "--day", DAY, "--out", str(tmp_path / "out"))
    assert DAY in exported

    # A draft from the same topic takes in what this declaration takes in.
    draft = tmp_path / "draft.yaml"
    draft.write_text(pipeline.iot("reading", "infer", "--records", "2000").partition("a draft:")[0])
    assert pipeline.iot("reading", "show", str(draft), "--json")["time"] == "ts"


def declared_as(pipeline: Pipeline, path: Path, text: str) -> Pipeline:
    """The same topic and tables, read by another declaration from now on."""
    path.write_text(text)
    other = replace(pipeline, env={**pipeline.env, "IOT_READING": str(path)})
    other.iot("setup")
    return other


def is_proven(pipeline: Pipeline, offsets: int, **fates: int) -> bool:
    audit = pipeline.iot("audit", "--all", "--json")
    defects = [audit[name] for name in ("lost", "torn", "stray")]
    found = {name: audit[name] for name in fates}
    return (defects, audit["proven"], found) == ([0, 0, 0], offsets, fates)


def test_ranges_are_audited_and_replayed_by_the_declaration_of_then(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    def at(minute: int, **changed: object) -> dict[str, object]:
        return MESSAGE | {"ts": f"{DAY}T07:{minute:02}:00Z"} | changed

    send(pipeline, at(0), at(1, battery=105))
    pipeline.iot("drain")
    kelvin = SENSOR_YAML.replace('unit: "°C", min: -100, max: 150', "unit: K, shift: 273") + MORE
    kelvin = kelvin.replace("plausible: [-40, 50]", "plausible: [233, 323]")
    by_kelvin = declared_as(pipeline, tmp_path / "kelvin.yaml", kelvin)
    send(pipeline, at(2))
    by_kelvin.iot("drain")
    assert is_proven(by_kelvin, 3, stored=2, rejected=1)
    assert is_proven(pipeline, 3, stored=2, rejected=1)

    keyspace = pipeline.settings.keyspace
    pipeline.connections.cassandra.execute(f"TRUNCATE {keyspace}.sensor_data", doing="losing rows")
    then = pipeline.iot("reading", "show", "--json")["fingerprint"]
    asked = "replay", "--offsets", "0:0-3"
    said = by_kelvin.iot(*asked, exit_code=1)
    assert f"2 offsets (0:0-2) were ingested by the declaration {then} (" in said
    assert "temperature: unit °C, now K, " in said
    refused = by_kelvin.iot(*asked, "--reading", "now", exit_code=1)
    assert "record 0:0: its temperature would be 294.5, and is 21.5" in refused
    assert "read back: 2 of 2 rows" in by_kelvin.iot(*asked, "--reading", "then")
    assert is_proven(by_kelvin, 3, stored=2, rejected=1)
    assert then in by_kelvin.iot("trace", "a/1", f"{DAY}T07:00:00Z")

    # Another quantity, and a limit that takes in what was a dead letter: nothing stored changes.
    wider = (SENSOR_YAML + MORE).replace("min: 0, max: 100}\n  state", "min: 0, max: 110}\n  state")
    wider = wider.replace("ignore:", "  fw: {path: fw, type: text}\nignore:")
    by_wider = declared_as(pipeline, tmp_path / "wider.yaml", wider)
    said = by_wider.iot("replay", "--offsets", "0:0-2", "--reading", "now")
    assert "read back: 2 of 2 rows" in said
    assert is_proven(by_wider, 3, stored=3)
    rows = by_wider.iot("readings", "a/1", "--since", DAY, "--json")["readings"]
    assert {(row["temperature"], row["fw"]) for row in rows} == {(21.5, "1.2"), (294.5, None)}
    by_wider.iot("replay", "--offsets", "0:0-2")

    listed = by_wider.iot("reading", "list", "--json")["declarations"]
    assert [one["offsets"] for one in listed] == [0, 1, 2]
    assert [one["is_kept"] for one in listed] == [True] * 3
    assert "battery: max 100, now 110" in listed[2]["differences"]
    assert listed[0]["fingerprint"] in by_wider.iot("reading", "list")
    shown = by_wider.iot("reading", "show", "--fingerprint", listed[1]["fingerprint"])
    assert "× 1 + 273" in shown
