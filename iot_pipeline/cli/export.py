"""`iot export`: whole days of readings as Parquet, one folder per day."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import Tables
from iot_pipeline.core.times import parse_day
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.reading.export import ExportedDay, ExportProgress, export_day


@click.command("export")
@click.option("--day", metavar="DAY", help="This UTC day, by the devices' clocks: 2026-01-31.")
@click.option("--since", metavar="DAY", help="From this UTC day on.")
@click.option("--until", metavar="DAY", help="Before this UTC day.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the export; days become folders in it.",
)
@json_option
def export_command(
    day: str | None, since: str | None, until: str | None, out: Path, as_json: bool
) -> None:
    """Export days of readings to OUT/day=2026-01-31/readings.parquet; again changes nothing.

    Columns: device_id (dictionary), timestamp (ms, UTC), temperature and humidity (double). What
    reads a partitioned dataset reads OUT: pyarrow, pandas, DuckDB, Spark.
    """
    from iot_pipeline.artifacts.parquet import FILE_NAME, parquet_file

    asked = _asked_days(day, since, until)
    settings = Settings.from_env()
    exported: list[ExportedDay] = []
    with CassandraClient(settings) as client:
        tables = Tables(client)
        known = tables.days.days()
        days = [item for item in known if asked[0] <= item < asked[1]]
        for number, item in enumerate(days, start=1):
            of = "" if len(days) == 1 else f" (day {number} of {len(days)})"
            with ProgressLine(f"exporting {item}{of}, devices") as line:

                def tell(progress: ExportProgress, line: ProgressLine = line) -> None:
                    line.show(progress.devices_done, progress.devices, f"{progress.rows:,} rows")

                done = export_day(
                    tables.rows,
                    tables.days,
                    item,
                    out / f"day={item}" / FILE_NAME,
                    parquet_file,
                    retry_seconds=settings.retry_seconds,
                    on_progress=tell,
                )
            exported.append(done)
            if not as_json:
                _say(done)
    if as_json:
        print_json({"out": str(out), "days": [_as_dict(item) for item in exported]})
    elif not days:
        say(_nothing(known))


def _asked_days(day: str | None, since: str | None, until: str | None) -> tuple[date, date]:
    """[first, end) of the days."""
    if (day is None) == (since is None and until is None):
        raise ConfigurationError("say which days: --day, or --since and --until")
    if day is not None:
        only = parse_day(day).date()
        return only, only + timedelta(days=1)
    first = parse_day(since).date() if since is not None else date.min
    end = parse_day(until).date() if until is not None else date.max
    if end <= first:
        raise ConfigurationError(f"--until {until}: expected a day after --since {since}")
    return first, end


def _say(done: ExportedDay) -> None:
    if done.path is None:
        say(f"{done.day}: no readings")
        return
    rate = done.rows / done.seconds if done.seconds else 0
    size = done.path.stat().st_size
    say(
        f"{done.day}: {done.rows:,} readings of {done.devices:,} devices, {size / 1e6:.1f} MB, "
        f"{done.seconds:.1f} s ({rate:,.0f}/s) -> {done.path}"
    )
    if done.day >= datetime.now(UTC).date():
        say("that day is not over: export it again later for the rest", err=True)


def _as_dict(done: ExportedDay) -> dict[str, object]:
    return {
        "day": str(done.day),
        "devices": done.devices,
        "rows": done.rows,
        "path": None if done.path is None else str(done.path),
        "seconds": round(done.seconds, 3),
    }


def _nothing(known: list[date]) -> str:
    if not known:
        return "no readings at all: `iot lag` says whether some wait in Kafka"
    return f"no readings then: there are some from {known[0]} to {known[-1]}"
