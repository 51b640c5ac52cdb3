"""What an analyst asks, on real rows: devices, readings in every format, exports."""

import csv
import io
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from iot_pipeline_tests.load import produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline, store_as_then
from iot_pipeline_tests.servers import clean_environment

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
MIDNIGHT = datetime(2025, 3, 2, tzinfo=UTC)


@pytest.fixture
def prefix() -> str:
    return f"an_{uuid.uuid4().hex[:8]}"


def store(pipeline: Pipeline, readings: dict[str, list[tuple[float, float]]]) -> None:
    """device_id -> (seconds, temperature), produced and drained."""
    messages = [
        (name.encode(), reading_json(name, seconds, temperature))
        for name, values in readings.items()
        for seconds, temperature in values
    ]
    produce(pipeline.brokers, pipeline.topic, messages)
    pipeline.drain()


def at(seconds: float, day: int = 0) -> float:
    return MIDNIGHT.timestamp() + day * 86_400 + seconds


def test_an_export_has_every_reading_of_its_days_and_none_of_others(
    pipeline: Pipeline, prefix: str, tmp_path: Path
) -> None:
    long, edge = f"{prefix}_long", f"{prefix}_edge"
    # More than a page of one device, and readings on both sides of both midnights.
    values = [(at(number * 5), number % 1000 / 10) for number in range(12_000)]
    edges = [(at(-0.001), 1.0), (at(0), 0.0), (at(86_399.999), 3.0), (at(0, 1), 4.0)]
    store(pipeline, {long: values, edge: edges})
    out = tmp_path / "export"
    answer = pipeline.iot("export", "--day", "2025-03-02", "--out", str(out), "--json")
    (day,) = answer["days"]
    file = out / "day=2025-03-02" / "readings.parquet"
    assert (day["day"], day["path"]) == ("2025-03-02", str(file))
    assert [path.name for path in file.parent.iterdir()] == ["readings.parquet"]
    table = ds.dataset(out, partitioning="hive").to_table()
    assert table.num_rows == day["rows"]
    schema = {name: table.schema.field(name).type for name in table.column_names}
    assert schema == {
        "device_id": pa.dictionary(pa.int32(), pa.string()),
        "timestamp": pa.timestamp("ms", tz="UTC"),
        "temperature": pa.float64(),
        "humidity": pa.float64(),
        "day": pa.string(),
    }
    rows = [row for row in table.to_pylist() if row["device_id"].startswith(prefix)]
    mine = {name: [row for row in rows if row["device_id"] == name] for name in (long, edge)}
    assert [row["temperature"] for row in mine[long]] == [value for _, value in values]
    assert [row["temperature"] for row in mine[edge]] == [0.0, 3.0], "both midnights cut"
    assert mine[edge][1]["timestamp"] == MIDNIGHT + timedelta(days=1, milliseconds=-1)
    assert {row["humidity"] for row in rows} == {50.0}
    assert {row["day"] for row in rows} == {"2025-03-02"}

    before = file.read_bytes()
    again = pipeline.iot(
        "export", "--since", "2025-03-01", "--until", "2025-03-04", "--out", str(out)
    )
    assert file.read_bytes() == before, "the same day again is the same file"
    assert {path.name for path in out.iterdir()} == {f"day=2025-03-0{n}" for n in (1, 2, 3)}
    assert "2025-03-03: " in again
    said = pipeline.iot("export", "--day", "2001-01-01", "--out", str(out))
    assert "no readings then" in said
    pipeline.iot("export", "--out", str(out), exit_code=2)


def test_a_large_day_is_exported_in_row_groups_within_bounded_memory(
    pipeline: Pipeline, prefix: str, tmp_path: Path
) -> None:
    day = datetime(2025, 4, 5, tzinfo=UTC).timestamp()
    names = [f"{prefix}_{number}" for number in range(3)]
    store(pipeline, {n: [(day + k, k % 40) for k in range(80_000)] for n in names})
    code = (
        "import resource, sys\n"
        "from iot_pipeline.artifacts import parquet\n"
        "from iot_pipeline.cli.main import main\n"
        "from iot_pipeline.clients.cassandra import CassandraClient\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "main()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "--day", "2025-04-05", "--out", str(tmp_path)],
        env=clean_environment(pipeline.env),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    file = pq.ParquetFile(tmp_path / "day=2025-04-05" / "readings.parquet")
    assert file.metadata.num_rows == 240_000
    groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert groups == [100_000, 100_000, 40_000]
    # All of it at once is 240,000 rows of some 200 bytes as Python objects, 48 MB and its columns.
    grown_kb = int(done.stdout.split()[-1])
    assert grown_kb < 90_000, f"{grown_kb} KB"


def test_readings_of_several_devices_in_every_format(
    pipeline: Pipeline, prefix: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC).timestamp()
    a, b = f"{prefix}_a", f"{prefix}_b"
    store(
        pipeline,
        {a: [(now - 7200, 0.0), (now - 60, 1.5), (now - 1, -2.25)], b: [(now - 30, 7.0)]},
    )
    lists = pipeline.iot("readings", a, b, "--last", "1h", "--json")["devices"]
    assert [(d["device_id"], [r["temperature"] for r in d["readings"]]) for d in lists] == [
        (a, [-2.25, 1.5]),
        (b, [7.0]),
    ]
    text = pipeline.iot("readings", a, b, "--last", "1h", "--limit", "1")
    assert a in text
    assert "1.5" not in text
    assert "the newest 1 of each" in text

    file = tmp_path / "r.csv"
    pipeline.iot("readings", a, b, "--last", "3h", "--format", "csv", "--out", str(file))
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [(row["device_id"], float(row["temperature"])) for row in rows] == [
        (a, 0.0),
        (a, 1.5),
        (a, -2.25),
        (b, 7.0),
    ]
    assert datetime.fromisoformat(rows[0]["timestamp"]).timestamp() == pytest.approx(
        now - 7200, abs=0.001
    )
    table = tmp_path / "r.parquet"
    pipeline.iot("readings", a, b, "--last", "3h", "--format", "parquet", "--out", str(table))
    assert pq.read_table(table).column("temperature").to_pylist() == [0.0, 1.5, -2.25, 7.0]

    picture = tmp_path / "r.png"
    plot = pipeline.iot(
        "readings", a, b, f"{prefix}_c", "--last", "3h", "--format", "plot", "--save", str(picture)
    )
    assert "temperature (°C)" in plot
    assert f"no readings of {prefix}_c" in plot
    assert a in plot
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 50_000
    for wrong in (
        ["--out", "x"],
        ["--save", "x.jpg"],
        ["--format", "csv", "--limit", "5"],
        ["--format", "plot", "--limit", "5"],
    ):
        pipeline.iot("readings", a, *wrong, exit_code=2)


def test_csv_goes_to_stdout_and_a_reader_that_has_seen_enough_is_no_error(
    pipeline: Pipeline, prefix: str
) -> None:
    store(pipeline, {prefix: [(at(number), 1.0) for number in range(20_000)]})
    done = subprocess.run(
        [
            "bash",
            "-o",
            "pipefail",
            "-c",
            '"$0" readings "$1" --format csv | head -n 2',
            str(Path(sys.executable).with_name("iot")),
            prefix,
        ],
        env=clean_environment(pipeline.env),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "device_id,timestamp,temperature,humidity",
        f"{prefix},2025-03-02T00:00:00.000Z,1.0,50.0",
    ]
    assert done.stderr == ""


def test_devices_are_listed_with_rhythm_and_silence(pipeline: Pipeline, prefix: str) -> None:
    now = datetime.now(UTC).timestamp()
    well, gone = f"{prefix}_well", f"{prefix}_gone"
    store(pipeline, {well: [(now + 20 - number * 10, 1.0) for number in range(6)]})
    store_as_then(pipeline, gone, [now - 3 * 86_400 - number * 60 for number in range(6)])
    listed = pipeline.iot("devices", "--json")
    mine = {d["device_id"]: d for d in listed["devices"] if d["device_id"].startswith(prefix)}
    assert mine[well]["silent_since"] is None
    assert mine[well]["cadence_seconds"] == pytest.approx(10, abs=0.002)
    since = datetime.fromisoformat(mine[gone]["silent_since"])
    assert since.timestamp() == pytest.approx(now - 3 * 86_400, abs=0.001)
    assert mine[gone]["newest"]["temperature"] == 20.0
    assert mine[gone]["count_today"] == 0
    order = [d["device_id"] for d in listed["devices"]]
    assert order.index(gone) < order.index(well)
    silent = pipeline.iot("devices", "--silent", "--json")
    names = {d["device_id"] for d in silent["devices"]}
    assert gone in names
    assert well not in names
    assert silent["silent"] == len(names)
    assert gone not in pipeline.iot("devices", "--days", "2")
    assert "silent for" in pipeline.iot("devices", "--silent")


def test_the_script_in_the_docs_reads_both(pipeline: Pipeline, prefix: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    names = [f"{prefix}_a", f"{prefix}_b"]
    begin = now.timestamp() - 600
    store(pipeline, {name: [(begin + k, 20.0 + k % 3) for k in range(90)] for name in names})
    days = {datetime.fromtimestamp(begin, UTC).date(), now.date()}
    for day in days:
        pipeline.iot("export", "--day", str(day), "--out", str(tmp_path / "export"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "analyse.py"), "export", *names],
        cwd=tmp_path,
        env=clean_environment(pipeline.env) | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert len(lines) == 4
    assert all("90 readings" in line and "21.00 °C on average" in line for line in lines), lines
    assert (tmp_path / "analyse.png").read_bytes().startswith(b"\x89PNG")
