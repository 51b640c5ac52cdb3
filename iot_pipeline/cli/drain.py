import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

import click

from iot_pipeline.cli import logs
from iot_pipeline.cli.drain_plan import show_plan
from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import offsets_option
from iot_pipeline.cli.replay import replay_as_dict
from iot_pipeline.cli.runs import Stop, new_cli_run
from iot_pipeline.cli.throttle import bytes_option, rows_option
from iot_pipeline.connections import asked_limit, ingest_request, open_connections
from iot_pipeline.core.ingest.latency import Latencies
from iot_pipeline.core.reading.offsets import OffsetRange, parse_range
from iot_pipeline.core.words import counted
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.metrics import run_metrics
from iot_pipeline.settings import Settings
from iot_pipeline.stages.alerts.live import RunMetrics
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.run_ingest import IngestOutcome, Watcher, new_outcome, run_ingest

EXIT_FENCED = 3


@click.command("drain")
@click.option("--max-records", type=click.IntRange(min=1), help="Drain this many offsets at most.")
@offsets_option
@click.option("--follow", "is_following", is_flag=True, help="Stay, and write what arrives.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    help="How long to follow; without it IOT_FOLLOW_SECONDS.",
)
@click.option("--partitions", metavar="P,P,...", help="Only these Kafka partitions.")
@rows_option
@bytes_option
@click.option("--plan", "is_plan", is_flag=True, help="Only say what it would do; write nothing.")
@json_option
def drain_command(
    max_records: int | None,
    offsets: tuple[str, ...],
    is_following: bool,
    seconds: float | None,
    partitions: str | None,
    max_rows_per_second: int | None,
    max_bytes_per_second: int | None,
    is_plan: bool,
    as_json: bool,
) -> None:
    """Move what lags from Kafka into Cassandra, and account for every offset.

    It ends at the last stable offset as of its start. With --follow it stays, writes records as
    they arrive, and ends within a second of Ctrl-C or SIGTERM with everything committed. Up to
    twenty rows a second are read back: the percentiles are the time from the broker's timestamp to
    a row that can be read. --offsets below the checkpoint are replayed. --plan says what would be
    drained, what the first thousand records of each Kafka partition would become, and what the
    tables lack. Exit code 3: another run is ahead; nothing is wrong.
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
    limit = asked_limit(max_rows_per_second, max_bytes_per_second)
    if is_plan:
        if is_following or asked:
            raise ConfigurationError("--plan: leave --follow and --offsets out with it")
        show_plan(
            settings, max_records=max_records, partitions=chosen, limit=limit, as_json=as_json
        )
        return
    run, stop = new_cli_run(), Stop()
    logs.about(run_id=run.run_id, topic=settings.topic)
    follow = None
    line = ProgressLine("following, rows stored" if is_following else "draining offsets")
    watcher = FollowLine(line) if is_following else DrainLine(line)
    if is_following:
        follow = Follow(seconds or settings.follow_seconds, should_stop=stop.is_asked)
    with open_connections(settings) as connections:
        outcome, is_done = new_outcome(connections), False
        request = ingest_request(
            settings,
            run,
            offsets=asked,
            partitions=chosen,
            max_records=max_records,
            follow=follow,
            limit=limit,
        )
        try:
            with ExitStack() as stack:
                stack.enter_context(line)
                if isinstance(watcher, FollowLine):
                    stack.enter_context(stop)
                    watcher.metrics = stack.enter_context(run_metrics(settings, outcome))
                run_ingest(request, connections, outcome=outcome, watcher=watcher)
            is_done = True
        finally:
            watcher.latency.merge(outcome.probe.take())
            _report(outcome, run.run_id, watcher.latency, chosen, is_done=is_done, as_json=as_json)
    if outcome.drained.fenced:
        sys.exit(EXIT_FENCED)
    if outcome.replayed.rows_not_whole:
        sys.exit(EXIT_FOUND)


def _parse_partitions(text: str | None) -> set[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigurationError(f"--partitions {text}: expected numbers, such as 0,2,3")
    return {int(part) for part in parts}


def _report(
    outcome: IngestOutcome,
    run_id: str,
    latency: Latencies,
    partitions: set[int] | None,
    *,
    is_done: bool,
    as_json: bool,
) -> None:
    """Say what became of it; nothing when no plan was made, for then nothing is known."""
    if outcome.plan is None and not outcome.lost:
        return
    if as_json:
        print_json(_as_dict(outcome, run_id, latency))
        return
    drained, replayed = outcome.drained, outcome.replayed
    if replayed.planned:
        for sentence in replayed.sentences():
            say(sentence)
        if not drained.planned_offsets:
            return
    if drained.planned_offsets or drained.ranges or drained.in_doubt:
        _print_drained(drained, latency)
    elif outcome.plan is not None and is_done and not outcome.stopped:
        say(_nothing_lags(outcome.plan, partitions))


def _nothing_lags(plan: Plan, partitions: set[int] | None) -> str:
    """For a plan without ranges: each checkpoint was at the end of its partition."""
    if partitions is None:
        return f"nothing lags: ingestion has reached the end of {plan.topic.name}"
    chosen = ", ".join(map(str, sorted(partitions)))
    return f"nothing lags in {plan.topic.name}, partitions {chosen}: ingestion is at their ends"


def _as_dict(outcome: IngestOutcome, run_id: str, latency: Latencies) -> dict[str, object]:
    drained, total = outcome.drained, outcome.drained.total
    return {
        "run_id": run_id,
        "ranges": [str(item) for item in drained.ranges],
        **total.by_fate(),
        "seconds": round(drained.seconds, 3),
        "fenced": [str(item) for item in drained.fenced],
        "in_doubt": [str(item) for item in drained.in_doubt],
        "lost": [str(item) for item in outcome.lost],
        "split_ms": drained.split_ms,
        "unknown_fields": drained.unknown_fields,
        **latency.numbers(),
        "replay": replay_as_dict(outcome.replayed, run_id) if outcome.replayed.planned else None,
    }


def _print_drained(drained: DrainProgress, latency: Latencies) -> None:
    total, seconds = drained.total, drained.seconds
    rate = total.stored / seconds if seconds else 0
    say(f"{counted(total.accounted, 'offset')} = {total}, in {seconds:.1f} s ({rate:,.0f} rows/s)")
    if latency.samples:
        say(f"{latency} ({counted(latency.samples, 'row')} read back)")
    for item in drained.ranges:
        say(f"  partition {item.partition}: {item.start} to {item.end}")
    for one in drained.fenced:
        say(f"fenced: {one}; this run left that partition, nothing is wrong")
    for item in drained.in_doubt:
        say(f"in doubt: {item}, cut off while it was committed; `iot ledger` says whether it was")
    if drained.split_ms:
        say(f"note: {drained.split_ms} broker milliseconds were too large (docs/guarantees.md)")


class RunLine(Watcher):
    """What every run from the command line says as it happens, on stderr.

    `latency` gathers what was measured and shown.
    """

    def __init__(self, line: ProgressLine) -> None:
        self.latency = Latencies()
        self._line = line

    def planned(self, plan: Plan) -> None:
        if plan.replay:
            ranges = ", ".join(map(str, plan.replay))
            say(f"{ranges}: below the checkpoint, so this is a replay", err=True)

    def lost(self, ranges: Sequence[OffsetRange]) -> None:
        """Say it at once: a run that stays may go on for hours."""
        for item in ranges:
            say(f"LOST: {item} was not read; it is in the ledger, `iot losses` says why", err=True)


class DrainLine(RunLine):
    """How far a drain, or a replay, is."""

    def replayed(self, progress: ReplayProgress) -> None:
        self._line.show(progress.done_offsets, sum(item.span for item in progress.planned))

    def committed(self, outcome: IngestOutcome) -> None:
        self._line.show(outcome.drained.done_offsets, outcome.drained.planned_offsets)


class FollowLine(RunLine):
    """Rates and latencies of the last seconds, one after the other."""

    def __init__(self, line: ProgressLine) -> None:
        super().__init__(line)
        self.metrics = RunMetrics()
        self._shown_at = time.monotonic()
        self._stored = 0

    def committed(self, outcome: IngestOutcome) -> None:
        self.metrics.committed(outcome)
        now = time.monotonic()
        seconds = now - self._shown_at
        if seconds < self._line.seconds_between:
            return
        recent, stored = outcome.probe.take(), outcome.drained.total.stored
        self.latency.merge(recent)
        rate = (stored - self._stored) / seconds
        self._line.show(stored, more=f"{rate:,.0f} a second, {recent}")
        self._shown_at, self._stored = now, stored
