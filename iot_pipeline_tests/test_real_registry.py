"""Avro and Protobuf through a real schema registry: simulated, drained, audited, exported.

Apicurio beside the session's Kafka and Cassandra, behind a door that asks for a login.
"""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iot_pipeline.clients.registry import SchemaRegistry
from iot_pipeline.connections import open_connections
from iot_pipeline.core.reading.formats import KINDS, Unknown, frame
from iot_pipeline.core.simulator.messages import MessageWriter
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulator.writing import learn_to_write
from iot_pipeline_tests.apicurio import Apicurio
from iot_pipeline_tests.load import produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.registry_door import PASSWORD, USER, Door
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services

READING = """
version: 1
format: FORMAT
device: {path: sensor}
time: {path: ts, as: milliseconds}
quantities:
  temperature: {path: values.temp_c, unit: "°C", min: -100, max: 150}
  humidity: {path: values.rh, unit: "%", min: 0, max: 100}
  co2: {path: values.co2_ppm, unit: ppm, type: int, min: 0, max: 10000}
"""
SENT, DAY, AT_US = 600, "2026-11-27", 1_795_766_400_000_000
# The same and a field more, as a producer of the next year registers it.
EVOLVED: dict[str, Callable[[str], str]] = {
    "avro": lambda text: json.dumps(_with_firmware(json.loads(text))),
    "protobuf": lambda text: text.rstrip().removesuffix("}") + "  optional string fw = 99;\n}\n",
}


def _with_firmware(told: dict[str, Any]) -> dict[str, Any]:
    firmware = {"name": "fw", "type": ["null", "string"], "default": None}
    return {**told, "fields": [firmware, *told["fields"]]}


@dataclass
class Formatted:
    """A pipeline whose messages are of a format, by a registry's schemas."""

    pipeline: Pipeline
    form: str
    door: Door
    registry: SchemaRegistry


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    server = Apicurio(tmp_path_factory.mktemp("apicurio"))
    try:
        server.start()
        opened = Door(server.url)
        opened.open()
        yield opened
        opened.shut()
    finally:
        server.stop()


@pytest.fixture(scope="module", params=["avro", "protobuf"])
def formatted(
    request: pytest.FixtureRequest,
    services: Services,
    door: Door,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Formatted]:
    """600 messages of 6 devices by the topic's first schema, all of them drained."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    (folder / "reading.yaml").write_text(READING.replace("FORMAT", request.param))
    (folder / "password").write_text(PASSWORD)
    env = services.environment(
        IOT_READING=str(folder / "reading.yaml"),
        IOT_REGISTRY_URL=door.url,
        IOT_REGISTRY_USERNAME=USER,
        IOT_REGISTRY_PASSWORD_FILE=str(folder / "password"),
        IOT_DATA_DIR=str(folder),
        IOT_PARTITIONS="2",
    )
    settings = Settings.from_env(env)
    with open_connections(settings) as connections:
        pipeline = Pipeline(settings, env, connections)
        assert connections.set_up().differences == []
        pipeline.iot(
            *("simulate", "--devices", "6", "--rate", "max", "--count", str(SENT)),
            *("--start", f"{DAY}T08:00:00+00:00", "--interval", "1"),
        )
        assert pipeline.iot("drain", "--json")["stored"] == SENT
        yield Formatted(pipeline, request.param, door, SchemaRegistry(settings))


def _messages(of: Formatted, number: int, device: str) -> list[tuple[bytes, bytes]]:
    """Readings by the newest schema of the topic."""
    rules = of.pipeline.settings.reading_rules
    learn_to_write(rules, of.registry, of.pipeline.topic)
    writer = MessageWriter(rules)
    return [
        (device.encode(), writer.write(device, AT_US + at * 1_000_000, [21.5, 40.0, 612.0]))
        for at in range(number)
    ]


def _rejected(of: Formatted) -> dict[str, str]:
    """Message key -> "reason: message" of each dead letter."""
    letters = of.pipeline.iot("dead-letters", "list", "--all", "--json")["dead_letters"]
    return {one["message_key"]: f"{one['reason']}: {one['message']}" for one in letters}


def test_a_topic_of_its_own_schema_goes_the_whole_way(formatted: Formatted) -> None:
    pipeline, form = formatted.pipeline, formatted.form
    newest = formatted.registry.newest(f"{pipeline.topic}-value")
    assert newest is not None
    assert newest[1].kind == KINDS[form]
    assert f"{form}, by a registry's schemas" in pipeline.iot("reading", "show")
    assert pipeline.iot("reading", "check", "--json")["rejected"] == 0
    audit = pipeline.iot("audit", "--all", "--json")
    assert (audit["stored"], audit["lost"], audit["torn"], audit["stray"]) == (SENT, 0, 0, 0)
    pipeline.iot("rollup", "--day", DAY)
    assert "mean ppm" in pipeline.iot("rollups", "device_1", "--day", DAY)
    draft = pipeline.iot("reading", "infer")
    assert f"format: {form}\n" in draft
    assert "device: {path: sensor}" in draft
    assert "time: {path: ts, as: milliseconds}" in draft
    assert "{path: values.co2_ppm, " in draft
    out = pipeline.settings.data_dir / "export"
    pipeline.iot("export", "--day", DAY, "--out", str(out))
    assert any(out.rglob("*.parquet"))


def test_each_message_is_read_by_its_own_schema_and_what_is_wrong_is_told(
    formatted: Formatted,
) -> None:
    pipeline, subject = formatted.pipeline, f"{formatted.pipeline.topic}-value"
    kind = KINDS[formatted.form]
    (first_id, _) = formatted.registry.newest(subject) or (0, None)
    before = _messages(formatted, 5, "old")
    text = EVOLVED[formatted.form](_text_of(formatted, first_id))
    second_id = formatted.registry.register(subject, kind, text)
    after = _messages(formatted, 5, "new")
    assert {value[:5] for _, value in before + after} == {frame(first_id), frame(second_id)}
    wrong = [
        (b"plain", b'{"sensor": "x"}'),
        (b"unknown", frame(9_999) + before[0][1][5:]),
        (b"cut", before[0][1][:-3]),
        (b"magic", b"\1" + before[0][1][1:]),
    ]
    produce(pipeline.brokers, pipeline.topic, [*before[:3], *wrong, *after, *before[3:]])
    drained = pipeline.iot("drain", "--json")
    assert (drained["stored"], drained["rejected"]) == (10, 4)
    told = _rejected(formatted)
    assert told["plain"].endswith("send it by the schema, or declare `format: json`")
    assert told["unknown"] == ("undecodable: schema 9999: the registry has no schema of this id")
    assert told["cut"].startswith(f"undecodable: schema {first_id}: ")
    assert told["magic"].startswith("undecodable: it begins with byte 1, expected 0")
    assert "`format: json`" in pipeline.iot("dead-letters", "stats")
    audit = pipeline.iot("audit", "--all", "--json")
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0)
    assert (audit["stored"], audit["rejected"]) == (SENT + 10, 4)


def test_a_registry_that_is_away_is_waited_for(
    formatted: Formatted, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline, door = formatted.pipeline, formatted.door
    produce(pipeline.brokers, pipeline.topic, _messages(formatted, 5, "late"))
    door.shut()

    def open_when_missed() -> None:
        while not any("did not answer" in record.message for record in caplog.records):
            if done.wait(0.05):
                return
        door.open()

    done = threading.Event()
    watch = threading.Thread(target=open_when_missed)
    watch.start()
    try:
        progress = pipeline.drain()
    finally:
        done.set()
        watch.join()
        if door.is_shut:
            door.open()
    assert (progress.total.stored, progress.total.rejected) == (5, 0)


def test_without_the_login_nothing_is_judged(formatted: Formatted) -> None:
    pipeline = formatted.pipeline
    produce(pipeline.brokers, pipeline.topic, _messages(formatted, 2, "kept"))
    before = pipeline.iot("ledger", "--json")
    refused = Pipeline(
        pipeline.settings,
        {
            **{n: v for n, v in pipeline.env.items() if n != "IOT_REGISTRY_PASSWORD_FILE"},
            "IOT_REGISTRY_PASSWORD": "wrong-8",
        },
        pipeline.connections,
    )
    said = refused.iot("drain", exit_code=1)
    assert "refuses this login (401): IOT_REGISTRY_USERNAME and IOT_REGISTRY_PASSWORD" in said
    assert "wrong-8" not in said
    assert pipeline.iot("ledger", "--json") == before
    assert pipeline.iot("drain", "--json")["stored"] == 2


def _text_of(of: Formatted, schema_id: int) -> str:
    told = of.registry._ask(f"/schemas/ids/{schema_id}", "a test")
    assert not isinstance(told, Unknown)
    return str(told["schema"])
