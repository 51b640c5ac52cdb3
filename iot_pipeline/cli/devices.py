"""`iot devices`: which devices there are, and which have fallen silent."""

from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.row_counts import CassandraRowCounts
from iot_pipeline.clients.row_reader import CassandraRowReader
from iot_pipeline.connections import quality_limits
from iot_pipeline.core.devices import DeviceState, silent_first
from iot_pipeline.core.durations import in_words
from iot_pipeline.settings import Settings
from iot_pipeline.stages.devices import read_devices


@click.command("devices")
@click.option("--silent", is_flag=True, help="Only those that should have reported and did not.")
@click.option(
    "--days",
    type=click.IntRange(1, 366),
    default=7,
    show_default=True,
    help="Look back so many UTC days, today included.",
)
@json_option
def devices_command(silent: bool, days: int, as_json: bool) -> None:
    """List devices with their newest reading, cadence and count of today; silent ones first.

    A device is silent when five readings of its own cadence are missing, and a minute at least
    (IOT_SILENT_INTERVALS, IOT_SILENT_SECONDS), counted from when its last one arrived. Backfilled
    readings are not its own. What waits in Kafka is not seen here: `iot lag`.
    """
    now, settings = datetime.now(UTC), Settings.from_env()
    with CassandraClient(settings) as client, ProgressLine("looking at devices") as line:
        devices = read_devices(
            CassandraRowCounts(client),
            CassandraRowReader(client),
            now,
            quality_limits(settings),
            look_back_days=days,
            is_counted=not silent,
            on_progress=lambda progress: line.show(progress.done, progress.total),
        )
    silent_ones = [device for device in devices if device.is_silent]
    shown = silent_first(silent_ones if silent else devices)
    if as_json:
        print_json(
            {
                "devices": [_as_dict(device) for device in shown],
                "silent": len(silent_ones),
                "known": len(devices),
                "days": days,
            }
        )
        return
    if shown:
        _print_devices(shown, now, is_counted=not silent)
    span = "today" if days == 1 else f"in the last {days} days"
    say(f"{len(devices)} devices with readings {span}, {len(silent_ones)} of them silent")
    if devices and len(silent_ones) == len(devices):
        say("all are silent: is ingestion running? `iot lag` says how far behind it is")


def _as_dict(device: DeviceState) -> dict[str, object]:
    newest, since = device.newest, device.silent_since
    cadence = device.cadence_seconds
    return {
        "device_id": device.device_id,
        "newest": {
            "timestamp": device.newest_at,
            "temperature": newest.temperature,
            "humidity": newest.humidity,
        },
        "count_today": device.count_today,
        "cadence_seconds": None if cadence is None else round(cadence, 3),
        "silent_since": since,
    }


def _print_devices(devices: list[DeviceState], now: datetime, *, is_counted: bool) -> None:
    columns = ["device", "newest reading", "°C", "%", "reports every"]
    if is_counted:
        columns.append("today")
    print_table(
        [*columns, "silent for"],
        [
            (
                device.device_id,
                device.newest_at,
                device.newest.temperature,
                device.newest.humidity,
                "?" if device.cadence_seconds is None else in_words(device.cadence_seconds),
                *([f"{device.count_today:,}"] if device.count_today is not None else []),
                ""
                if device.silent_since is None
                else in_words((now - device.silent_since).total_seconds()),
            )
            for device in devices
        ],
    )
