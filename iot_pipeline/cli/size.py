"""`iot size`: cores, lanes and disk of a fleet that is not there yet."""

from dataclasses import asdict
from math import ceil

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.cli.simulate import parse_seconds
from iot_pipeline.core.ingest.fleet_costs import FULL, Cost, Fleet, cost_of
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted
from iot_pipeline.errors import ConfigurationError

# As many Kafka partitions as the demo has, and two for each lane: lanes can be doubled later.
_LEAST_PARTITIONS = 4
# A Cassandra partition (a device's day) beyond this is slow to compact and to read.
_LARGE_ROWS = 100_000


@click.command("size")
@click.option("--devices", type=click.IntRange(1, 10**10), required=True, help="How many.")
@click.option(
    "--interval",
    required=True,
    metavar="TIME",
    help="From one reading of a device to its next: seconds, or 500ms, 90s, 15m, 1d.",
)
@click.option(
    "--every",
    metavar="TIME",
    help="From one run to the next, when they do not follow: 5m. Follow unless given.",
)
@click.option(
    "--replication", type=click.IntRange(1, 9), default=3, show_default=True, help="Of Cassandra."
)
@click.option(
    "--keep-days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="Of rows."
)
@json_option
def size_command(
    devices: int,
    interval: str,
    every: str | None,
    replication: int,
    keep_days: int,
    as_json: bool,
) -> None:
    """Say what a fleet would cost: cores, lanes, Kafka partitions and disk.

    By a model of what a row was measured to cost on one machine (docs/scaling.md): good for tens
    of percent. Nothing is contacted, and no setting is read.
    """
    fleet = Fleet(
        devices,
        _seconds("--interval", interval),
        0.0 if every is None else _seconds("--every", every),
        replication,
        keep_days,
    )
    cost = cost_of(fleet)
    if as_json:
        print_json({**asdict(fleet), "rows_per_second": fleet.rows_per_second, **asdict(cost)})
        return
    print_table(("what", "cores busy", "how many"), _rows(fleet, cost), title=_title(fleet))
    _say_more(fleet, cost)


def _seconds(option: str, text: str) -> float:
    seconds = parse_seconds(option, text)
    if seconds <= 0:
        raise ConfigurationError(f"{option} {text!r}: expected more than 0 seconds")
    return seconds


def _title(fleet: Fleet) -> str:
    how = f"a run every {in_words(fleet.every_seconds)}" if fleet.every_seconds else "following"
    return (
        f"{counted(fleet.devices, 'device')}, one reading every "
        f"{in_words(fleet.interval_seconds)} each: {_number(fleet.rows_per_second)} readings/s, "
        f"{how}"
    )


def _rows(fleet: Fleet, cost: Cost) -> list[tuple[str, str, str]]:
    partitions = max(_LEAST_PARTITIONS, 2 * cost.lanes)
    nodes = fleet.replication
    each = ceil(cost.cassandra_cores / FULL / nodes)
    smaller = ", or more and smaller ones" if each > 1 else ""
    return [
        ("ingestion", _number(cost.client_cores), counted(cost.lanes, "lane") + " (IOT_LANES)"),
        ("Kafka", _number(cost.kafka_cores), f"{partitions:,} partitions (IOT_PARTITIONS)"),
        (
            "Cassandra",
            _number(cost.cassandra_cores),
            f"{counted(nodes, 'node')} of {counted(each, 'core')}{smaller}",
        ),
        (
            "disk",
            "",
            f"{_size(cost.disk_bytes)}, on all replicas; {_size(cost.bytes_kept)} of rows",
        ),
    ]


def _say_more(fleet: Fleet, cost: Cost) -> None:
    if cost.first_full:
        say(
            f"The first to be full is {cost.first_full}; cores are meant to be at most {FULL:.0%} "
            "busy."
        )
    else:
        say("Nothing here comes near a full core.")
    say(f"With these an hour's outage is made up for in {in_words(cost.catch_up_seconds)}.")
    if fleet.rows_a_day_each > _LARGE_ROWS:
        say(
            f"A device has {_number(fleet.rows_a_day_each)} rows a day, all in one Cassandra "
            f"partition; beyond {_LARGE_ROWS:,} they are slow to compact and to read."
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _size(size: float) -> str:
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB")):
        if size >= unit:
            return f"{_number(size / unit)} {name}"
    return f"{_number(size / 1e6)} MB"
