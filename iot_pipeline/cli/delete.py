import click

from iot_pipeline.cli.output import ask_whether, json_option, print_json, say
from iot_pipeline.cli.ranges import EARLIEST, LATEST, day_or_window, device_argument
from iot_pipeline.cli.runs import who
from iot_pipeline.connections import open_connections
from iot_pipeline.core.times import Window, in_utc
from iot_pipeline.core.words import counted
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.deletions import delete_readings


@click.command("delete")
@device_argument
@click.option("--day", metavar="DAY", help="Readings of this UTC day, by the device's clock.")
@click.option("--since", metavar="TIME", help="Readings from this time on, by the device's clock.")
@click.option("--until", metavar="TIME", help="Readings before this time.")
@click.option("--reason", required=True, help="Why; kept with the deletion.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete_command(
    device_id: str,
    day: str | None,
    since: str | None,
    until: str | None,
    reason: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete stored readings of a device; audits and replays know, and bring none back.

    Records of that time that arrive in Kafka later are stored as usual.
    """
    window = day_or_window(day, since, until)
    if window is None or (day is not None and (since or until)):
        raise ConfigurationError("say what to delete: --day, or --since/--until")
    if not reason.strip():
        raise ConfigurationError("--reason: expected a few words; they outlive the readings")
    bounded = Window(max(window.since, EARLIEST), min(window.until, LATEST))
    if not yes:
        first, end = (in_utc(at, "milliseconds") for at in (bounded.since, bounded.until))
        ask_whether(f"Delete readings of {device_id} from {first} to before {end}?")
    with open_connections(Settings.from_env()) as connections:
        rows_by_day = delete_readings(
            connections.rows,
            connections.days,
            connections.deletions,
            device_id,
            bounded,
            reason,
            who(),
            connections.settings.retry_seconds,
        )
    deleted = sum(rows_by_day.values())
    if as_json:
        by_day = {str(day): rows for day, rows in rows_by_day.items()}
        print_json({"device_id": device_id, "deleted": deleted, "by_day": by_day})
        return
    days = counted(len(rows_by_day), "day")
    say(f"deleted {counted(deleted, 'reading')} of {device_id} on {days}")
