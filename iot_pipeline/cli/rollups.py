"""`iot rollup` makes the rollups of days, `iot rollups` shows those of a device."""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import (
    choose_days,
    day_option,
    device_argument,
    since_option,
    until_option,
)
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import Tables
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.rollups.statistics import Rollup, statistics_of
from iot_pipeline.core.times import in_utc, moment_of, parse_day
from iot_pipeline.errors import RollupFrozenError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.rollups.rebuild import RollupProgress, read_rollups, rebuild_day


@click.command("rollup")
@day_option
@since_option
@until_option
@json_option
def rollup_command(day: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """Rebuild the hourly and daily rollups of days from their rows.

    Idempotent, and safe beside anything. Exit code 1: rows of a day age out, or are gone, so its
    rollups were left as they are; the other days are done.
    """
    settings = Settings.from_env()
    days = choose_days(day, since, until, datetime.now(UTC).date())
    done: list[RollupProgress] = []
    frozen: list[str] = []
    run_id = new_cli_run().run_id
    with CassandraClient(settings) as client:
        ports = Tables(client).rollup_ports
        for number, item in enumerate(days, start=1):
            of = "" if len(days) == 1 else f" (day {number} of {len(days)})"
            try:
                with ProgressLine(f"rollups of {item}{of}, devices") as line:
                    done.append(
                        rebuild_day(
                            ports,
                            settings.topic,
                            item,
                            run_id,
                            retry_seconds=settings.retry_seconds,
                            retention=settings.retention,
                            on_progress=partial(_show, line),
                        )
                    )
            except RollupFrozenError as exc:
                frozen.append(str(item))
                say(f"iot: {exc}", err=True)
    rows = [
        {
            "day": str(item.day),
            "readings": item.readings,
            "devices": item.devices,
            "hours": item.hours,
            "seconds": round(item.seconds, 3),
            "rows_per_second": round(item.rows_per_second, 1),
        }
        for item in done
    ]
    for note in filter(None, (item.note for item in done)):
        say(note, err=True)
    warnings = [item.warning for item in done if item.warning]
    for warning in warnings:
        say(f"iot: {warning}", err=True)
    if as_json:
        print_json({"days": rows, "frozen": frozen, "warnings": warnings})
    else:
        shown = "{day} {readings:,} {devices:,} {hours:,} {seconds:.1f} {rows_per_second:,.0f}"
        print_table(
            ("day", "readings", "devices", "hours", "seconds", "rows/s"),
            [shown.format_map(row).split() for row in rows],
        )
    if frozen or warnings:
        sys.exit(EXIT_FOUND)


def _show(line: ProgressLine, progress: RollupProgress) -> None:
    more = f"{progress.readings:,} rows, {progress.rows_per_second:,.0f}/s"
    line.show(progress.devices_done, progress.devices, more)


@click.command("rollups")
@device_argument
@day_option
@since_option
@until_option
@click.option("--hourly", is_flag=True, help="By the hour instead of by the day.")
@json_option
def rollups_command(
    device_id: str,
    day: str | None,
    since: str | None,
    until: str | None,
    hourly: bool,
    as_json: bool,
) -> None:
    """Show a device's rollups, newest first; without a day, those of the last 31 days.

    The standard deviation is of the values themselves (divided by the count).
    """
    settings = Settings.from_env()
    today = datetime.now(UTC).date()
    if day is None and since is None:
        last = today if until is None else parse_day(until).date() - timedelta(days=1)
        since = str(last - timedelta(days=30))
    days = choose_days(day, since, until, today)
    with CassandraClient(settings) as client:
        found = read_rollups(
            Tables(client).rollups,
            device_id,
            days[0],
            days[-1],
            hourly=hourly,
            retry_seconds=settings.retry_seconds,
        )
    column = "hour" if hourly else "day"
    if as_json:
        rows = [
            {column: _when(ms, hourly), **_rollup_json(rollup, settings.quantities)}
            for ms, rollup in found.items()
        ]
        print_json({"device_id": device_id, "rollups": rows})
        return
    if not found:
        say(
            f"no rollups of {device_id} from {days[0]} to {days[-1]}; `iot rollup --day DAY` makes "
            "those of a day, the sensor rollups_of_touched_days does so by itself"
        )
        return
    print_table(
        (
            column,
            "count",
            *(
                f"{statistic.name} {item.unit or item.name}"
                for item in settings.quantities
                for statistic in statistics_of(item)
            ),
        ),
        [
            (_when(ms, hourly), f"{rollup.count:,}", *_cells(rollup, settings.quantities))
            for ms, rollup in found.items()
        ],
        title=device_id,
    )


def _when(ms: int, hourly: bool) -> str:
    return in_utc(moment_of(ms), "minutes") if hourly else str(moment_of(ms).date())


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else moment_of(ms)


def _rollup_json(rollup: Rollup, quantities: Sequence[Quantity]) -> dict[str, object]:
    return {
        "count": rollup.count,
        "first_at": _moment(rollup.first_ms),
        "last_at": _moment(rollup.last_ms),
        **{quantity.name: _stats_json(rollup, quantity) for quantity in quantities},
    }


def _stats_json(rollup: Rollup, quantity: Quantity) -> dict[str, object] | None:
    stats = rollup.stats.get(quantity.name)
    return None if stats is None else {"count": stats.count, **stats.numbers}


def _cells(rollup: Rollup, quantities: Sequence[Quantity]) -> Iterator[str]:
    for quantity in quantities:
        stats = rollup.stats.get(quantity.name)
        for statistic in statistics_of(quantity):
            if stats is None:
                yield ""
            elif quantity.is_number:
                yield f"{stats[statistic.name]:.{quantity.decimals}f}"
            else:
                yield quantity.shown(stats[statistic.name])
