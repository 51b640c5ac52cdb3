import dataclasses
import sys
from collections.abc import Mapping, Sequence
from datetime import date

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, print_table, say
from iot_pipeline.connections import open_connections
from iot_pipeline.core.ledger.chain import FATES, LOSSES, ChainLink, LedgerEntry, told_fates
from iot_pipeline.core.ledger.losses import say_losses
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ledger.chain import Chain, walk_chain

_LISTED = 40


@click.command("ledger")
@click.option("--partition", type=click.IntRange(min=0), help="Only this Kafka partition.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    help=f"How many entries to list: {_LISTED} without it, all with --json. Sums are of all.",
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
        ledger, topic = connections.ledger, settings.topic
        walk = walk_chain(ledger, topic, chosen)
        # A day of runs every five seconds is 17,280 entries a partition: too long a table to read,
        # and walking the chain takes a quarter of the time that reading all entries does.
        listed = last or (None if as_json else _LISTED)
        entries = ledger.read_entries(topic, chosen, limit=listed)
    shown = sorted(entries, key=_newest_first)[:listed]
    if as_json:
        print_json(_ledger_json(topic, walk, shown))
    else:
        _print_ledger(topic, walk, shown)
    if walk.flaws:
        sys.exit(EXIT_FOUND)


def _newest_first(entry: LedgerEntry) -> tuple[float, int, int, int]:
    updated = entry.updated_at.timestamp() if entry.updated_at else 0.0
    return -updated, entry.partition, -entry.epoch, -entry.start_offset


def _chains(walk: Chain[ChainLink]) -> list[tuple[int, int, list[ChainLink]]]:
    found: dict[tuple[int, int], list[ChainLink]] = {}
    for link in walk.entries:
        found.setdefault((link.partition, link.epoch), []).append(link)
    return [(*place, found[place]) for place in sorted(found)]


def _by_day(counted: Mapping[date, int]) -> dict[str, int]:
    return {str(day): count for day, count in sorted(counted.items())}


def _sums(links: Sequence[ChainLink]) -> dict[str, int]:
    lost = {why.value: sum(link.span for link in links if link.outcome is why) for why in LOSSES}
    sums = {fate: sum(getattr(link, fate) for link in links) for fate in FATES}
    return {"span": sum(link.span for link in links), **sums, **lost}


def _ledger_json(
    topic: str, walk: Chain[ChainLink], shown: Sequence[LedgerEntry]
) -> dict[str, object]:
    return {
        "topic": topic,
        "entries": [
            {
                "partition": entry.partition,
                "epoch": entry.epoch,
                "start_offset": entry.start_offset,
                "end_offset": entry.end_offset,
                "outcome": entry.outcome.value,
                "cause": entry.cause,
                "declaration": entry.declaration,
                "run_id": entry.run_id,
                **entry.counts.by_fate(),
                "stored_by_day": _by_day(entry.counts.stored_by_day),
                "cells_by_day": _by_day(entry.counts.cells_by_day),
                "updated_at": entry.updated_at,
            }
            for entry in shown
        ],
        "partitions": [
            {"partition": partition, "epoch": epoch, **_sums(links)}
            for partition, epoch, links in _chains(walk)
        ],
        "checkpoints": [
            dataclasses.asdict(walk.checkpoints[partition])
            for partition in sorted(walk.checkpoints)
        ],
        "total": _sums(walk.entries),
        "flaws": [str(flaw) for flaw in walk.flaws],
    }


def _print_ledger(topic: str, walk: Chain[ChainLink], shown: Sequence[LedgerEntry]) -> None:
    if not walk.entries and not walk.flaws:
        say(f"the ledger of {topic} is empty: nothing was ingested yet")
        return
    # Most topics have one epoch only; without its column both tables fit into 80 columns.
    has_epochs = len({link.epoch for link in walk.entries}) > 1
    epoch = ("epoch",) if has_epochs else ()
    sum_of_all = _sums(walk.entries)
    # What there is none of takes no column: the rest fits into 80.
    fates = told_fates(sum_of_all)
    print_table(
        ("updated", "partition", *epoch, "offsets", "outcome", *fates, "run"),
        [
            (
                entry.updated_at,
                entry.partition,
                *([entry.epoch] if has_epochs else []),
                f"{entry.start_offset}-{entry.end_offset}",
                entry.outcome.value,
                *_grouped(entry.counts.by_fate(), fates),
                entry.run_id,
            )
            for entry in shown
        ],
        title=f"ledger of {topic}: {len(shown):,} of {len(walk.entries):,} entries, newest first",
    )
    shown_sums = ["span", *fates, *(why.value for why in LOSSES if sum_of_all[why])]
    sums = [
        (partition, *([number] if has_epochs else []), *_grouped(_sums(links), shown_sums))
        for partition, number, links in _chains(walk)
    ]
    total = ("total", *([""] if has_epochs else []), *_grouped(sum_of_all, shown_sums))
    say("")
    print_table(("partition", *epoch, "offsets", *shown_sums[1:]), [*sums, total])
    if has_epochs:
        say(
            "an epoch begins with each rebase: what the log of the next one has in common with it "
            "(a mirror, a topic that is drained again) is counted in both"
        )
    for flaw in walk.flaws:
        say(f"FLAW: {flaw}")
    if not walk.flaws:
        say("the chain holds: no gap, no overlap, every offset below the checkpoints counted")
    lost = {why: sum_of_all[why] for why in LOSSES if sum_of_all[why]}
    if lost:
        say(f"records were left unread: {say_losses(lost)}; `iot losses` lists them")


def _grouped(numbers: Mapping[str, int], names: Sequence[str]) -> list[str]:
    return [f"{numbers[name]:,}" for name in names]
