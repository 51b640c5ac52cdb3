"""`iot rollup` makes the rollups of days; `iot rollups` shows those of a device."""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.rollup_store import CassandraRollupStore
from iot_pipeline.core.reading.decoding import find_device_id_problem
from iot_pipeline.core.rollups.statistics import QUANTITIES, Rollup, Stats
from iot_pipeline.core.times import in_utc, moment_of, parse_day
from iot_pipeline.errors import ConfigurationError, RollupFrozenError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.rollups.rebuild import RollupProgress, read_rollups, rebuild_day

EXIT_FROZEN = 1
_LONGEST_DAYS = 36_525

_day_option = click.option("--day", metavar="DAY", help="This UTC day, such as 2026-01-31.")
_since_option = click.option("--since", metavar="DAY", help="From this UTC day on.")
_until_option = click.option("--until", metavar="DAY", help="Before this UTC day.")


@click.command("rollup")
@_day_option
@_since_option
@_until_option
@json_option
def rollup_command(day: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """Make the hourly and daily rollups of days what the rows of these days say.

    Idempotent, and safe beside anything. Exit code 1: rows of a day age out, so its rollups were
    left as they are; the other days are done.
    """
    settings = Settings.from_env()
    days = _days(day, since, until, datetime.now(UTC).date())
    done: list[RollupProgress] = []
    frozen: list[str] = []
    run_id = new_cli_run().run_id
    with CassandraClient(settings) as client:
        store = CassandraRollupStore(client)
        for number, item in enumerate(days, start=1):
            of = "" if len(days) == 1 else f" (day {number} of {len(days)})"
            try:
                with ProgressLine(f"rollups of {item}{of}, devices") as line:
                    done.append(
                        rebuild_day(
                            store,
                            settings.topic,
                            item,
                            run_id,
                            retry_seconds=settings.retry_seconds,
                            retention_days=settings.retention_days,
                            on_progress=partial(_show, line),
                        )
                    )
            except RollupFrozenError as exc:
                frozen.append(str(item))
                say(f"iot: {exc}", err=True)
    if as_json:
        print_json({"days": [_progress_json(item) for item in done], "frozen": frozen})
    else:
        print_table(
            ("day", "readings", "devices", "hours", "seconds", "rows/s"),
            [
                (
                    item.day,
                    f"{item.readings:,}",
                    f"{item.devices:,}",
                    f"{item.hours:,}",
                    f"{item.seconds:.1f}",
                    f"{item.rows_per_second:,.0f}",
                )
                for item in done
            ],
        )
    if frozen:
        sys.exit(EXIT_FROZEN)


@click.command("rollups")
@click.argument("device_id", metavar="DEVICE")
@_day_option
@_since_option
@_until_option
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
    problem = find_device_id_problem(device_id)
    if problem is not None:
        raise ConfigurationError(problem)
    today = datetime.now(UTC).date()
    if day is None and since is None:
        last = today if until is None else parse_day(until).date() - timedelta(days=1)
        since = str(last - timedelta(days=30))
    days = _days(day, since, until, today)
    with CassandraClient(settings) as client:
        found = read_rollups(
            CassandraRollupStore(client),
            device_id,
            days[0],
            days[-1],
            hourly=hourly,
            retry_seconds=settings.retry_seconds,
        )
    column = "hour" if hourly else "day"
    if as_json:
        rows = [{column: _when(ms, hourly), **_rollup_json(rollup)} for ms, rollup in found.items()]
        print_json({"device_id": device_id, "rollups": rows})
        return
    if not found:
        say(
            f"no rollups of {device_id} from {days[0]} to {days[-1]}; `iot rollup --day DAY` makes "
            "those of a day, the sensor rollups_of_touched_days does so by itself"
        )
        return
    print_table(
        (column, "count", *_titles()),
        [
            (
                _when(ms, hourly),
                f"{rollup.count:,}",
                *_cells(rollup.temperature),
                *_cells(rollup.humidity),
            )
            for ms, rollup in found.items()
        ],
        title=device_id,
    )


def _days(day: str | None, since: str | None, until: str | None, today: date) -> list[date]:
    if (day is None) == (since is None and until is None):
        raise ConfigurationError("say which days: --day, or --since with or without --until")
    if day is not None:
        return [parse_day(day).date()]
    if since is None:
        raise ConfigurationError(f"--until {until}: expected --since with it")
    first = parse_day(since).date()
    last = today if until is None else parse_day(until).date() - timedelta(days=1)
    if not first <= last < first + timedelta(days=_LONGEST_DAYS):
        raise ConfigurationError(
            f"--since {since} --until {until or 'today'}: expected a day after the first one, and "
            "a century at most"
        )
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _show(line: ProgressLine, progress: RollupProgress) -> None:
    more = f"{progress.readings:,} rows, {progress.rows_per_second:,.0f}/s"
    line.show(progress.devices_done, progress.devices, more)


def _progress_json(item: RollupProgress) -> dict[str, object]:
    return {
        "day": str(item.day),
        "readings": item.readings,
        "devices": item.devices,
        "hours": item.hours,
        "seconds": round(item.seconds, 3),
        "rows_per_second": round(item.rows_per_second, 1),
    }


def _when(ms: int, hourly: bool) -> str:
    return in_utc(moment_of(ms), "minutes") if hourly else str(moment_of(ms).date())


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else moment_of(ms)


def _rollup_json(rollup: Rollup) -> dict[str, object]:
    return {
        "count": rollup.count,
        "first_at": _moment(rollup.first_ms),
        "last_at": _moment(rollup.last_ms),
        **{quantity: _stats_json(getattr(rollup, quantity)) for quantity in QUANTITIES},
    }


def _stats_json(stats: Stats | None) -> dict[str, float] | None:
    if stats is None:
        return None
    return {
        "count": stats.count,
        "min": stats.minimum,
        "mean": stats.mean,
        "max": stats.maximum,
        "first": stats.first,
        "last": stats.last,
        "stddev": stats.stddev,
    }


def _titles() -> Iterator[str]:
    for unit in ("°C", "%"):
        for name in ("min", "mean", "max", "stddev", "first", "last"):
            yield f"{name} {unit}"


def _cells(stats: Stats | None) -> list[str]:
    if stats is None:
        return [""] * 6
    values = (
        stats.minimum,
        stats.mean,
        stats.maximum,
        stats.stddev,
        stats.first,
        stats.last,
    )
    return [f"{value:.2f}" for value in values]
