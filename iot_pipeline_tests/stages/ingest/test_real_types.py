"""A quantity of each type, from the topic to the exports, on real servers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from iot_pipeline.connections import open_connections
from iot_pipeline.settings import Settings
from iot_pipeline_tests.load import produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services

DECLARED = """\
version: 1
device: {path: id}
time: {path: at, as: milliseconds}
quantities:
  state: {type: text}
  co2: {unit: ppm, min: 0, max: 10000, plausible: [300, 5000]}
  level: {type: float}
  errors: {type: int}
  ticks: {type: bigint}
  is_open: {type: boolean}
"""
DAY, START_MS = "2024-12-29", 1_735_430_400_000
LARGE = 2**60 + 1


@pytest.fixture
def pipeline(services: Services, tmp_path: Path) -> Iterator[Pipeline]:
    file = tmp_path / "reading.yaml"
    file.write_text(DECLARED)
    env = services.environment(IOT_READING=str(file), IOT_DATA_DIR=str(tmp_path / "data"))
    settings = Settings.from_env(env)
    with open_connections(settings) as connections:
        connections.set_up()
        yield Pipeline(settings, env, connections)


def message(number: int) -> tuple[bytes, bytes]:
    values = {
        "state": ("ok", "=low", "é")[number % 3],
        "co2": 600.5,
        "level": 0.1,
        "errors": -number,
        "ticks": LARGE,
        "is_open": number >= 50,
    }
    said = {"id": "d", "at": START_MS + number * 1000, **values}
    return b"d", json.dumps(said).encode()


def test_each_type_is_stored_proven_rolled_up_and_shown(pipeline: Pipeline, tmp_path: Path) -> None:
    produce(pipeline.brokers, pipeline.topic, [message(number) for number in range(100)])
    assert pipeline.drain().total.stored == 100
    audit = pipeline.iot("audit", "--json", "--all")
    assert (audit["stored"], audit["torn"], audit["lost"], audit["stray"]) == (100, 0, 0, 0)
    found = pipeline.iot("readings", "d", "--since", DAY, "--json", "--limit", "2")["readings"]
    assert found[0] == {
        "timestamp": "2024-12-29T00:01:39.000Z",
        "state": "ok",
        "co2": 600.5,
        "level": pytest.approx(0.1),
        "errors": -99,
        "ticks": LARGE,
        "is_open": True,
    }
    pipeline.iot("rollup", "--day", DAY)
    (day,) = pipeline.iot("rollups", "d", "--day", DAY, "--json")["rollups"]
    assert day["state"] == {"count": 100, "first": "ok", "last": "ok"}
    assert day["is_open"] == {"count": 100, "first": False, "last": True}
    assert (day["errors"]["min"], day["errors"]["mean"]) == (-99, -49.5)
    file = tmp_path / "d.csv"
    pipeline.iot("readings", "d", "--since", DAY, "--format", "csv", "--out", str(file))
    csv = file.read_text().splitlines()[2]
    assert csv.split(",")[2:] == [
        "'=low",
        "600.5",
        "0.10000000149011612",
        "-1",
        str(LARGE),
        "false",
    ]
    pipeline.iot("export", "--day", DAY, "--out", str(tmp_path))
    table = pq.read_table(tmp_path / f"day={DAY}" / "readings.parquet")
    assert [str(table.schema.field(name).type) for name in table.column_names[2:8]] == [
        "string",
        "double",
        "float",
        "int32",
        "int64",
        "bool",
    ]
    assert table["ticks"].to_pylist() == [LARGE] * 100
    traced = pipeline.iot("trace", "d", "2024-12-29T00:01:39Z", "--json")
    assert (traced["is_whole"], traced["row"][0], traced["row"][4]) == (True, "ok", LARGE)
    png = tmp_path / "d.png"
    pipeline.iot("readings", "d", "--since", DAY, "--save", str(png))
    assert png.read_bytes().startswith(b"\x89PNG")
