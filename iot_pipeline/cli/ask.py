"""Questions about the pipeline: how far behind are we, what did runs do."""

import dataclasses
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import json_option, print_json, print_table
from iot_pipeline.connections import open_connections
from iot_pipeline.core.lag import total_lag
from iot_pipeline.core.ledger import Counts, LedgerEntry, Outcome, sum_counts
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.lag import read_lag
from iot_pipeline.stages.ledger import Chain, read_chain

_LISTED = 40
EXIT_FLAWED = 1
_FATES = ("stored", "superseded", "rejected", "aged_out", "holes")


@click.command("lag")
@json_option
def lag_command(as_json: bool) -> None:
    """Show how far ingestion is behind Kafka, in offsets and in seconds.

    Seconds are the age of the record at the checkpoint, by Kafka's clock; 0 when none waits.
    """
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        lags = read_lag(connections.log, connections.ledger, settings.topic, datetime.now(UTC))
    total = total_lag(lags)
    if as_json:
        print_json(
            {
                "topic": settings.topic,
                "partitions": [
                    {
                        "partition": lag.partition,
                        "checkpoint": lag.checkpoint,
                        "low_watermark": lag.low,
                        "last_stable_offset": lag.last_stable,
                        "lag": lag.lag_offsets,
                        "lag_seconds": round(lag.lag_seconds, 3),
                    }
                    for lag in lags
                ],
                "lag": total.lag_offsets,
                "lag_seconds": round(total.lag_seconds, 3),
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (
            lag.partition,
            "never ingested" if lag.checkpoint is None else lag.checkpoint,
            lag.last_stable,
            lag.lag_offsets,
            f"{lag.lag_seconds:.1f}",
        )
        for lag in lags
    ]
    rows.append(("total", "", "", total.lag_offsets, f"{total.lag_seconds:.1f}"))
    columns = ("partition", "checkpoint", "last stable offset", "lag (offsets)", "lag (seconds)")
    print_table(columns, rows, title=settings.topic)


@click.command("ledger")
@click.option("--partition", type=click.IntRange(min=0), help="Only this Kafka partition.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    help=f"List so many entries; without: {_LISTED}, and all with --json. Sums stay whole.",
)
@json_option
def ledger_command(partition: int | None, last: int | None, as_json: bool) -> None:
    """Show what runs did to the topic: ranges, counts, sums, and whether the chain holds.

    Exit code 1: the chain has a flaw, such as a gap, an overlap or a sum that does not add up.
    """
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        known = connections.ledger.partitions(settings.topic)
        if partition is not None and partition not in known:
            raise ConfigurationError(
                f"--partition {partition}: the ledger of {settings.topic} has "
                f"{', '.join(map(str, known)) or 'none yet'}"
            )
        chosen = known if partition is None else [partition]
        chain = read_chain(connections.ledger, settings.topic, chosen)
    # A day of runs every five seconds is 17,280 entries a partition: nobody reads such a table.
    shown = sorted(chain.entries, key=_newest_first)[: last or (None if as_json else _LISTED)]
    if as_json:
        print_json(_ledger_json(settings.topic, chain, shown))
    else:
        _print_ledger(settings.topic, chain, shown)
    if chain.flaws:
        sys.exit(EXIT_FLAWED)


def _newest_first(entry: LedgerEntry) -> tuple[float, int, int, int]:
    updated = entry.updated_at.timestamp() if entry.updated_at else 0.0
    return -updated, entry.partition, -entry.epoch, -entry.start_offset


def _chains(chain: Chain) -> list[tuple[int, int, list[LedgerEntry]]]:
    found: dict[tuple[int, int], list[LedgerEntry]] = {}
    for entry in chain.entries:
        found.setdefault((entry.partition, entry.epoch), []).append(entry)
    return [(*place, found[place]) for place in sorted(found)]


def _sums(entries: Sequence[LedgerEntry]) -> dict[str, int]:
    counts = sum_counts(entry.counts for entry in entries)
    expired = sum(entry.span for entry in entries if entry.outcome is Outcome.EXPIRED)
    span = sum(entry.span for entry in entries)
    return {"span": span, **_fates(counts), "expired": expired}


def _fates(counts: Counts) -> dict[str, int]:
    return {fate: getattr(counts, fate) for fate in _FATES}


def _ledger_json(topic: str, chain: Chain, shown: Sequence[LedgerEntry]) -> dict[str, object]:
    return {
        "topic": topic,
        "entries": [
            {
                "partition": entry.partition,
                "epoch": entry.epoch,
                "start_offset": entry.start_offset,
                "end_offset": entry.end_offset,
                "outcome": entry.outcome.value,
                "run_id": entry.run_id,
                **_fates(entry.counts),
                "stored_by_day": {
                    str(day): rows for day, rows in sorted(entry.counts.stored_by_day.items())
                },
                "updated_at": entry.updated_at.isoformat() if entry.updated_at else None,
            }
            for entry in shown
        ],
        "partitions": [
            {"partition": partition, "epoch": epoch, **_sums(entries)}
            for partition, epoch, entries in _chains(chain)
        ],
        "checkpoints": [
            dataclasses.asdict(chain.checkpoints[partition])
            for partition in sorted(chain.checkpoints)
        ],
        "total": _sums(chain.entries),
        "flaws": [str(flaw) for flaw in chain.flaws],
    }


def _print_ledger(topic: str, chain: Chain, shown: Sequence[LedgerEntry]) -> None:
    print_table(
        ("updated", "partition", "epoch", "offsets", "outcome", *_FATES, "run"),
        [
            (
                entry.updated_at.isoformat(timespec="seconds") if entry.updated_at else "",
                entry.partition,
                entry.epoch,
                f"{entry.start_offset}-{entry.end_offset}",
                entry.outcome.value,
                *_fates(entry.counts).values(),
                entry.run_id,
            )
            for entry in shown
        ],
        title=f"ledger of {topic}: {len(shown)} of {len(chain.entries)} entries, newest first",
    )
    sums = [
        (partition, epoch, *_sums(entries).values()) for partition, epoch, entries in _chains(chain)
    ]
    total = ("total", "", *_sums(chain.entries).values())
    print_table(("partition", "epoch", "offsets", *_FATES, "expired"), [*sums, total])
    for flaw in chain.flaws:
        click.echo(f"FLAW: {flaw}")
    if not chain.flaws:
        click.echo(
            "the chain holds: no gap, no overlap, every offset below the checkpoints counted"
        )
