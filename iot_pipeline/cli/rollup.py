"""`iot rollup`: make the rollups of days."""

import sys
from datetime import UTC, datetime
from functools import partial

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import choose_days, day_option, since_option, until_option
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import Tables
from iot_pipeline.errors import RollupFrozenError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.rollups.rebuild import RollupProgress, rebuild_day


@click.command("rollup")
@day_option
@since_option
@until_option
@json_option
def rollup_command(day: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """Rebuild the hourly and daily rollups of days from their rows.

    Idempotent, and safe beside anything. Exit code 1: rows of a day age out, so its rollups were
    left as they are; the other days are done.
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
        sys.exit(EXIT_FOUND)


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
