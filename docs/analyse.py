"""Two ways to the readings: a Parquet export, and Cassandra through the command `iot`.

    .venv/bin/iot export --day 2026-11-22 --out data/export
    .venv/bin/python docs/analyse.py data/export device_1 device_2

Prints a summary per device of everything exported, and of the newest hour that is in the table;
draws both into analyse.png. Everything is UTC.
"""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds
from matplotlib.figure import Figure

IOT = Path(sys.executable).with_name("iot")
SUMMARY = [
    ("timestamp", "count"),
    ("timestamp", "max"),
    ("temperature", "mean"),
    ("temperature", "max"),
]


def read_export(folder: str, devices: list[str]) -> pa.Table:
    """The exported readings of these devices: only their columns and row groups are read."""
    days = ds.dataset(folder, partitioning=ds.partitioning(flavor="hive"))
    return days.to_table(filter=ds.field("device_id").isin(devices))


def ask_cassandra(devices: list[str], last: str) -> pa.Table:
    """The newest readings, as they are in the table now."""
    done = subprocess.run(
        [str(IOT), "readings", *devices, "--last", last, "--format", "csv"],
        stdout=subprocess.PIPE,
        check=True,
    )
    types = {"device_id": pa.string(), "timestamp": pa.timestamp("ms", tz="UTC")}
    types |= {"temperature": pa.float64(), "humidity": pa.float64()}
    return pyarrow.csv.read_csv(
        io.BytesIO(done.stdout),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types),
    )


def summarize(title: str, readings: pa.Table) -> None:
    """One line per device: how many, the newest, mean and highest temperature."""
    print(title)
    names = pc.cast(readings["device_id"], pa.string())
    table = readings.set_column(readings.schema.get_field_index("device_id"), "device_id", names)
    for row in table.group_by("device_id").aggregate(SUMMARY).sort_by("device_id").to_pylist():
        print(
            f"  {row['device_id']}: {row['timestamp_count']} readings, the newest at "
            f"{row['timestamp_max']:%Y-%m-%d %H:%M:%S}, {row['temperature_mean']:.2f} °C on "
            f"average, {row['temperature_max']:.2f} °C at most"
        )


def draw(parts: dict[str, pa.Table], devices: list[str], path: str) -> None:
    """Temperature of each device, one plot per table."""
    figure = Figure(figsize=(10, 3 * len(parts)), layout="constrained")
    for axes, (title, readings) in zip(figure.subplots(len(parts)), parts.items(), strict=True):
        axes.set_title(title, loc="left")
        axes.set_ylabel("°C")
        for device_id in devices:
            mine = readings.filter(pc.equal(readings["device_id"], device_id)).sort_by("timestamp")
            axes.plot(mine["timestamp"].to_numpy(), mine["temperature"].to_numpy(), label=device_id)
        axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    folder, *devices = sys.argv[1:]
    exported = read_export(folder, devices)
    newest = ask_cassandra(devices, "1h")
    summarize(f"exported to {folder}", exported)
    summarize("in Cassandra, the last hour", newest)
    draw({"exported": exported, "the last hour": newest}, devices, "analyse.png")


if __name__ == "__main__":
    main()
