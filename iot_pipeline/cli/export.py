from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import day_option, since_option, span_of_days, until_option
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import Tables
from iot_pipeline.core.words import counted
from iot_pipeline.settings import Settings
from iot_pipeline.stages.reading.export import ExportedDay, export_day


@click.command("export")
@day_option
@since_option
@until_option
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

    Days are those of the devices' clocks. Columns: device_id (dictionary), timestamp (ms, UTC), and
    each quantity, of its type. What reads a partitioned dataset reads OUT: pyarrow, pandas, DuckDB,
    Spark.
    """
    from iot_pipeline.artifacts.parquet import FILE_NAME, parquet_file

    first, end = span_of_days(day, since, until)
    settings = Settings.from_env()
    exported: list[ExportedDay] = []
    with CassandraClient(settings) as client:
        tables = Tables(client)
        known = tables.days.days()
        days = [item for item in known if first <= item < end]
        for number, item in enumerate(days, start=1):
            of = "" if len(days) == 1 else f" (day {number} of {len(days)})"
            with ProgressLine(f"exporting {item}{of}, devices") as line:
                done = export_day(
                    tables.rows,
                    tables.days,
                    item,
                    out / f"day={item}" / FILE_NAME,
                    partial(parquet_file, quantities=settings.quantities),
                    retry_seconds=settings.retry_seconds,
                    on_progress=partial(_show, line),
                )
            exported.append(done)
            if not as_json:
                _say(done)
    if as_json:
        found = [{**asdict(item), "seconds": round(item.seconds, 3)} for item in exported]
        print_json({"out": out, "days": found})
    elif not days:
        say(_nothing(known))


def _show(line: ProgressLine, devices_done: int, devices: int, rows: int) -> None:
    line.show(devices_done, devices, f"{rows:,} rows")


def _say(done: ExportedDay) -> None:
    if done.path is None:
        say(f"{done.day}: no readings")
        return
    rate = done.rows / done.seconds if done.seconds else 0
    size = done.path.stat().st_size
    say(
        f"{done.day}: {counted(done.rows, 'reading')} of {counted(done.devices, 'device')}, "
        f"{size / 1e6:.1f} MB, {done.seconds:.1f} s ({rate:,.0f}/s) -> {done.path}"
    )
    if done.day >= datetime.now(UTC).date():
        say("that day is not over: export it again later for the rest", err=True)


def _nothing(known: list[date]) -> str:
    if not known:
        return "no readings at all: `iot lag` says whether some wait in Kafka"
    return f"no readings then: there are some from {known[0]} to {known[-1]}"
