"""`iot mend`: a row that mixes two readings becomes one of them."""

import getpass
import uuid

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.ranges import timestamp_ms_of
from iot_pipeline.connections import open_connections
from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ports import Run
from iot_pipeline.stages.proof.mend import mend


@click.command("mend")
@click.argument("device_id", metavar="DEVICE")
@click.argument("timestamp", metavar="TIMESTAMP")
@json_option
def mend_command(device_id: str, timestamp: str, as_json: bool) -> None:
    """Write a torn row again, whole: as the record that wins its key says.

    TIMESTAMP is as `iot readings` shows it, or in seconds since 1970. Audits name torn rows. A row
    that is whole is left as it is. Exit code 1: there is no such row, it was deleted, or no record
    in Kafka says what it should be.
    """
    settings = Settings.from_env()
    ms = timestamp_ms_of(timestamp)
    with open_connections(settings) as connections:
        done = mend(
            connections.audit_ports,
            connections.store,
            Run(f"mend-{uuid.uuid4()}", uuid.uuid4()),
            device_id,
            ms,
            getpass.getuser(),
        )
    written_us, offset, partition, *values = done.winner
    if as_json:
        print_json(
            {
                "device_id": device_id,
                "timestamp": moment_of(ms),
                "is_mended": done.is_mended,
                "before": done.before,
                "after": done.after,
                "partition": partition,
                "offset": offset,
                "written_us": written_us,
            }
        )
        return
    row = f"the row of {device_id} at {in_utc(moment_of(ms), 'milliseconds')}"
    if done.is_mended:
        said = ", ".join(map(str, values))
        say(f"mended {row}: {said}, as record {partition}:{offset} says")
    else:
        say(f"{row} is whole, as record {partition}:{offset} says: nothing was changed")
