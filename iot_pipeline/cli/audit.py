import dataclasses
import sys
import uuid

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import EARLIEST, LATEST, day_or_window, offsets_option
from iot_pipeline.connections import open_connections
from iot_pipeline.core.proof.audit_result import AuditResult, Fate, conclude
from iot_pipeline.core.reading.offsets import join_ranges, parse_range
from iot_pipeline.core.times import parse_day
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_day, choose_ranges


@click.command("audit")
@offsets_option
@click.option(
    "--day",
    metavar="DAY",
    help="What arrived in Kafka on this UTC day, and the ledger's ranges with readings of it.",
)
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

    What Kafka does not have cannot be proven: it is counted as expired, skipped, unreadable,
    unverifiable or a hole. Exit code 1: something is lost, torn or stray; the command that repairs
    it is named.
    """
    if sum((bool(offsets), day is not None, bool(since or until), everything)) > 1:
        raise ConfigurationError("say one of --offsets, --day, --since/--until, --all")
    asked = [parse_range(text) for text in offsets]
    of_day = None if day is None else parse_day(day).date()
    window = day_or_window(None, since, until)
    with open_connections(Settings.from_env()) as connections:
        if of_day is not None:
            asked = choose_day(connections.audit_ports, of_day)
        elif not asked:
            asked = choose_ranges(
                connections.audit_ports,
                window.since if window and window.since > EARLIEST else None,
                window.until if window and window.until < LATEST else None,
            )
        with ProgressLine("auditing offsets") as line:
            result = audit(
                asked,
                connections.audit_ports,
                f"audit-{uuid.uuid4()}",
                every_place=not offsets and window is None and of_day is None,
                day=of_day,
                on_progress=lambda so_far: line.show(
                    so_far.done, so_far.total, f"{so_far.step}, {so_far.rate:,.0f}/s"
                ),
            )
    if as_json:
        print_json(as_document(result))
    else:
        _print_audit(result)
    if not result.is_clean:
        sys.exit(EXIT_FOUND)


def as_document(result: AuditResult) -> dict[str, object]:
    """An audit for `--json`: one key per fate, and what is behind them."""
    return {
        **{fate.value: result.fates[fate] for fate in Fate},
        "offsets": result.offsets,
        "proven": result.proven,
        "ranges": [str(item) for item in result.ranges],
        "is_stray_judged": result.is_stray_judged,
        "is_listed": result.is_listed,
        "lost_ranges": [str(item) for item in result.lost.ranges],
        "uncompared": [str(item) for item in join_ranges(result.uncompared)],
        "rows_unverifiable": result.rows_unverifiable,
        "doubts": result.doubts,
        "notes": result.notes,
        "findings": [
            {**dataclasses.asdict(finding), "repair": command}
            for finding, command in result.repairs
        ],
        "days": [dataclasses.asdict(day) for _, day in sorted(result.days.items())],
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
    for finding, command in result.repairs:
        say(f"{finding}\n  -> `{command}`" if command else str(finding))
    for sentence in conclude(result):
        say(sentence)
