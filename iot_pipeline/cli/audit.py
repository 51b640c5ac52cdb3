"""`iot audit` and `iot delete`: prove what is there, and take away what should not be."""

import getpass
import sys
import uuid
from datetime import UTC, datetime, timedelta

import click

from iot_pipeline.cli.output import ask_whether, json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import offsets_option
from iot_pipeline.connections import Connections, audit_config, open_connections, reading_rules
from iot_pipeline.core.proof.audit import AuditResult, Fate
from iot_pipeline.core.proof.audit_words import conclude
from iot_pipeline.core.proof.dead_letters import preview
from iot_pipeline.core.reading.decoding import find_device_id_problem, timestamp_ms
from iot_pipeline.core.reading.offsets import OffsetRange, parse_range
from iot_pipeline.core.times import (
    Window,
    choose_window,
    in_utc,
    moment_of,
    parse_day,
    parse_moment,
)
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.audit import audit, choose_ranges
from iot_pipeline.stages.proof.deletions import delete_readings
from iot_pipeline.stages.proof.trace import Trace, read_message, trace

EXIT_DEFECTS = 1
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


@click.command("audit")
@offsets_option()
@click.option("--day", metavar="DAY", help="Records that arrived in Kafka on this UTC day.")
@click.option("--since", metavar="TIME", help="Records that arrived in Kafka from this time on.")
@click.option("--until", metavar="TIME", help="Records that arrived before this time.")
@click.option("--all", "everything", is_flag=True, help="All of the ledger; the default.")
@json_option
def audit_command(
    offsets: tuple[str, ...],
    day: str | None,
    since: str | None,
    until: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Read topic and table again and say what became of every offset.

    What Kafka has deleted cannot be proven: it is counted as expired or unverifiable. Exit code 1:
    something is lost, torn or stray; the command that repairs it is named.
    """
    if sum((bool(offsets), day is not None, bool(since or until), everything)) > 1:
        raise ConfigurationError("say one of --offsets, --day, --since/--until, --all")
    settings = Settings.from_env()
    asked = [parse_range(text) for text in offsets]
    window = _window(day, since, until)
    with open_connections(settings) as connections:
        if not asked:
            asked = choose_ranges(
                connections.log,
                connections.ledger,
                settings.topic,
                window.since if window and window.since > EARLIEST else None,
                window.until if window and window.until < LATEST else None,
            )
        is_all = not offsets and window is None
        with ProgressLine("auditing offsets") as line:
            result = run_audit(connections, asked, every_place=is_all, line=line)
    if as_json:
        print_json(audit_as_dict(result))
    else:
        _print_audit(result)
    if not result.is_clean:
        sys.exit(EXIT_DEFECTS)


def run_audit(
    connections: Connections,
    ranges: list[OffsetRange],
    *,
    every_place: bool,
    line: ProgressLine,
) -> AuditResult:
    """Audit by the settings."""
    settings = connections.settings
    return audit(
        settings.topic,
        ranges,
        connections.audit_ports,
        audit_config(settings),
        f"audit-{uuid.uuid4()}",
        every_place=every_place,
        on_progress=lambda so_far: line.show(
            so_far.done, so_far.total, f"{so_far.step}, {so_far.rate:,.0f}/s"
        ),
    )


def audit_as_dict(result: AuditResult) -> dict[str, object]:
    """An audit for `--json`: one key per fate, and what is behind them."""
    return {
        **{fate.value: result.fates[fate] for fate in Fate},
        "offsets": result.offsets,
        "proven": result.proven,
        "ranges": [str(item) for item in result.ranges],
        "is_stray_judged": result.is_stray_judged,
        "findings": [
            {
                "fate": finding.fate.value,
                "device_id": finding.device_id,
                "timestamp_ms": finding.timestamp_ms,
                "partition": finding.partition,
                "offset": finding.offset,
                "detail": finding.detail,
                "repair": finding.repair,
            }
            for finding in result.findings
        ],
        "seconds": round(result.seconds, 3),
        "offsets_per_second": round(result.offsets / result.seconds) if result.seconds else None,
    }


def _print_audit(result: AuditResult) -> None:
    rate = result.offsets / result.seconds if result.seconds else 0
    print_table(
        ("fate", "offsets"),
        [(fate.value, f"{result.fates[fate]:,}") for fate in Fate],
        title=f"{result.offsets:,} offsets in {result.seconds:.1f} s ({rate:,.0f}/s)",
    )
    for finding in result.findings:
        say(f"{finding}\n  -> `{finding.repair}`")
    for sentence in conclude(result):
        say(sentence)


def _window(day: str | None, since: str | None, until: str | None) -> Window | None:
    if day is not None:
        begin = parse_day(day)
        return Window(begin, begin + timedelta(days=1))
    return choose_window(None, since, until, datetime.now(UTC))


@click.command("delete")
@click.argument("device_id", metavar="DEVICE")
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
    """Delete stored readings of a device for good, so that audits and replays know.

    Records of that time that arrive in Kafka later are stored as ever.
    """
    problem = find_device_id_problem(device_id)
    if problem is not None:
        raise ConfigurationError(problem)
    window = _window(day, since, until)
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
            connections.audit_store,
            device_id,
            bounded,
            reason,
            getpass.getuser(),
            connections.settings.retry_seconds,
        )
    deleted = sum(rows_by_day.values())
    if as_json:
        by_day = {str(day): rows for day, rows in rows_by_day.items()}
        print_json({"device_id": device_id, "deleted": deleted, "by_day": by_day})
        return
    say(f"deleted {deleted:,} readings of {device_id} on {len(rows_by_day):,} days")


@click.command("trace")
@click.argument("device_id", metavar="DEVICE")
@click.argument("timestamp", metavar="TIMESTAMP")
@json_option
def trace_command(device_id: str, timestamp: str, as_json: bool) -> None:
    """Show the record behind a row, and its message: TIMESTAMP as `iot readings` shows it.

    Or in seconds since 1970. Exit code 1: there is no such row, or no record explains it.
    """
    settings = Settings.from_env()
    ms = _timestamp_ms(timestamp)
    with open_connections(settings) as connections:
        found = trace(
            connections.log,
            connections.audit_records,
            connections.rows,
            settings.topic,
            reading_rules(settings),
            device_id,
            ms,
            settings.retry_seconds,
        )
        made = found.made_by
        message = (
            None
            if made is None
            else read_message(connections.audit_records, settings.topic, made[1], made[2])
        )
    if as_json:
        print_json(
            {
                "row": found.row,
                "is_whole": found.is_whole,
                "partition": made[1] if made else None,
                "offset": made[2] if made else None,
                "written_us": made[0] if made else None,
                "message": None if message is None else preview(message, len(message)),
                "candidates": [f"{record[1]}:{record[2]}" for record in found.records],
            }
        )
    else:
        _print_trace(found, message, device_id, ms)
    if made is None:
        sys.exit(EXIT_DEFECTS)


def _print_trace(found: Trace, message: bytes | None, device_id: str, ms: int) -> None:
    measured_at, made = in_utc(moment_of(ms), "milliseconds"), found.made_by
    if found.row is None:
        say(f"{device_id} has no row at {measured_at}")
    elif made is None:
        say(
            f"no record explains the row {found.row} of {device_id} at {measured_at}: it came from "
            "elsewhere, it is torn, or Kafka has deleted its record"
        )
    else:
        arrived_at = in_utc(moment_of(made[0] // 1000), "milliseconds")
        print_table(
            ("what", "value"),
            [
                ("device", device_id),
                ("measured at", measured_at),
                ("temperature, °C", found.row[0]),
                ("humidity, %", found.row[1]),
                ("arrived in Kafka at", arrived_at),
                ("partition:offset", f"{made[1]}:{made[2]}"),
                ("write time, µs", made[0]),
                ("message", None if message is None else preview(message, len(message))),
            ],
        )


def _timestamp_ms(text: str) -> int:
    try:
        return timestamp_ms(float(text))
    except (ValueError, OverflowError):
        return timestamp_ms(parse_moment(text).timestamp())
