"""`iot trace` shows the record behind a row, `iot mend` writes a row that mixes two readings."""

import sys
import uuid
from collections.abc import Sequence

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, print_table, say
from iot_pipeline.cli.ranges import timestamp_ms_of
from iot_pipeline.cli.runs import who
from iot_pipeline.connections import open_connections
from iot_pipeline.core.proof.dead_letters import preview
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.write_times import arrived_ms, record_of
from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.mend import mend
from iot_pipeline.stages.proof.trace import Trace, read_message, trace


@click.command("trace")
@click.argument("device_id", metavar="DEVICE")
@click.argument("timestamp", metavar="TIMESTAMP")
@json_option
def trace_command(device_id: str, timestamp: str, as_json: bool) -> None:
    """Show the record that made a row, and its message.

    TIMESTAMP is as `iot readings` shows it, or in seconds since 1970. Exit code 1: there is no such
    row, or no record explains it.
    """
    ms = timestamp_ms_of(timestamp)
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        found = trace(connections.audit_ports, device_id, ms)
        made = found.made_by
        message = read_message(connections.audit_ports, *record_of(made)) if made else None
    place = f"{made[2]}:{made[1]}" if made else ""
    if as_json:
        print_json(
            {
                "row": found.row,
                "is_whole": found.is_whole,
                "partition": made[2] if made else None,
                "offset": made[1] if made else None,
                "written_us": made[0] if made else None,
                "message": None if message is None else preview(message, len(message)),
                "candidates": [f"{row[2]}:{row[1]}" for row in found.records],
            }
            | ({"declaration": found.declarations[place]} if place in found.declarations else {})
            | _parts_as_dict(found)
        )
    else:
        _print_trace(found, message, device_id, ms)
    if made is None:
        sys.exit(EXIT_FOUND)


def _print_trace(found: Trace, message: bytes | None, device_id: str, ms: int) -> None:
    quantities = found.quantities
    measured_at, made = in_utc(moment_of(ms), "milliseconds"), found.made_by
    if found.row is None:
        say(f"{device_id} has no row at {measured_at}")
    elif made is None:
        say(
            f"no record explains the row {found.row} of {device_id} at {measured_at}: it came from "
            "elsewhere, it is torn (`iot mend`), or Kafka has deleted its record"
        )
    else:
        arrived_at = in_utc(moment_of(arrived_ms(made[0])), "milliseconds")
        place = f"{made[2]}:{made[1]}"
        read_by = found.declarations.get(place, "")
        print_table(
            ("what", "value"),
            [
                ("device", device_id),
                ("measured at", measured_at),
                *(
                    (quantity.title, value)
                    for quantity, value in zip(quantities, found.row, strict=False)
                ),
                ("arrived in Kafka at", arrived_at),
                ("partition:offset", place),
                *([("read by declaration", read_by)] if read_by else []),
                ("write time, µs", made[0]),
                ("message", None if message is None else preview(message, len(message))),
                # Above: the record that wins over the others.
                *(
                    (f"told by {record[2]}:{record[1]}", _names(cells, quantities))
                    for record, cells in found.makers
                    if len(found.makers) > 1
                ),
            ],
        )


def _names(cells: Sequence[int], quantities: Sequence[Quantity]) -> str:
    return ", ".join(quantities[number].name for number in cells)


def _parts_as_dict(found: Trace) -> dict[str, object]:
    """Which records told which quantities, where a reading may be told in parts."""
    if not found.in_parts:
        return {}
    parts = [
        {"partition": row[2], "offset": row[1], "told": [found.quantities[at].name for at in cells]}
        for row, cells in found.makers
    ]
    return {"parts": parts}


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
            who(),
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
