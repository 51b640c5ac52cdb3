"""`iot drain`: move what lags, exactly some offsets, or what arrives."""

import sys
from dataclasses import replace

import click

from iot_pipeline.cli.follow import follow_until_asked
from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import offsets_option
from iot_pipeline.cli.replay import print_replay, replay_as_dict, run_replay
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import drain_config, open_connections
from iot_pipeline.core.latency import Latencies
from iot_pipeline.core.offsets import OffsetRange, parse_range
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest import DrainSum, drain
from iot_pipeline.stages.latency import LatencyProbe
from iot_pipeline.stages.loss import run_past_losses
from iot_pipeline.stages.planning import Plan, make_plan
from iot_pipeline.stages.replay import ReplayProgress

EXIT_INCOMPLETE = 1
EXIT_FENCED = 3


@click.command("drain")
@click.option("--max-records", type=click.IntRange(min=1), help="Stop after so many offsets.")
@offsets_option()
@click.option("--follow", "is_following", is_flag=True, help="Stay, and write what arrives.")
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), help="How long to follow; IOT_FOLLOW_SECONDS."
)
@click.option("--partitions", metavar="P,P,...", help="Only these Kafka partitions.")
@json_option
def drain_command(
    max_records: int | None,
    offsets: tuple[str, ...],
    is_following: bool,
    seconds: float | None,
    partitions: str | None,
    as_json: bool,
) -> None:
    """Move what lags from Kafka into Cassandra, and account for every offset.

    Ends at the last stable offset as of its start; with --follow it stays, writes records as they
    arrive, and ends within a second of Ctrl-C or SIGTERM, all committed. Up to twenty times a
    second a row just written is read back: the percentiles are the time since the broker's
    timestamp. Offsets below the checkpoint are replayed. Exit code 3: another run was faster and
    is ahead; nothing is wrong.
    """
    settings = Settings.from_env()
    asked = [parse_range(text) for text in offsets]
    chosen = _parse_partitions(partitions)
    if asked and (max_records is not None or chosen is not None):
        raise ConfigurationError("--offsets says it all: leave --max-records and --partitions out")
    if is_following and (asked or max_records is not None):
        raise ConfigurationError("--follow has no end: leave --offsets and --max-records out")
    if seconds is not None and not is_following:
        raise ConfigurationError("--seconds is for --follow: give both, or neither")
    run = new_cli_run()
    with open_connections(settings) as connections:
        drained = DrainSum()
        replayed = ReplayProgress([])
        lost: list[OffsetRange] = []
        is_planned = False
        probe, latency = LatencyProbe(connections.store, connections.rows), Latencies()

        def plan_and_drain() -> Plan:
            nonlocal is_planned
            plan = make_plan(
                connections.log,
                connections.ledger,
                settings.topic,
                start_at=settings.start_at,
                max_records=max_records,
                partitions=chosen,
                offsets=asked,
                done=[*lost, *drained.ranges, *replayed.achieved],
                accept_producer_timestamps=settings.accept_producer_timestamps,
            )
            is_planned = True
            progress = drained.begin([] if is_following else plan.ingest)
            replayed.planned = plan.replay
            if plan.replay:
                ranges = ", ".join(map(str, plan.replay))
                say(f"{ranges}: below the checkpoint, so this is a replay", err=True)
                run_replay(connections, plan, run, replayed)
            if is_following:
                follow_until_asked(
                    connections, plan, run, chosen, seconds, progress, probe, latency
                )
                return plan
            with ProgressLine("draining offsets") as line:
                drain(
                    plan,
                    replace(connections.ports, store=probe),
                    run,
                    drain_config(settings),
                    progress=progress,
                    on_progress=lambda so_far: line.show(
                        so_far.done_offsets, so_far.planned_offsets
                    ),
                )
            return plan

        try:
            run_past_losses(
                plan_and_drain,
                connections.log,
                connections.ledger,
                settings.topic,
                run,
                settings.on_expired,
                settings.retry_seconds,
                lost.extend,
            )
        finally:
            for item in lost:
                say(f"LOST: {item} expired unread; it is in the ledger, see `iot losses`", err=True)
            latency.merge(probe.take())
            if is_planned:
                _report(drained, replayed, run.run_id, latency, as_json)
    if drained.fenced:
        sys.exit(EXIT_FENCED)
    if replayed.rows_not_whole:
        sys.exit(EXIT_INCOMPLETE)


def _parse_partitions(text: str | None) -> set[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigurationError(f"--partitions {text}: expected numbers, such as 0,2,3")
    return {int(part) for part in parts}


def _report(
    drained: DrainSum, replayed: ReplayProgress, run_id: str, latency: Latencies, as_json: bool
) -> None:
    total, ranges, fenced = drained.total, drained.ranges, drained.fenced
    seconds, split_ms = drained.seconds, drained.split_ms
    if as_json:
        print_json(
            {
                "run_id": run_id,
                "ranges": [str(item) for item in ranges],
                "stored": total.stored,
                "superseded": total.superseded,
                "rejected": total.rejected,
                "aged_out": total.aged_out,
                "holes": total.holes,
                "seconds": round(seconds, 3),
                "fenced": [str(item) for item in fenced],
                "in_doubt": [str(item) for item in drained.in_doubt],
                "split_ms": split_ms,
                "unknown_fields": drained.unknown_fields,
                **latency.numbers(),
                "replay": replay_as_dict(replayed, run_id) if replayed.planned else None,
            }
        )
        return
    if replayed.planned:
        print_replay(replayed)
        if not drained.planned_offsets:
            return
    if not (drained.planned_offsets or drained.ranges or drained.in_doubt):
        say("nothing lags: every offset of the topic is accounted for")
        return
    rate = total.stored / seconds if seconds else 0
    say(
        f"{total.accounted:,} offsets = {total.stored:,} stored + {total.superseded:,} superseded "
        f"+ {total.rejected:,} rejected + {total.aged_out:,} aged out + {total.holes:,} holes, in "
        f"{seconds:.1f} s ({rate:,.0f} rows/s)"
    )
    if latency.samples:
        say(f"{latency} ({latency.samples:,} rows read back)")
    for item in ranges:
        say(f"  partition {item.partition}: {item.start} to {item.end}")
    for one in fenced:
        say(f"fenced: {one}; this run stopped, nothing is wrong")
    for item in drained.in_doubt:
        say(f"in doubt: {item}, cut off while it was committed; `iot ledger` says whether it was")
    if split_ms:
        say(f"note: {split_ms} broker milliseconds were split (docs/guarantees.md)")
